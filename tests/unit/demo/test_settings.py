from __future__ import annotations

from pathlib import Path

import pytest

from celery_nodekit.demo.settings import DemoSettings, clean_environment
from celery_nodekit.demo.tasks import make_app

SETTINGS = DemoSettings(
    broker="redis://127.0.0.1:1/0",
    nodes=("node1", "node2", "node3"),
    records=Path("/records"),
    prefix="nkdemo-1-",
)


def test_settings_survive_the_environment() -> None:
    assert DemoSettings.from_environment(SETTINGS.to_environment()) == SETTINGS


def test_an_app_outside_a_demo_says_how_to_start_one() -> None:
    with pytest.raises(RuntimeError, match="celery-nodekit demo"):
        DemoSettings.from_environment({})


def test_one_entry_is_for_all_nodes_and_one_for_two() -> None:
    assert [entry.nodes for entry in SETTINGS.entries] == [
        ("node1", "node2", "node3"),
        ("node2", "node3"),
    ]


def test_what_leads_to_another_broker_or_app_is_taken_out_of_the_environment() -> None:
    foreign = {
        "CELERY_BROKER_URL": "x",
        "BROKER_URL": "x",
        "RESULT_BACKEND": "x",
        "RESULT_BACKEND_URL": "x",
        "APP": "x",
        "LOADER": "x",
        "CONFIG_MODULE": "x",
        "NODEKIT_NODE": "x",
        "DJANGO_SETTINGS_MODULE": "x",
    }

    assert clean_environment({**foreign, "PATH": "/bin", "HOME": "/home/me"}) == {
        "PATH": "/bin",
        "HOME": "/home/me",
    }


def test_the_app_uses_no_name_without_the_prefix() -> None:
    app = make_app(SETTINGS)

    assert set(app.amqp.queues) == set(SETTINGS.queues)
    assert app.conf.control_exchange == "nkdemo-1-celery"
    assert app.conf.event_exchange == "nkdemo-1-celeryev"
    assert app.conf.broker_transport_options["global_keyprefix"] == "nkdemo-1-"
    assert app.nodekit.crontab_queue("node2") == SETTINGS.crontab_queue("node2")
    app.close()


def test_the_cron_entries_are_those_that_are_judged() -> None:
    app = make_app(SETTINGS)

    schedule = app.conf.beat_schedule
    assert set(schedule) == {entry.name for entry in SETTINGS.entries}
    assert [schedule[e.name]["options"]["nodes"] for e in SETTINGS.entries] == [
        "all",
        ["node2", "node3"],
    ]
    app.close()
