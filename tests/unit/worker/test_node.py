from __future__ import annotations

from types import SimpleNamespace

import click
import pytest
from celery.signals import celeryd_after_setup, celeryd_init
from click.testing import CliRunner

from celery_nodekit import NodeKit

NODES = ["node1", "node2"]


@pytest.fixture
def app(make_app, monkeypatch):
    for name in ("NODEKIT_NODE", "NODEKIT_CRONTAB"):
        monkeypatch.delenv(name, raising=False)
    app = make_app()
    NodeKit(app, nodes=NODES)
    return app


def start(app, **options):
    """Go through a worker's start as far as queues matter, as celery.apps.worker does."""
    instance = SimpleNamespace(app=app, hostname="w@host")
    celeryd_init.send(sender="w@host", instance=instance, conf=app.conf, options=options)
    queues = app.amqp.queues
    queues.select(options.get("queues"))
    queues.deselect(options.get("exclude_queues"))
    celeryd_after_setup.send(sender="w@host", instance=instance, conf=app.conf)
    return sorted(queues.consume_from)


def test_a_worker_of_a_node_consumes_the_default_queue_and_its_own(app):
    assert start(app, nodekit_node="node2") == ["default", "node2"]


def test_a_crontab_worker_consumes_its_crontab_queue_only(app):
    assert start(app, nodekit_node="node2", nodekit_crontab=True) == ["node2-crontab"]


def test_a_worker_without_a_node_consumes_the_default_queue(app):
    assert start(app) == ["default"]


@pytest.mark.parametrize("queues", ["slow", ["slow", "fast"], "slow,fast"])
def test_queues_of_the_command_line_come_on_top(app, queues):
    given = queues.split(",") if isinstance(queues, str) else queues
    expected = sorted([*given, "default", "node1"])
    assert start(app, nodekit_node="node1", queues=given) == expected


def test_excluded_queues_stay_excluded(app):
    assert start(app, nodekit_node="node1", exclude_queues=["default"]) == ["node1"]


def test_the_environment_names_node_and_kind(app, monkeypatch):
    monkeypatch.setenv("NODEKIT_NODE", "node1")
    assert start(app) == ["default", "node1"]
    monkeypatch.setenv("NODEKIT_CRONTAB", "1")
    assert start(app) == ["node1-crontab"]
    monkeypatch.setenv("NODEKIT_CRONTAB", "no")
    assert start(app) == ["default", "node1"]


def test_tasks_can_ask_which_node_they_run_on(app):
    start(app, nodekit_node="node2")
    assert app.nodekit.node == "node2"


def test_the_direct_queue_of_a_worker_stays(app):
    app.conf.worker_direct = True
    assert start(app, nodekit_node="node1") == ["default", "node1", "w@host.dq2"]


def test_the_default_queue_is_the_one_of_the_app(make_app):
    app = make_app(task_default_queue="celery")
    NodeKit(app, nodes=NODES)
    assert start(app, nodekit_node="node1") == ["celery", "node1"]


def test_workers_of_other_apps_are_left_alone(app, make_app):
    assert start(make_app(), nodekit_node="node1") == ["celery"]


@pytest.mark.parametrize(
    ("options", "settings", "expected"),
    [
        ({"nodekit_node": "node9"}, {}, "Unknown node 'node9'"),
        ({"nodekit_crontab": True}, {}, "--crontab needs a node"),
        ({}, {"nodekit_routes": {"t": "node9"}}, r"nodekit_routes['t']"),
        ({}, {"nodekit_noeds": []}, "nodekit_noeds"),
    ],
)
def test_a_wrong_start_ends_the_worker_with_code_2_and_the_reason(
    app, options, settings, expected, capsys
):
    app.conf.update(settings)
    with pytest.raises(SystemExit) as caught:
        start(app, **options)
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err


def test_a_kind_that_is_neither_yes_nor_no_is_an_error(app, monkeypatch, capsys):
    monkeypatch.setenv("NODEKIT_CRONTAB", "maybe")
    with pytest.raises(SystemExit):
        start(app, nodekit_node="node1")
    assert "NODEKIT_CRONTAB must be 1 or 0, not 'maybe'" in capsys.readouterr().err


class TestOptions:
    @pytest.fixture
    def invoke(self, app):
        seen = {}

        def command(**options):
            seen.update(options)

        worker = click.Command("worker", callback=command, params=[*app.user_options["worker"]])

        def run(*args, **env):
            result = CliRunner().invoke(worker, args, env=env)
            return result.exit_code, result.output, seen

        return run

    def test_the_node_is_given_by_name(self, invoke):
        code, _output, seen = invoke("--node", "node1", "--crontab")
        assert (code, seen) == (0, {"nodekit_node": "node1", "nodekit_crontab": True})

    def test_nothing_is_given_by_default(self, invoke):
        code, _output, seen = invoke()
        assert (code, seen) == (0, {"nodekit_node": None, "nodekit_crontab": None})

    def test_the_environment_gives_both(self, invoke):
        _code, _output, seen = invoke(NODEKIT_NODE="node2", NODEKIT_CRONTAB="1")
        assert seen == {"nodekit_node": "node2", "nodekit_crontab": True}

    def test_an_unknown_node_ends_the_command_with_code_2_and_the_known_ones(self, invoke):
        code, output, _seen = invoke("--node", "node9")
        assert code == 2
        assert "Known nodes: node1, node2" in " ".join(output.split())

    def test_the_help_teaches_both(self, invoke):
        _code, output, _seen = invoke("--help")
        assert "--node" in output
        assert "--crontab" in output
