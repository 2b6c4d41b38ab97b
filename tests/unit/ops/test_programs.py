from __future__ import annotations

from typing import Any

import pytest

from celery_nodekit.config import NodeKitConfig
from celery_nodekit.exceptions import ConfigurationError, UnknownNodeError
from celery_nodekit.ops.programs import STOP_MARGIN, NodeOptions, NodePrograms, describe_node
from celery_nodekit.topology import Topology

TOPOLOGY = Topology.from_config(NodeKitConfig(nodes=["node1", "node2"]))


def describe(node: str = "node1", *, drain_timeout: float = 25.0, **options: Any) -> NodePrograms:
    return describe_node(
        TOPOLOGY, node, app="proj", drain_timeout=drain_timeout, options=NodeOptions(**options)
    )


def roles(node: NodePrograms) -> list[str]:
    return [program.role for program in node.programs]


def command(node: NodePrograms, role: str) -> str:
    (program,) = [p for p in node.programs if p.role == role]
    return " ".join(program.command)


def test_a_node_runs_workers_a_crontab_worker_beat_and_flower() -> None:
    node = describe()

    assert roles(node) == ["worker", "crontab", "beat", "flower"]
    assert [p.name for p in node.programs] == [
        "node1-worker",
        "node1-crontab",
        "node1-beat",
        "node1-flower",
    ]
    assert node.environment == {"NODEKIT_NODE": "node1"}


def test_only_the_first_node_runs_beat() -> None:
    assert "beat" in roles(describe("node1"))
    assert "beat" not in roles(describe("node2"))


def test_beat_can_be_asked_for_and_left_out() -> None:
    assert "beat" not in roles(describe("node1", beat=False))
    assert "beat" in roles(describe("node2", beat=True))


def test_flower_can_be_left_out() -> None:
    assert roles(describe("node2", flower=False)) == ["worker", "crontab"]


def test_flower_listens_on_loopback_unless_told_otherwise() -> None:
    assert command(describe(), "flower").endswith("flower --address=127.0.0.1 --port=5555")
    assert command(describe(flower_address="10.0.0.1", flower_port=80), "flower").endswith(
        "--address=10.0.0.1 --port=80"
    )


def test_a_backend_comes_first_and_is_split_into_words() -> None:
    node = describe(backend="sh -c 'a b'")

    assert roles(node)[0] == "backend"
    assert node.programs[0].command == ("sh", "-c", "a b")


def test_workers_know_their_node_and_the_crontab_worker_its_queue() -> None:
    node = describe(workers=3, concurrency=4, crontab_concurrency=1, loglevel="DEBUG")

    worker, crontab = node.programs[:2]
    assert " ".join(worker.command) == "celery -A proj worker --node node1 -l DEBUG -c 4"
    assert (worker.processes, worker.worker_name) == (3, "node1-worker")
    assert " ".join(crontab.command) == (
        "celery -A proj worker --node node1 -l DEBUG --crontab -c 1"
    )
    assert (crontab.processes, crontab.worker_name) == (None, "node1-crontab")


def test_the_environment_says_what_a_worker_is_too() -> None:
    worker, crontab = describe(flags=False).programs[:2]

    assert " ".join(worker.command) == "celery -A proj worker -l INFO"
    assert " ".join(crontab.command) == "celery -A proj worker -l INFO"
    assert worker.environment == {"NODEKIT_CRONTAB": "0"}
    assert crontab.environment == {"NODEKIT_CRONTAB": "1"}


def test_workers_and_backend_get_the_drain_timeout_rounded_up_and_a_margin() -> None:
    node = describe(drain_timeout=4.2, backend="web")

    stops = {program.role: program.stop_seconds for program in node.programs}
    assert stops["worker"] == stops["crontab"] == stops["backend"] == 5 + STOP_MARGIN
    assert stops["beat"] == stops["flower"] == 10


def test_beat_keeps_its_schedule_under_the_nodes_name() -> None:
    assert " -s node1-beat-schedule " in command(describe(), "beat")
    assert " -s /var/lib/proj/node2-beat-schedule " in command(
        describe("node2", beat=True, state_dir="/var/lib/proj/"), "beat"
    )


def test_an_unknown_node_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(UnknownNodeError, match=r"Known nodes: node1, node2"):
        describe("node3")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be 1 or more"),
        ({"concurrency": -1}, "concurrency must be 1 or more"),
        ({"flower_port": 70_000}, "port 70000"),
        ({"celery": ()}, "celery command is empty"),
        ({"environment": {"A B": "1"}}, "'A B' cannot be the name"),
        ({"environment": {"NODEKIT_NODE": "node2"}}, "programs of node1"),
        ({"backend": "'"}, "cannot be read"),
        ({"backend": " "}, "is empty"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        describe(**options)


def test_the_environment_may_repeat_the_node() -> None:
    assert describe(environment={"NODEKIT_NODE": "node1", "A": "1"}).environment == {
        "NODEKIT_NODE": "node1",
        "A": "1",
    }
