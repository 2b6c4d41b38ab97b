"""Stock Celery in pytest-celery's containers: what later tests build on works."""

from __future__ import annotations

import re

import pytest
from pytest_celery import CELERY_RABBITMQ_BROKER, CeleryTestSetup
from pytest_celery.vendors.worker.tasks import add, sleep

from tests.support.waiting import wait_until


def test_worker_runs_a_task_and_its_result_comes_back(celery_setup: CeleryTestSetup) -> None:
    # Given a setup of one worker, one broker and one backend
    assert len(celery_setup) == 3
    assert celery_setup.ready(ping=True, control=True, docker=True)

    # Then a task is run whether it is called by signature or by name
    assert add.s(1, 2).apply_async().get(timeout=10) == 3
    result = celery_setup.app.send_task("pytest_celery.vendors.worker.tasks.add", (3, 4))
    assert result.get(timeout=10) == 7


def test_logs_of_the_worker_and_of_its_servers_can_be_read(celery_setup: CeleryTestSetup) -> None:
    task_id = add.s(1, 2).apply_async().id
    logs = celery_setup.worker.logs
    wait_until(lambda: f"[{task_id}] succeeded" in logs(), 10, "The task did not succeed")

    assert f"{celery_setup.worker.hostname()} ready." in celery_setup.worker.logs()
    assert "Ready to accept connections" in celery_setup.broker.logs()
    assert celery_setup.broker.logs() != celery_setup.backend.logs()


def test_worker_answers_under_the_host_name_of_its_container(celery_setup: CeleryTestSetup) -> None:
    replies = celery_setup.app.control.ping(timeout=5, limit=1)

    assert [list(reply) for reply in replies] == [[celery_setup.worker.hostname()]]


def test_restarted_worker_runs_what_was_sent_after_it_was_killed(
    celery_setup: CeleryTestSetup,
) -> None:
    worker = celery_setup.worker

    # Given a worker that is killed
    worker.kill()
    assert worker.container.status == "exited"

    # When a task is sent and the worker starts again
    result = add.s(1, 2).apply_async()
    worker.restart()

    # Then the worker runs the task
    assert worker.container.status == "running"
    assert result.get(timeout=10) == 3


def test_worker_that_gets_sigterm_finishes_its_task(celery_setup: CeleryTestSetup) -> None:
    worker = celery_setup.worker
    result = sleep.s(1).apply_async()
    wait_until(lambda: f"[{result.id}] received" in worker.logs(), 10, "The task did not arrive")

    worker.kill("SIGTERM")

    wait_until(lambda: worker.container.status == "exited", 30, "The worker did not end")
    assert "Warm shutdown" in worker.logs()
    assert result.get(timeout=10) is True


def test_broker_comes_back_at_the_same_address(celery_setup: CeleryTestSetup) -> None:
    url = celery_setup.app.conf.broker_url

    celery_setup.broker.restart()

    assert celery_setup.app.conf.broker_url == url
    assert add.s(1, 2).apply_async().get(timeout=20) == 3


def test_command_runs_in_the_environment_of_the_worker(celery_setup: CeleryTestSetup) -> None:
    code, output = celery_setup.worker.container.exec_run(
        'python -c "import app; print(app.app.main, app.app.conf.broker_url)"'
    )

    broker_url = celery_setup.broker.config()["url"]
    assert (code, output.decode().split()) == (0, ["celery_test_app", broker_url])


@pytest.mark.parametrize("celery_broker", [CELERY_RABBITMQ_BROKER], indirect=True)
def test_worker_runs_a_task_from_rabbitmq(celery_setup: CeleryTestSetup) -> None:
    assert add.s(1, 2).apply_async().get(timeout=10) == 3
    assert re.search(r"transport:\s+amqp://", celery_setup.worker.logs())
