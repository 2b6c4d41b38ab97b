from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery
from flask import current_app

from celery_nodekit import Scheduler
from task_app import create_app, tasks
from task_app.extensions import kit


def test_nodes_can_be_given_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_CELERY__nodekit_nodes", '["node1", "node3", "node4"]')

    create_app()

    assert kit.nodes("all") == ["node1", "node3", "node4"]


def test_tasks_run_inside_an_app_context(celery_app: Celery) -> None:
    @celery_app.task
    def name() -> str:
        return current_app.name

    assert name.apply().get() == "task_app"


@pytest.mark.usefixtures("celery_app")
def test_add() -> None:
    assert tasks.add.apply((1, 2)).get() == 3


@pytest.mark.usefixtures("celery_app")
def test_where_says_the_node_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODEKIT_NODE", "node2")

    assert tasks.where.apply().get()["node"] == "node2"


def test_beat_accepts_every_cron_entry(celery_app: Celery, tmp_path: Path) -> None:
    scheduler = Scheduler(
        app=celery_app, schedule_filename=str(tmp_path / "celerybeat-schedule"), lazy=True
    )
    try:
        # Raises for unknown tasks and nodes, and for schedules that never fire.
        scheduler.setup_schedule()
    finally:
        scheduler.close()

    assert set(kit.registry.beat_schedule()) == {"task_app.tasks.sample_load"}
    assert set(celery_app.conf.beat_schedule) == {"report"}
