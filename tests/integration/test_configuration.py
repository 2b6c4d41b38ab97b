"""The configuration matrix with real processes: every way gives worker, beat and producer nodes."""

from __future__ import annotations

import pytest

from tests.integration.deployment import Deployment

WAYS = [
    "arguments",
    "init_app",
    "conf",
    "conf_over_arguments",
    "object_before",
    "object_after",
    "namespace",
    "flask",
    "auto",
]


@pytest.mark.parametrize("way", WAYS)
def test_worker_beat_and_producer_know_the_nodes(broker, tmp_path, way):
    env = {"TEST_WAY": way}
    if way == "flask":
        env["FLASK_CELERY__nodekit_nodes"] = '["node1", "node2"]'
    with Deployment("configured_app", tmp_path, broker, **env) as deployment:
        # The environment names the node in every way; only `auto` has no --node.
        worker = deployment.worker(name="worker", NODEKIT_NODE="node1")
        crontab = deployment.worker(name="crontab", NODEKIT_NODE="node1", NODEKIT_CRONTAB="1")
        worker.wait_ready()
        crontab.wait_ready()
        deployment.run("beat")
        with deployment.producer() as module:
            module.mark.apply_async(("named",), node="node1")
        assert deployment.wait_for(1, label="named")[0]["queue"] == "node1"
        ticks = deployment.wait_for(2, label="tick")
        assert {tick["queue"] for tick in ticks} == {"node1-crontab"}
        assert "consumes default, node1" in worker.output()
        assert "consumes node1-crontab" in crontab.output()
