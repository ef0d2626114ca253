"""A small server on a port of this machine that answers as the Hugging Face Hub does when a model is downloaded.

It follows our reading of huggingface_hub's source: the commit of a revision and its tree (api/models/...), and the
files (resolve), whose head has their commit, size and hash. It is not the hub, and nothing was compared with it.
"""

import contextlib
import hashlib
import http.server
import json
import pathlib
import threading
from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for one model, of `server.repository` and `server.folder`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Facts as JSON, and files."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """The head alone."""
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path, repository = self.path.partition("?")[0], self.server.repository
        if path == f"/api/models/{repository}/revision/main":
            self._send(json.dumps({"id": repository, "sha": COMMIT, "siblings": []}).encode(), with_body)
        elif path == f"/api/models/{repository}/tree/{COMMIT}":
            tree = [
                {"type": "file", "oid": _oid(file), "size": file.stat().st_size, "path": file.name}
                for file in self._files()
            ]
            self._send(json.dumps(tree).encode(), with_body)
        elif path.startswith(f"/{repository}/resolve/{COMMIT}/"):
            file = self.server.folder / path.rpartition("/")[2]
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_oid(file)}"', "Accept-Ranges": "bytes"}
            self._send(file.read_bytes(), with_body, headers, "application/octet-stream")
        else:
            self._send(
                b"{}",
                with_body,
                {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"},
                status=404,
            )

    def _files(self) -> list[pathlib.Path]:
        return sorted(self.server.folder.iterdir())

    def _send(self, body: bytes, with_body: bool, headers=None, kind="application/json", status=200) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Nothing is printed."""


def _oid(file: pathlib.Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextlib.contextmanager
def serving(repository: str, folder: pathlib.Path) -> Iterator[http.server.ThreadingHTTPServer]:
    """Serves a folder as the repository of a model; `asked` lists the requests, `server_port` is the port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.repository, server.folder, server.asked = repository, folder, []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
