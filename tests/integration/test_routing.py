"""The routing table with real workers: every kind of call, and the node on which it ran."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, chord, group

from celery_nodekit.exceptions import UnknownNodeError
from tests.integration.deployment import Deployment


@pytest.fixture(scope="module")
def deployment(shared_broker, valkey_server, tmp_path_factory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("routing")
    backend = valkey_server.url
    with Deployment("nodes_app", directory, shared_broker, backend=backend) as deployment:
        # node3 is down.
        workers = [*deployment.node("node1"), *deployment.node("node2")]
        for worker in workers:
            worker.wait_ready()
        yield deployment


@pytest.fixture(scope="module")
def proj(deployment) -> Iterator[Any]:
    with deployment.producer() as module:
        yield module


def ran_on(deployment, label, count=1):
    return sorted(r["node"] for r in deployment.wait_for(count, label=label))


CALLS = {
    "apply_async": lambda p, label: p.mark.apply_async((label,), node="node2"),
    "send_task": lambda p, label: p.app.send_task("proj.mark", (label,), node="node2"),
    "set": lambda p, label: p.mark.s(label).set(node="node2").delay(),
    "countdown": lambda p, label: p.mark.apply_async((label,), node="node2", countdown=0.5),
    "typed queue": lambda p, label: p.mark.apply_async((label,), queue=p.kit.queue("node2")),
    "rule": lambda p, label: p.routed.delay(label),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_runs_on_the_node_it_names(deployment, proj, call):
    CALLS[call](proj, call)
    (record,) = deployment.wait_for(1, label=call)
    assert (record["node"], record["queue"]) == ("node2", "node2")


def test_a_call_without_a_node_runs_anywhere(deployment, proj):
    proj.mark.delay("anywhere")
    (record,) = deployment.wait_for(1, label="anywhere")
    assert record["queue"] == "default"


def test_members_of_a_group_run_on_their_nodes(deployment, proj):
    members = group(
        proj.mark.s("member").set(node=node) for node in ("node1", "node2", "node1")
    ).apply_async()
    assert ran_on(deployment, "member", 3) == ["node1", "node1", "node2"]
    assert members.get(timeout=10) == ["member"] * 3


def test_links_of_a_chain_run_on_their_nodes(deployment, proj):
    chain(
        proj.mark.si("link").set(node="node2"),
        proj.mark.si("link").set(node="node1"),
        proj.mark.si("link").set(node="node2"),
    ).apply_async()
    records = deployment.wait_for(3, label="link")
    assert [r["node"] for r in records] == ["node2", "node1", "node2"]


def test_header_and_body_of_a_chord_run_on_their_nodes(deployment, proj):
    result = chord(
        [proj.mark.si("header").set(node="node1"), proj.mark.si("header").set(node="node2")]
    )(proj.mark.si("body").set(node="node2"))
    assert ran_on(deployment, "header", 2) == ["node1", "node2"]
    assert ran_on(deployment, "body") == ["node2"]
    assert result.get(timeout=10) == "body"


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_a_retry_stays_on_its_node(deployment, proj, node):
    proj.again.apply_async((f"retry {node}",), node=node)
    assert ran_on(deployment, f"retry {node}", 2) == [node, node]


def test_a_retry_with_a_node_moves(deployment, proj):
    proj.again.apply_async(("move",), {"node": "node1"}, node="node2")
    records = deployment.wait_for(2, label="move")
    assert [(r["node"], r["retries"]) for r in records] == [("node2", 0), ("node1", 1)]
    assert len({r["id"] for r in records}) == 1


def test_the_same_argument_runs_on_the_same_node(deployment, proj):
    for user in range(8):
        proj.by_user.delay("user", user)
        proj.by_user.delay("user", user=user)
    nodes: dict[int, set[str]] = {}
    for record in deployment.wait_for(16, label="user"):
        nodes.setdefault(record["user"], set()).add(record["node"])
    assert all(len(of_user) == 1 for of_user in nodes.values())
    assert set.union(*nodes.values()) == {"node1", "node2"}


def test_an_unknown_node_reaches_no_broker(proj):
    with pytest.raises(UnknownNodeError, match="Known nodes: node1, node2, node3"):
        proj.mark.apply_async(("never",), node="node9")


def test_a_message_for_a_node_that_is_down_waits_for_it(deployment, proj):
    proj.mark.apply_async(("patient",), node="node3")
    proj.mark.apply_async(("patient",), queue=proj.kit.queue("node3"))
    worker = deployment.worker("--node", "node3", "-Q", "slow", name="node3-worker")
    worker.wait_ready()
    assert ran_on(deployment, "patient", 2) == ["node3", "node3"]
    assert "Worker of node node3 consumes default, node3, slow" in worker.output()
    assert worker.stop() == 0


def test_workers_consume_exactly_their_queues(deployment, proj):
    queues = proj.app.control.inspect(timeout=5, limit=4).active_queues()
    assert {name: sorted(q["name"] for q in of_worker) for name, of_worker in queues.items()} == {
        "node1-worker@test": ["default", "node1"],
        "node1-crontab@test": ["node1-crontab"],
        "node2-worker@test": ["default", "node2"],
        "node2-crontab@test": ["node2-crontab"],
    }


def test_two_live_workers_of_one_name_are_noticed_and_named(deployment):
    twin = deployment.worker("--node", "node1", name="node1-worker")
    twin.wait_for_output("2 live workers are called node1-worker@test")
