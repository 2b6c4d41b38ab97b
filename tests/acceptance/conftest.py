"""pytest-celery's fixtures, with local processes for containers unless Docker is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import celery
import pytest
from pytest_celery import (
    CELERY_RABBITMQ_BROKER,
    CELERY_REDIS_BROKER,
    CeleryTestBroker,
    CeleryTestSetup,
    CeleryWorkerContainer,
)

from tests.support import rabbitmq
from tests.support.brokers import absent
from tests.support.localdocker.fixtures import docker_client, real_containers

__all__ = ["docker_client"]


@pytest.fixture(params=[CELERY_REDIS_BROKER])
def celery_broker(request: pytest.FixtureRequest) -> CeleryTestBroker:
    """The broker's node: Redis, unless the test asks for another one indirectly."""
    if request.param == CELERY_RABBITMQ_BROKER and not real_containers():
        missing = rabbitmq.available()
        if missing:
            absent(missing)
    return request.getfixturevalue(request.param)


@pytest.fixture
def default_worker_command(default_worker_container_cls: type[CeleryWorkerContainer]) -> list[str]:
    """The worker's command: as many pool processes everywhere, no second lost to mingle."""
    command: list[str] = default_worker_container_cls.command("--concurrency=2", "--without-mingle")
    return command


@pytest.fixture(autouse=True)
def _current_app() -> Iterator[None]:
    """Make the app current again that was current before the test made its own ones."""
    before: celery.Celery = celery.current_app._get_current_object()  # type: ignore[attr-defined]
    yield
    before.set_current()


@pytest.fixture
def celery_setup_app(
    celery_setup_cls: type[CeleryTestSetup],
    celery_setup_config: dict[str, Any],
    celery_setup_name: str,
) -> Iterator[celery.Celery]:
    """The test's own app, closed afterwards."""
    with celery_setup_cls.create_setup_app(
        celery_setup_config=celery_setup_config, celery_setup_app_name=celery_setup_name
    ) as app:
        yield app
