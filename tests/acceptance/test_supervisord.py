"""A real supervisord runs what ``celery nodekit config supervisord`` prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery

from celery_nodekit.demo.server import EmbeddedServer, free_port
from tests.support.brokers import isolated
from tests.support.processes import LoggedProcess, python_path
from tests.support.waiting import wait_until

pytestmark = pytest.mark.xdist_group("supervisord")

APP = """
from celery import Celery
from celery_nodekit import NodeKit

app = Celery("proj", broker={url!r})
kit = NodeKit(app, nodes=["node1", "node2"], drain_timeout=4.5)

@kit.cron("* * * * * *", seconds="first", nodes="all")
@app.task
def tick():
    pass
"""

NAMES = {
    "node1:node1-backend",
    "node1:node1-worker-0",
    "node1:node1-worker-1",
    "node1:node1-crontab",
    "node1:node1-beat",
    "node1:node1-flower",
}


class Node:
    """Node ``node1`` under a supervisord of its own."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url
        self.backend_port = free_port()
        self.flower_port = free_port()
        (directory / "proj.py").write_text(APP.format(url=url))
        self.config = directory / "node1.conf"
        self._render()
        self.daemon = LoggedProcess(
            [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self.config)],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": python_path(directory)},
            log=directory / "supervisord.out",
        )

    def _render(self) -> None:
        celery = [sys.executable, "-m", "celery"]
        backend = f"{sys.executable} -m http.server {self.backend_port} --bind 127.0.0.1"
        subprocess.run(
            [
                *(*celery, "-A", "proj", "nodekit", "config", "supervisord", "--node", "node1"),
                *("--celery", " ".join(celery), "--concurrency", "1", "--log-dir", "."),
                *("--backend", backend, "--flower-port", str(self.flower_port)),
                *("--environment", "GREETING=50% of ;all", "--standalone", "."),
                *("--output", str(self.config)),
            ],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": python_path(self.directory)},
            check=True,
        )

    def call(self, method: str, *args: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        socket = self.directory / "supervisor.sock"
        transport = SupervisorTransport(None, None, f"unix://{socket}")
        with xmlrpc.client.ServerProxy("http://x", transport=transport) as server:
            return getattr(server.supervisor, method)(*args)

    def states(self) -> dict[str, str]:
        infos = self.call("getAllProcessInfo")
        return {f"{info['group']}:{info['name']}": info["statename"] for info in infos}

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-3000:]}" for path in self.directory.glob("*.log")
        )


@pytest.fixture(scope="module")
def node(redis_server: EmbeddedServer) -> Iterator[Node]:
    url = isolated("redis", redis_server).url
    # Sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="nk-", dir="/tmp") as directory:
        node = Node(Path(directory).resolve(), url)
        with node.daemon:
            wait_until((node.directory / "supervisor.sock").exists, 20)
            wait_until(lambda: set(node.states().values()) == {"RUNNING"}, 60, node.logs)
            # RUNNING is not ready: a worker that is still starting dies of SIGTERM.
            wait_until(lambda: node.logs().count(" ready.") == 3, 60, node.logs)
            yield node


def test_all_programs_of_the_node_run(node: Node) -> None:
    assert set(node.states()) == NAMES


def test_workers_have_the_names_and_queues_of_their_node(node: Node) -> None:
    app = Celery(broker=node.url, set_as_current=False)

    def queues() -> dict[str, list[str]]:
        answers = app.control.inspect(timeout=2, limit=3).active_queues() or {}
        return {
            worker.partition("@")[0]: sorted(queue["name"] for queue in found)
            for worker, found in answers.items()
        }

    wait_until(lambda: len(queues()) == 3, 30, node.logs)
    assert queues() == {
        "node1-worker0": ["default", "node1"],
        "node1-worker1": ["default", "node1"],
        "node1-crontab": ["node1-crontab"],
    }
    app.close()


def test_supervisord_stops_workers_as_promised(node: Node) -> None:
    infos = {info["name"]: info for info in node.call("getAllConfigInfo")}

    for name in ("node1-worker-0", "node1-worker-1", "node1-crontab"):
        assert infos[name]["stopsignal"] == 15
        assert infos[name]["stopwaitsecs"] == 15
        assert infos[name]["killasgroup"] is True
    assert infos["node1-beat"]["stopwaitsecs"] == 10


def test_every_program_knows_its_node_and_the_environment(node: Node) -> None:
    for info in node.call("getAllProcessInfo"):
        environment = psutil.Process(info["pid"]).environ()
        assert environment["NODEKIT_NODE"] == "node1"
        assert environment["GREETING"] == "50% of ;all"


def test_backend_flower_and_beat_do_their_work(node: Node) -> None:
    def get(port: int, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            body: bytes = reply.read()
        return body

    assert b"node1.conf" in get(node.backend_port, "/")
    assert get(node.flower_port, "/healthcheck") == b"OK"
    state = node.directory / "node1-beat-schedule.nodekit.json"
    assert "proj.tick" in json.loads(state.read_text())["entries"]
    assert (node.directory / "node1-worker-1.log").exists()


def test_a_stopped_worker_ends_well_and_alone(node: Node) -> None:
    name = "node1:node1-worker-1"
    worker = psutil.Process(node.call("getProcessInfo", name)["pid"])
    children = worker.children(recursive=True)

    node.call("stopProcess", name)

    assert node.call("getProcessInfo", name)["exitstatus"] == 0
    assert not [child for child in children if child.is_running()]
    assert {state for other, state in node.states().items() if other != name} == {"RUNNING"}


def test_everything_ends_with_supervisord(node: Node) -> None:
    processes = psutil.Process(node.daemon.pid).children(recursive=True)
    assert len(processes) >= len(NAMES) - 1

    assert node.daemon.stop(30) == 0

    assert not [process for process in processes if process.is_running()]
