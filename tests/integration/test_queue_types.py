"""Node queues of an app that has decided on quorum queues."""

from __future__ import annotations

from tests.integration.deployment import Deployment
from tests.support.brokers import isolated


def test_node_queues_are_quorum_queues_too(rabbitmq_server, tmp_path):
    broker = isolated("rabbitmq", rabbitmq_server)
    with Deployment("nodes_app", tmp_path, broker, TEST_QUORUM="1") as deployment:
        for process in deployment.node("node1"):
            process.wait_ready()
        with deployment.producer() as proj:
            proj.mark.apply_async(("quorum",), node="node1")
            (record,) = deployment.wait_for(1, label="quorum")
        assert record["queue"] == "node1"
        vhost = broker.url.rpartition("/")[2]
        listed = rabbitmq_server.control("list_queues", "-p", vhost, "name", "type")
        types = dict(line.split() for line in listed.splitlines() if "\t" in line)
    assert types["node1"] == types["node1-crontab"] == types["default"] == "quorum"
