from __future__ import annotations

import configparser
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celery_nodekit.config import NodeKitConfig
from celery_nodekit.exceptions import ConfigurationError
from celery_nodekit.ops.programs import NodeOptions, NodePrograms, describe_node
from celery_nodekit.ops.supervisord import Daemon, render_daemon, render_node
from celery_nodekit.topology import Topology

TOPOLOGY = Topology.from_config(NodeKitConfig(nodes=["node1", "node2"]))
#: What a configuration file of supervisord easily gets wrong.
HARD_WORDS = [
    "a b",
    "a ;b",
    "a #b",
    ";b",
    "100%",
    "%(here)s",
    "%(ENV_HOME)s",
    "it's",
    'say "hi"',
    "",
]


def describe(node: str = "node1", **options: Any) -> NodePrograms:
    return describe_node(
        TOPOLOGY,
        node,
        app=options.pop("app", "proj"),
        drain_timeout=25.0,
        options=NodeOptions(**options),
    )


def parse(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(text)
    return parser


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Has supervisor read a node's sections; returns its processes by name."""
    from supervisor import options as options_module

    def read(text: str) -> dict[str, Any]:
        path = tmp_path / "supervisord.conf"
        daemon = Daemon(socket="/tmp/s.sock", directory=str(tmp_path))
        path.write_text(render_daemon(daemon) + text)
        options = options_module.ServerOptions()
        options.configfile = str(path)
        options.here = str(tmp_path)
        section = options.read_config(str(path))
        assert options.parse_warnings == []
        return {
            f"{group.name}:{process.name}": process
            for group in section.process_group_configs
            for process in group.process_configs
        }

    return read


def test_a_node_is_a_group_of_its_programs() -> None:
    parser = parse(render_node(describe()))

    assert parser["group:node1"]["programs"].split(",") == [
        "node1-worker",
        "node1-crontab",
        "node1-beat",
        "node1-flower",
    ]
    assert {s for s in parser.sections() if s.startswith("program:")} == {
        "program:node1-worker",
        "program:node1-crontab",
        "program:node1-beat",
        "program:node1-flower",
    }


@pytest.mark.parametrize("program", ["worker", "crontab", "beat", "flower", "backend"])
def test_a_program_is_stopped_by_sigterm_to_its_main_process_alone(program: str) -> None:
    section = parse(render_node(describe(backend="web")))[f"program:node1-{program}"]

    assert section["stopsignal"] == "TERM"
    assert section["stopasgroup"] == "false"
    assert section["killasgroup"] == "true"
    assert section["autorestart"] == "true"


def test_workers_get_longer_to_stop_than_they_may_take() -> None:
    parser = parse(render_node(describe()))

    assert parser["program:node1-worker"]["stopwaitsecs"] == "35"
    assert parser["program:node1-crontab"]["stopwaitsecs"] == "35"
    assert parser["program:node1-beat"]["stopwaitsecs"] == "10"


def test_the_file_says_once_why_workers_are_stopped_like_this() -> None:
    text = render_node(describe())

    assert text.count("; How a worker is stopped.") == 1
    assert "(stopasgroup=false)" in text


def test_worker_processes_are_numbered_and_named_after_their_node() -> None:
    section = parse(render_node(describe(workers=3)))["program:node1-worker"]

    assert section["numprocs"] == "3"
    assert section["process_name"] == "%(program_name)s-%(process_num)s"
    assert section["command"].endswith("-n node1-worker%(process_num)s@%%h")


def test_processes_are_named_after_group_and_program(
    load: Callable[[str], dict[str, Any]],
) -> None:
    assert set(load(render_node(describe(workers=2, backend="web")))) == {
        "node1:node1-backend",
        "node1:node1-worker-0",
        "node1:node1-worker-1",
        "node1:node1-crontab",
        "node1:node1-beat",
        "node1:node1-flower",
    }


def test_supervisor_reads_what_was_meant(
    load: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    logs = tmp_path / "100% ;logs"
    logs.mkdir()
    node = describe(workers=2, directory="/srv/a ;b%", log_dir=str(logs), user="root")

    processes = load(render_node(node))

    worker = processes["node1:node1-worker-1"]
    assert worker.command.endswith(" -n node1-worker1@%h")
    assert worker.directory == "/srv/a ;b%"
    assert worker.stdout_logfile == f"{logs}/node1-worker-1.log"
    assert worker.uid == 0
    assert worker.environment == {"NODEKIT_NODE": "node1", "NODEKIT_CRONTAB": "0"}
    assert (worker.stopsignal, worker.stopwaitsecs) == (15, 35)
    assert (worker.stopasgroup, worker.killasgroup) == (False, True)
    assert processes["node1:node1-crontab"].stdout_logfile == f"{logs}/node1-crontab.log"


@pytest.mark.parametrize("word", HARD_WORDS)
def test_supervisor_reads_each_word_of_a_command_as_given(
    load: Callable[[str], dict[str, Any]], word: str
) -> None:
    processes = load(render_node(describe(backend=shlex.join(["web", word, "end"]))))

    assert shlex.split(processes["node1:node1-backend"].command) == ["web", word, "end"]


@pytest.mark.parametrize(
    "value", [*(w for w in HARD_WORDS if w != 'say "hi"'), '{"a": "b ;c"}', "a,b=c", " a ", "\\n"]
)
def test_supervisor_reads_environment_values_as_given(
    load: Callable[[str], dict[str, Any]], value: str
) -> None:
    processes = load(render_node(describe(environment={"A": value, "B": "1"})))

    expected = {"NODEKIT_NODE": "node1", "A": value, "B": "1"}
    assert processes["node1:node1-beat"].environment == expected


@pytest.mark.parametrize("value", ['"quoted"', "'", 'it\'s "both"', 'say "hi"'])
def test_an_environment_value_that_supervisord_cannot_read_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="variable SECRET cannot be written"):
        render_node(describe(environment={"SECRET": value}))


@pytest.mark.parametrize(
    "options",
    [
        {"environment": {"A": "1\nuser=root"}},
        {"backend": "web '\n[program:x]'"},
        {"directory": "/srv\n"},
        {"user": "www\rcommand=x"},
        {"log_dir": "/var/log\n"},
        {"app": "proj\n"},
        {"celery": ("celery\0",)},
    ],
)
def test_a_line_break_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="line break"):
        render_node(describe(**options))


def test_settings_that_were_not_chosen_are_left_to_supervisord() -> None:
    section = parse(render_node(describe()))["program:node1-worker"]

    assert {"user", "directory", "stdout_logfile"}.isdisjoint(section)


def test_a_daemon_listens_on_a_socket_for_its_owner_alone() -> None:
    parser = parse(render_daemon(Daemon(socket="/run/p/s.sock", directory="/run/p/")))

    assert parser["unix_http_server"]["file"] == "/run/p/s.sock"
    assert parser["unix_http_server"]["chmod"] == "0700"
    assert parser["supervisorctl"]["serverurl"] == "unix:///run/p/s.sock"
    assert parser["supervisord"]["logfile"] == "/run/p/supervisord.log"


def test_a_socket_path_that_is_too_long_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="too long for a socket: 105 bytes, at most 92"):
        Daemon(socket="/" + "x" * 104, directory="/tmp")
