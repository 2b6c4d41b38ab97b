from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from celery import Celery
from celery.signals import before_task_publish
from kombu.transport.memory import Transport


class Sent(NamedTuple):
    """One published message, as ``before_task_publish`` saw it."""

    task: str
    queue: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    declared: list[Any]
    exchange: str


@pytest.fixture
def make_app() -> Iterator[Callable[..., Celery]]:
    """Makes apps on a broker in memory; none becomes the current app."""
    apps: list[Celery] = []

    def make(name: str | None = "proj", **settings: Any) -> Celery:
        settings.setdefault("set_as_current", False)
        app = Celery(name, broker="memory://", **settings)
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()
    Transport.global_state.clear()


@pytest.fixture
def sent() -> Iterator[list[Sent]]:
    """Every message published during the test."""
    messages: list[Sent] = []

    def record(
        sender: str, headers: Any, properties: Any, declare: Any, exchange: str, **kw: Any
    ) -> None:
        messages.append(
            Sent(sender, kw["routing_key"], headers, properties, list(declare or ()), exchange)
        )

    before_task_publish.connect(record)
    yield messages
    before_task_publish.disconnect(record)
