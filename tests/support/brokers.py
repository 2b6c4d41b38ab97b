"""Which brokers the tests run with, and how a test is kept from seeing another's messages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NoReturn

import pytest
import redis

from celery_nodekit.demo.server import EmbeddedServer
from tests.support.rabbitmq import RabbitServer

__all__ = ["BROKERS", "Broker", "absent", "broker_names", "isolated"]

#: Every broker the whole suite is run with.
BROKERS = ("valkey", "redis", "rabbitmq")


@dataclass(frozen=True, kw_only=True, slots=True)
class Broker:
    """A running broker that holds nothing yet."""

    #: One of :data:`BROKERS`.
    name: str
    #: What ``broker_url`` is set to.
    url: str
    #: The process behind it. A test may stop, kill and start it; the next one finds it running.
    server: EmbeddedServer | RabbitServer

    @property
    def is_amqp(self) -> bool:
        """Whether it is RabbitMQ and not a Redis."""
        return self.name == "rabbitmq"


def broker_names() -> list[str]:
    """Return the brokers to test with: all, or those in ``NODEKIT_TEST_BROKERS`` outside CI.

    Raises:
        pytest.UsageError: the variable names a broker that does not exist.
    """
    chosen = os.environ.get("NODEKIT_TEST_BROKERS")
    if not chosen or os.environ.get("CI"):
        return list(BROKERS)
    names = [name.strip() for name in chosen.split(",")]
    unknown = sorted(set(names) - set(BROKERS))
    if unknown:
        raise pytest.UsageError(f"NODEKIT_TEST_BROKERS: {unknown} not in {list(BROKERS)}.")
    return names


def absent(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI, where every server has to be there."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def isolated(name: str, server: EmbeddedServer | RabbitServer) -> Broker:
    """Return the server as a broker without queues, keys or messages; start it if it is down."""
    server.start()
    if isinstance(server, RabbitServer):
        return Broker(name=name, url=server.vhost(), server=server)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return Broker(name=name, url=server.url, server=server)
