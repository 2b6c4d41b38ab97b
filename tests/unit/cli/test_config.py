from __future__ import annotations

import configparser
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from celery_nodekit import NodeKit
from celery_nodekit.cli import nodekit

Run = Callable[..., Result]


@pytest.fixture
def run(make_app: Callable[..., Celery]) -> Run:
    """Runs ``celery -A proj nodekit config supervisord ...`` on an app with three nodes."""

    def invoke(*args: str, app: Any = "proj", env: Any = None, **settings: Any) -> Result:
        celery_app = make_app()
        NodeKit(celery_app, **{"nodes": ["node1", "node2", "node3"], **settings})

        @click.group()
        @click.option("-A", "--app", type=click.UNPROCESSED, default=app)
        @click.pass_context
        def celery(ctx: click.Context, /, app: Any) -> None:
            ctx.obj = CLIContext(app=celery_app, no_color=True, workdir=None)

        celery.add_command(nodekit)
        command = ["nodekit", "config", "supervisord", *args]
        return CliRunner().invoke(celery, command, env={"NODEKIT_NODE": None, **(env or {})})

    return invoke


def parse(result: Result) -> configparser.RawConfigParser:
    assert result.exit_code == 0, result.output
    parser = configparser.RawConfigParser()
    parser.read_string(result.stdout)
    return parser


def test_it_prints_a_whole_node(run: Run) -> None:
    parser = parse(run("--node", "node1", "--backend", "web --port 80", "--workers", "3"))

    programs = parser["group:node1"]["programs"].split(",")
    assert programs == [f"node1-{n}" for n in ("backend", "worker", "crontab", "beat", "flower")]
    assert parser["program:node1-worker"]["numprocs"] == "3"
    assert " -A proj worker --node node1 " in parser["program:node1-worker"]["command"]
    assert parser["program:node1-backend"]["command"] == "web --port 80"


def test_the_node_may_come_from_the_environment(run: Run) -> None:
    assert "group:node2" in parse(run(env={"NODEKIT_NODE": "node2"}))


def test_the_time_to_stop_follows_the_drain_timeout(run: Run) -> None:
    parser = parse(run("--node", "node1", drain_timeout=90.5))

    assert parser["program:node1-worker"]["stopwaitsecs"] == "101"


def test_programs_run_the_celery_beside_this_python_in_the_current_directory(run: Run) -> None:
    section = parse(run("--node", "node1"))["program:node1-worker"]

    assert section["directory"] == str(Path.cwd())
    assert section["command"].split()[0].endswith("celery")


def test_every_choice_reaches_the_file(run: Run, tmp_path: Path) -> None:
    parser = parse(
        run(
            *("--node", "node2", "--beat", "--no-flower", "--concurrency", "4"),
            *("--crontab-concurrency", "2", "--user", "www", "--directory", "/srv/proj"),
            *("--environment", "A=1", "--environment", "B=x=y", "--log-dir", "/var/log/proj"),
            *("--state-dir", "/var/lib/proj", "--loglevel", "DEBUG", "--celery", "uv run celery"),
            *("--app-path", "other:app", "--standalone", str(tmp_path)),
        )
    )

    worker = parser["program:node2-worker"]
    assert worker["command"] == (
        "uv run celery -A other:app worker --node node2 -l DEBUG -c 4"
        " -n node2-worker%(process_num)s@%%h"
    )
    assert worker["user"] == "www"
    assert worker["directory"] == "/srv/proj"
    assert worker["environment"] == 'NODEKIT_NODE="node2",A="1",B="x=y",NODEKIT_CRONTAB="0"'
    assert worker["stdout_logfile"] == "/var/log/proj/node2-worker-%(process_num)s.log"
    assert "-c 2" in parser["program:node2-crontab"]["command"]
    assert "-s /var/lib/proj/node2-beat-schedule" in parser["program:node2-beat"]["command"]
    assert "program:node2-flower" not in parser
    assert parser["unix_http_server"]["file"] == f"{tmp_path}/supervisor.sock"


def test_an_app_without_a_kit_is_told_its_node_by_the_environment(
    make_app: Callable[..., Celery],
) -> None:
    app = make_app()
    app.conf.nodekit_nodes = ["node1"]
    context = CLIContext(app=app, no_color=True, workdir=None)
    args = ["config", "supervisord", "--node", "node1", "--app-path", "proj"]

    parser = parse(CliRunner().invoke(nodekit, args, obj=context))

    assert " -A proj worker -l INFO -n " in parser["program:node1-crontab"]["command"]
    assert 'NODEKIT_CRONTAB="1"' in parser["program:node1-crontab"]["environment"]


def test_it_writes_to_a_file(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "node1.conf"

    result = run("--node", "node1", "-o", str(target))

    assert (result.exit_code, result.stdout) == (0, "")
    assert "[group:node1]" in target.read_text()


@pytest.mark.parametrize(
    ("args", "settings", "message"),
    [
        (["--node", "node9"], {}, "Unknown node 'node9'"),
        (["--node", "node9"], {}, "Known nodes: node1, node2, node3"),
        (["--node", "node1"], {"nodes": []}, "set nodekit_nodes"),
        ([], {}, "Missing option '--node'"),
        (["--node", "node1"], {"app": None}, "--app-path"),
        (["--node", "node1"], {"app": object()}, "--app-path"),
        (["--node", "node1", "--environment", "A"], {}, "KEY=VALUE, not 'A'"),
        (["--node", "node1", "--celery", "'"], {}, "cannot be read"),
        (["--node", "node1", "--workers", "0"], {}, "--workers"),
        (["--node", "node1", "--standalone", "/" + "x" * 100], {}, "too long for a socket"),
        (["--node", "node1", "-o", "/no/such/directory/x"], {}, "No such file or directory"),
    ],
)
def test_a_wrong_use_ends_with_2_and_says_why(
    run: Run, args: list[str], settings: dict[str, Any], message: str
) -> None:
    result = run(*args, **settings)

    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_the_help_says_when_beat_runs_and_what_flower_shows(run: Run) -> None:
    text = " ".join(run("--help").stdout.split())

    assert "Every beat publishes every cron entry" in text
    assert "It shows tasks and their arguments to whoever connects" in text


def test_an_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(nodekit, ["nonsense"]).exit_code == 2


def test_the_plug_in_imports_click_and_nothing_heavy() -> None:
    code = (
        "import sys; import celery_nodekit.cli; heavy = {'celery', 'kombu', 'redis', 'croniter',"
        " 'celery_nodekit.ops'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
