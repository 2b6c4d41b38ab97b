"""``celery worker --node``: what stops it before it consumes anything."""

from __future__ import annotations

import pytest

from tests.integration.deployment import Deployment
from tests.support.brokers import Broker


@pytest.fixture
def deployment(tmp_path):
    nowhere = Broker(name="none", url="redis://127.0.0.1:1/0", server=None)
    with Deployment("nodes_app", tmp_path, nowhere) as deployment:
        yield deployment


@pytest.mark.parametrize(
    ("args", "env", "expected"),
    [
        (("--node", "node9"), {}, "Known nodes: node1, node2, node3"),
        (("--crontab",), {}, "--crontab needs a node"),
        ((), {"NODEKIT_NODE": "node9"}, "Known nodes: node1, node2, node3"),
    ],
)
def test_a_wrong_node_ends_the_worker_with_code_2(deployment, args, env, expected):
    worker = deployment.run("worker", *args, **env)
    assert worker.wait() == 2
    assert expected in " ".join(worker.output().split())
