"""Serves the page: on this machine alone unless told otherwise, without a request to any other host."""

import contextlib
import ipaddress
import os
import tempfile
from collections.abc import Iterator
from unittest import mock

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pixelvae_tf.export.explore import page, uploads
from pixelvae_tf.export.explore.explored_model import ExploredModel
from pixelvae_tf.export.explore.preparation import Preparation

# The browser itself refuses whatever the page, or a part of Gradio, would ask of another host.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)


class _Policy:
    """Adds the policy to every answer."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        async def with_policy(message):
            if message["type"] == "http.response.start":
                headers = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        await self._app(scope, receive, with_policy)


def is_loopback(host: str) -> bool:
    """Whether an address is that of this machine alone."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


@contextlib.contextmanager
def served(
    model: ExploredModel, preparation: Preparation, host: str = "127.0.0.1", port: int | None = None
) -> Iterator[str]:
    """Serves the page of a model while the code inside runs; what was uploaded is gone at its end.

    Args:
      model: what the page is of.
      preparation: of the model; started.
      host: the address to listen on.
      port: None for a free one.

    Yields:
      The page's address.

    Raises:
      OSError: if the port is not free.
    """
    if ":" in host:  # an IPv6 address, which stands in brackets in that of the page
        host = f"[{host.strip('[]')}]"
    # Another website whose name leads to this machine must not read the page.
    hosts = ["localhost", host] if is_loopback(host) else ["*"]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(_Policy)]
    proxies = {
        name: ",".join(filter(None, [os.environ.get(name), "localhost,127.0.0.1"])) for name in ("NO_PROXY", "no_proxy")
    }
    with tempfile.TemporaryDirectory(prefix="pixelvae-explore-") as folder:
        # Gradio is told by the environment where it keeps uploads, and to tell nobody of them.
        settings = {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_SHARE": "False", **proxies}
        with mock.patch.dict(os.environ, settings):
            blocks = page.build(model, preparation)
            preparation.start()
            _, address, _ = blocks.launch(
                server_name=host,
                server_port=port,
                share=False,
                quiet=True,
                inline=False,
                prevent_thread_lock=True,
                footer_links=[],
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                run_history=False,
                enable_monitoring=False,
                max_file_size=uploads.MAX_BYTES,
                app_kwargs={"middleware": middleware, "docs_url": None, "redoc_url": None},
                **page.look(),
            )
            try:
                yield address
            finally:
                blocks.close(verbose=False)
