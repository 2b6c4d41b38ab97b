"""The application with real processes and a real Redis.

EXAMPLE_REDIS_URL names it; the database must be empty, and is emptied after each test.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from flask.testing import FlaskClient
from redis import Redis

from task_app import create_app

HERE = Path(__file__).parents[1]
#: Read before any fixture clears the environment.
REDIS_URL = os.environ.get("EXAMPLE_REDIS_URL")

pytestmark = [
    pytest.mark.skipif(REDIS_URL is None, reason="EXAMPLE_REDIS_URL names no Redis"),
    pytest.mark.usefixtures("redis"),
]

_Found = TypeVar("_Found")


def eventually(look: Callable[[], _Found], seconds: float = 60.0) -> _Found:
    """Return what ``look`` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"nothing found within {seconds} s"
        time.sleep(0.1)
    return found


class Processes:
    """Celery processes of one test, stopped with it."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self._environment = environment
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *arguments: str) -> Path:
        """Start ``celery -A make_celery ARGUMENTS`` and return its log."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "make_celery", *arguments],
                cwd=HERE,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._running.append(process)
        return log

    def worker(self, name: str, *arguments: str) -> Path:
        """Start a worker and wait until it is ready."""
        log = self.start(
            name, "worker", "-n", f"{name}@%h", "-l", "INFO", "-c", "1", "-P", "solo", *arguments
        )
        eventually(lambda: re.search(r"@\S+ ready\.", log.read_text()))
        return log

    def stop(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            _wait_or_kill(process)


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis.from_url(str(REDIS_URL), decode_responses=True) as redis:
        assert redis.dbsize() == 0, "EXAMPLE_REDIS_URL must name an empty database"
        yield redis
        redis.flushdb()


@pytest.fixture
def settings() -> dict[str, str]:
    return {
        "FLASK_CELERY__broker_url": str(REDIS_URL),
        "FLASK_CELERY__result_backend": str(REDIS_URL),
        "FLASK_CELERY__nodekit_nodes": '["node1", "node2", "node3"]',
    }


@pytest.fixture
def processes(settings: dict[str, str], tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path, {**os.environ, **settings})
    yield processes
    processes.stop()


@pytest.fixture
def client(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    app = create_app()
    yield app.test_client()
    celery_app = app.extensions["celery"]
    celery_app.backend.client.close()
    celery_app.close()


def test_tasks_run_where_they_were_sent(client: FlaskClient, processes: Processes) -> None:
    processes.worker("node1-worker", "--node", "node1")

    def start(**body: object) -> str:
        answer = client.post("/tasks", json=body)
        assert answer.status_code == 202
        return answer.json["url"]

    def value(url: str) -> object:
        answer = eventually(
            lambda: (a := client.get(url).json)["state"] in ("SUCCESS", "FAILURE") and a
        )
        assert answer["state"] == "SUCCESS"
        return answer["value"]

    assert value(start(task="add", args=[1, 2])) == 3
    assert value(start(task="where", node="node1"))["node"] == "node1"

    # node2 is down, so its task waits.
    waiting = start(task="where", node="node2")
    assert value(start(task="add", args=[3, 4])) == 7
    assert client.get(waiting).json["state"] == "PENDING"

    processes.worker("node2-worker", "--node", "node2")
    assert value(waiting)["node"] == "node2"


def test_every_node_gets_every_occurrence(redis: Redis, processes: Processes) -> None:
    log = processes.worker("node1-crontab", "--node", "node1", "--crontab")

    processes.start("beat", "beat", "-l", "INFO", "-s", str(processes.directory / "schedule"))

    # node1 runs its copy; those of the nodes that are down wait for them.
    eventually(lambda: "load of node1" in log.read_text())
    eventually(lambda: redis.llen("node2-crontab") and redis.llen("node3-crontab"))
    eventually(lambda: not redis.llen("node1-crontab"))
