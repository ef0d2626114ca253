"""TF_CONFIG: what says which worker of which a process is, checked before TensorFlow waits for the others."""

import json
import re

import pytest

from pixelvae_tf.train import launch, workers

GOOD = ["a:1", "b:1"]
TASK = {"type": "worker", "index": 0}


def _config(addresses, task=TASK, **more):
    return json.dumps({"cluster": {"worker": addresses}, "task": task, **more})


@pytest.mark.parametrize(
    "text",
    [
        _config(["localhost:1234"]),
        _config(["host-0.example_1:1", "10.0.0.1:65535", "[2001:db8::1]:2222"], rpc_layer="grpc", environment="cloud"),
        _config(["localhost:1", "localhost:2"], {"type": "worker", "index": 1}),
        *map(json.dumps, launch.cluster(3)),
    ],
)
def test_a_good_cluster_passes(text):
    workers.check_cluster(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[]", "it must be a JSON object"),
        ("null", "it must be a JSON object"),
        (json.dumps({"cluster": {"worker": GOOD}, "task": None}), "cluster and task must be JSON objects"),
        ("[" * 10_000, "recursion"),
        ("{}", "cluster must be given"),
        (json.dumps({"cluster": {"worker": GOOD}}), "task must be given"),
        (json.dumps({"cluster": {"worker": GOOD, "chief": ["c:1"]}, "task": TASK}), "of workers alone"),
        (json.dumps({"cluster": GOOD, "task": TASK}), "cluster and task must be JSON objects"),
        (_config(GOOD, {"type": "chief", "index": 0}), "of workers alone"),
        (_config(GOOD, {"type": "worker"}), "index must be given"),
        (_config(GOOD, rpc_layer="http"), "rpc_layer must be grpc"),
        (_config("localhost:1234"), "worker must be a list"),
        (_config({"0": "localhost:1234"}), "worker must be a list"),
        (_config(None), "worker must be a list"),
        (_config([]), "worker must be a list of addresses"),
        *((_config(GOOD, {"type": "worker", "index": index}), "in 0..1") for index in (-1, 2, "0", 0.0, True, None)),
        *(
            (_config([address, "other:1"]), "every worker must be host:port")
            for address in (
                *("localhost", "localhost:", ":1234", "localhost:0", "localhost:65536", "localhost:-1", "[::1]"),
                *(
                    "localhost:port",
                    "http://localhost:1",
                    "local host:1",
                    "localhost:1 ",
                    "::1:1234",
                    "localhost:٣",
                    "",
                ),
                *("a:1,b:2", "localhost:" + "1" * 400),
            )
        ),
        *(
            (_config([address, "other:1"]), "every worker must be host:port")
            for address in (1234, None, ["b:1"], {"a": 1})
        ),
        *(
            (_config([*pair, "other:1"]), "every worker must have an address of its own")
            for pair in (
                ("localhost:1234", "localhost:1234"),
                ("LOCALHOST:1234", "localhost:01234"),
                ("localhost:1234", "127.0.0.1:1234"),
                ("localhost:1234", "127.1:1234"),
                ("[::ffff:10.0.0.1]:1", "10.0.0.1:1"),
                ("host.example:1", "host.example.:1"),
                ("0.0.0.0:1234", "[::1]:1234"),
                ("[2001:db8::1]:1", "[2001:DB8:0::1]:1"),
            )
        ),
    ],
)
def test_a_bad_cluster_is_refused_with_the_reason(text, reason):
    with pytest.raises(ValueError, match="strategy multi_worker needs TF_CONFIG") as refused:
        workers.check_cluster(text)
    assert re.search(rf"Received: TF_CONFIG='.*: .*{re.escape(reason)}", str(refused.value))
