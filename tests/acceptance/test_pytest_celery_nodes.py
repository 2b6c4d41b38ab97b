"""Nodes through pytest-celery's public fixtures: one worker of node1, a broker and a backend."""

from __future__ import annotations

from types import ModuleType

import pytest
from pytest_celery import CELERY_RABBITMQ_BROKER, CELERY_REDIS_BROKER, CeleryTestSetup
from pytest_celery.vendors.worker.tasks import add

from celery_nodekit import NodeKit
from tests.acceptance import nodes_worker_app

BROKERS = pytest.mark.parametrize(
    "celery_broker", [CELERY_REDIS_BROKER, CELERY_RABBITMQ_BROKER], indirect=True
)


@pytest.fixture
def default_worker_app_module() -> ModuleType:
    return nodes_worker_app


@pytest.fixture
def default_worker_env(default_worker_env: dict[str, str]) -> dict[str, str]:
    return {**default_worker_env, "NODEKIT_NODE": "node1"}


@pytest.fixture
def kit(celery_setup: CeleryTestSetup) -> NodeKit:
    return NodeKit(celery_setup.app, nodes=["node1", "node2"])


@BROKERS
def test_a_call_to_a_node_comes_back_with_its_result(
    celery_setup: CeleryTestSetup, kit: NodeKit
) -> None:
    here = celery_setup.app.send_task(add.name, (1, 2), node="node1")
    elsewhere = celery_setup.app.send_task(add.name, (3, 4), node="node2")
    assert here.get(timeout=20) == 3
    assert "consumes celery, default, node1" in celery_setup.worker.logs()
    assert not elsewhere.ready()


@BROKERS
def test_a_node_that_was_killed_gets_what_was_sent_meanwhile(
    celery_setup: CeleryTestSetup, kit: NodeKit
) -> None:
    worker = celery_setup.worker
    worker.kill()
    result = celery_setup.app.send_task(add.name, (1, 2), queue=kit.queue("node1"))
    worker.restart()
    assert result.get(timeout=20) == 3
