from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from celery import Celery
from flask import Flask
from flask.testing import FlaskClient

from task_app import create_app


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("FLASK_", "NODEKIT_", "CELERY_")):
            monkeypatch.delenv(name)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Flask:
    """The application with a broker and a result backend in this process's memory."""
    monkeypatch.setenv("FLASK_CELERY__broker_url", "memory://")
    monkeypatch.setenv("FLASK_CELERY__result_backend", "cache+memory://")
    return create_app()


@pytest.fixture
def celery_app(app: Flask) -> Iterator[Celery]:
    celery_app: Celery = app.extensions["celery"]
    yield celery_app
    with celery_app.connection_for_write() as connection:
        for queue in celery_app.amqp.queues:
            connection.default_channel.queue_purge(queue)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
