"""``celery-nodekit demo``, run for a few seconds."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from celery_nodekit.demo import brokers
from celery_nodekit.demo.server import EmbeddedServer
from celery_nodekit.demo.settings import DemoSettings
from celery_nodekit.demo.tasks import WORK, make_app
from tests.support.brokers import isolated
from tests.support.processes import python_path
from tests.support.rabbitmq import RabbitServer
from tests.support.waiting import wait_until

COMMAND = [sys.executable, "-c", "from celery_nodekit.demo.command import main; main()", "demo"]


@contextlib.contextmanager
def demo(directory: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A running demo whose temporary files are in ``directory``; ends with the block."""
    process = subprocess.Popen(
        [*COMMAND, *args],
        env={**os.environ, "TMPDIR": str(directory), "PYTHONPATH": python_path()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        with process:
            yield process
    finally:
        if process.poll() is None:
            process.kill()


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def check_report(report: dict[str, Any], nodes: Sequence[str]) -> None:
    assert report["ok"] is True
    assert report["submitted"] == report["finished"] > 5
    assert (report["lost"], report["duplicated"], report["astray"]) == (0, 0, 0)
    assert report["left_over"] == 0
    assert set(report["cron"]["every-node"]) == set(nodes)
    assert set(report["cron"]["two-nodes"]) == set(nodes[-2:])
    for cells in report["cron"].values():
        for cell in cells.values():
            assert cell["due"] == cell["published"] == cell["ran"] > 1
            assert cell["missing"] == cell["duplicated"] == []
    assert list(report["crontab_queues"]) == [f"{node}-crontab" for node in nodes]
    assert all(len(workers) == 1 for workers in report["crontab_queues"].values())
    (incident,) = report["incidents"]
    assert incident["running"] >= 1
    assert incident["finished_there"] == incident["running"]
    assert incident["exit_code"] == 0


def everything_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until a demo with one node is at work; return all processes that it started."""

    def found() -> list[psutil.Process]:
        # A server, supervisord, a worker with two pool processes, a crontab worker with one, beat.
        children = psutil.Process(process.pid).children(recursive=True)
        return children if len(children) >= 8 else []

    return wait_until(found, 60)


def test_a_short_run_loses_nothing_and_misses_no_tick(tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", "8", "--json") as process:
        check_report(finish(process), ["node1", "node2", "node3"])

    assert list(tmp_path.iterdir()) == []


def test_a_run_on_an_existing_redis_leaves_nothing_there(
    tmp_path: Path, redis_server: EmbeddedServer
) -> None:
    url = isolated("redis", redis_server).url
    with redis.Redis.from_url(url, decode_responses=True) as client:
        client.rpush("default", "somebody's message")

        with demo(tmp_path, "--seconds", "5", "--nodes", "1", "--json", "--broker", url) as process:
            wait_until(lambda: client.keys("nkdemo-*"), 60, interval=0.2)
            check_report(finish(process), ["node1"])

        assert client.keys("*") == ["default"]
        assert client.llen("default") == 1
        assert client.pubsub_channels() == []


def test_queues_and_exchanges_on_an_existing_rabbitmq_are_removed(
    tmp_path: Path, rabbitmq_server: RabbitServer
) -> None:
    url = isolated("rabbitmq", rabbitmq_server).url
    vhost = url.rpartition("/")[2]

    def names(what: str) -> set[str]:
        listed = rabbitmq_server.control("-p", vhost, what, "name").split()
        return {name for name in listed if name.startswith("nkdemo")}

    settings = DemoSettings(
        broker=url, nodes=("node1", "node2"), records=tmp_path, prefix="nkdemo-x-"
    )
    app = make_app(settings)
    for node in (None, *settings.nodes):
        app.tasks[WORK].apply_async((1.0,), node=node)
    assert names("list_queues") == {f"nkdemo-x-{name}" for name in ("default", "node1", "node2")}
    assert brokers.look(app, settings, workers=1, timeout=0.1).waiting == {
        "nkdemo-x-default": 1,
        "nkdemo-x-node1": 1,
        "nkdemo-x-node1-crontab": 0,
        "nkdemo-x-node2": 1,
        "nkdemo-x-node2-crontab": 0,
    }

    brokers.forget(app, settings)

    assert names("list_queues") == set()
    assert names("list_exchanges") == set()
    app.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    with demo(tmp_path, "--nodes", "1", "--json") as process:
        started = everything_of(process)
        ports = {
            connection.laddr.port
            for child in started
            for connection in child.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert len(ports) == 1

        process.send_signal(number)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 4
    assert out == ""
    assert err.endswith(f"Error: Stopped by {number.name}.\n")
    assert not [child for child in started if child.is_running()]
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", ports.pop())) != 0
    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_is_not_there_ends_the_command_with_5(tmp_path: Path) -> None:
    with demo(tmp_path, "--broker", "redis://:secret@127.0.0.1:1/0") as process:
        out, err = process.communicate(timeout=60)

    assert process.returncode == 5
    assert "127.0.0.1:1/0 cannot be used" in err
    assert "secret" not in err + out
