"""The servers and processes that all other tests stand on do what they say."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from kombu import Connection

from celery_nodekit.demo import server as server_module
from celery_nodekit.demo.server import EmbeddedServer, ServerStartError, bundled_server
from tests.support import rabbitmq
from tests.support.brokers import Broker, absent, isolated
from tests.support.processes import CeleryProcess, is_gone
from tests.support.rabbitmq import RabbitServer
from tests.support.waiting import wait_until

APP = """
import os
from celery import Celery
app = Celery("example", broker=os.environ["BROKER_URL"])
app.conf.beat_schedule = {"tick": {"task": "example.greet", "schedule": 0.1}}
@app.task(name="example.greet")
def greet():
    print(f"hello from {os.getpid()}")
"""

#: Mingle waits a second for the answers of other workers.
WORKER = ("--concurrency=1", "--without-mingle")

Server = EmbeddedServer | RabbitServer


@pytest.fixture(params=["valkey", "redis", "rabbitmq"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own that was not started yet."""
    if request.param == "rabbitmq":
        missing = rabbitmq.available()
        if missing:
            absent(missing)
        made: Server = RabbitServer(tmp_path / "server")
    else:
        binary = bundled_server() if request.param == "valkey" else shutil.which("redis-server")
        if binary is None:
            absent(f"The server of {request.param} is not installed")
        made = EmbeddedServer(tmp_path / "server", binary=binary, append_only=True)
    yield made
    made.stop()


def _connection(url: str) -> Connection:
    # A RabbitMQ that is killed has kept what it has confirmed.
    options = {"confirm_publish": True} if url.startswith("amqp") else {}
    return Connection(url, transport_options=options)


def _pids(server: Server) -> list[int]:
    return [server.pid, server.epmd_pid] if isinstance(server, RabbitServer) else [server.pid]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_server_answers_and_comes_back_on_its_port_with_its_messages(
    server: Server, end: str
) -> None:
    # Given a server that holds a message
    server.start()
    url, pids = server.url, _pids(server)
    with _connection(url) as connection, connection.SimpleQueue("kept") as queue:
        queue.put("message")

    # When it ends, then nothing of it is left
    getattr(server, end)()
    assert not server.running
    assert all(is_gone(pid) for pid in pids)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)

    # And when it starts again, then it is another process with the same address and message
    server.start()
    assert server.url == url
    assert not set(pids) & set(_pids(server))
    with _connection(url) as connection, connection.SimpleQueue("kept") as queue:
        assert queue.get(timeout=5).payload == "message"


def test_starting_and_ending_twice_is_the_same_as_once(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "a directory")
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid

    server.stop()
    server.stop()
    server.kill()
    assert not server.running


def test_server_that_does_not_react_to_sigterm_is_killed(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        os.kill(server.pid, signal.SIGSTOP)
        server.stop(timeout=0.1)

        assert is_gone(server.pid)


def test_server_evicts_nothing_and_listens_on_the_loopback_only(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        config = client.config_get("*")

    assert config["maxmemory-policy"] == "noeviction"
    assert config["bind"] == "127.0.0.1"
    assert config["save"] == ""


def test_server_takes_another_port_when_its_first_one_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedServer(tmp_path / "first") as first:
        ports = iter([first.port, server_module.free_port()])
        monkeypatch.setattr(server_module, "free_port", lambda: next(ports))

        with EmbeddedServer(tmp_path / "second") as second:
            assert second.port != first.port
            assert second.pid != first.pid


def test_port_that_is_lost_over_a_restart_is_an_error_with_the_log(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        server.stop()
        with socket.create_server(("127.0.0.1", server.port)):
            with pytest.raises(ServerStartError, match="Address already in use"):
                server.start()
            assert not server.running


def test_program_that_is_no_server_is_an_error_with_its_output(tmp_path: Path) -> None:
    program = tmp_path / "broken-server"
    program.write_text("#!/bin/sh\necho no such luck\n")
    program.chmod(0o755)

    with pytest.raises(ServerStartError, match="no such luck"):
        EmbeddedServer(tmp_path, binary=str(program)).start()


@pytest.mark.parametrize("turn", ["first", "second"])
def test_broker_shows_a_test_nothing_of_another_test(broker: Broker, turn: str) -> None:
    with _connection(broker.url) as connection, connection.SimpleQueue("shared") as queue:
        queue.put(turn)
        queue.put(turn)

        assert queue.get(timeout=5).payload == turn


@pytest.mark.parametrize("turn", ["first", "second"])
def test_broker_is_running_again_after_a_test_that_killed_it(broker: Broker, turn: str) -> None:
    assert broker.server.running
    assert broker.is_amqp == broker.url.startswith("amqp://")

    broker.server.kill()


@pytest.fixture
def celery(tmp_path: Path, valkey_server: EmbeddedServer) -> Callable[..., CeleryProcess]:
    """Return a function that makes a Celery command with an app on the broker."""
    (tmp_path / "example.py").write_text(APP)
    env = {"BROKER_URL": isolated("valkey", valkey_server).url}

    def make(*args: str) -> CeleryProcess:
        return CeleryProcess("example", *args, cwd=tmp_path, env=env)

    return make


def test_worker_and_beat_run_until_they_are_stopped(celery: Callable[..., CeleryProcess]) -> None:
    with celery("worker", *WORKER) as worker, celery("beat") as beat:
        worker.wait_ready()
        beat.wait_ready()
        pid = int(worker.wait_for_output(r"hello from (\d+)")[1])

        assert beat.stop() == 0
        assert worker.stop() == 0

    assert pid != worker.pid
    assert all(is_gone(process) for process in (pid, worker.pid, beat.pid))


def test_killed_worker_takes_its_children_along_and_can_be_started_again(
    celery: Callable[..., CeleryProcess],
) -> None:
    with celery("worker", *WORKER) as worker, celery("beat"):
        # Given a worker with a child that runs tasks
        child = int(worker.wait_for_output(r"hello from (\d+)")[1])

        # When it is killed, then the child ends as well
        worker.kill()
        assert worker.exit_code == -signal.SIGKILL
        wait_until(lambda: is_gone(child), 10, f"The child {child} is left")

        # And when it starts again, then it has another child
        worker.start()
        worker.wait_ready()
        assert int(worker.wait_for_output(r"hello from (\d+)")[1]) != child


def test_process_that_ends_early_is_reported_with_its_output(tmp_path: Path) -> None:
    with CeleryProcess("no_such_app", "worker", cwd=tmp_path) as worker:
        with pytest.raises(AssertionError, match=r"ended before it printed(.|\n)*no_such_app"):
            worker.wait_ready()

        assert worker.wait() != 0


def test_wait_until_says_what_it_waited_for_and_what_it_saw() -> None:
    with pytest.raises(AssertionError, match=r"Nothing came \(waited 0 s, last value \[\]\)"):
        wait_until(list, 0, "Nothing came")
