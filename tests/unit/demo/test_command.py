from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from celery_nodekit import __version__
from celery_nodekit.demo import cluster, run
from celery_nodekit.demo.brokers import BrokerError
from celery_nodekit.demo.cluster import ClusterError, require, tail
from celery_nodekit.demo.command import Failure, Interruption, main
from celery_nodekit.demo.server import ServerNotFoundError
from celery_nodekit.demo.story import _Traffic
from tests.unit.demo.test_report import report, tasks


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replaces the run itself: give ``result``, find what it was called with."""
    seen: dict[str, Any] = {"result": report()}

    def play(**given: Any) -> Any:
        seen.update(given)
        seen["directory_existed"] = given["directory"].is_dir()
        if isinstance(seen["result"], Exception):
            raise seen["result"]
        return seen["result"]

    monkeypatch.setattr(run, "play", play)
    return seen


def demo(*args: str) -> Result:
    return CliRunner().invoke(main, ["demo", *args])


def test_it_says_its_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output.strip().endswith(__version__)


def test_a_good_run_ends_with_0(arguments: dict[str, Any]) -> None:
    result = demo("--seconds", "8", "--nodes", "2")

    assert result.exit_code == 0, result.output
    assert (arguments["seconds"], arguments["nodes"], arguments["broker"]) == (8, 2, None)
    assert "Nothing was lost" in result.stdout


def test_a_run_with_findings_ends_with_1(arguments: dict[str, Any]) -> None:
    arguments["result"] = report(tasks=tasks(lost=("a",)))

    result = demo("--json")

    assert result.exit_code == 1
    assert '"lost": 1' in result.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ClusterError("node1-beat does not start"), 3),
        (ServerNotFoundError("no server program"), 3),
        (BrokerError("cannot be used"), 5),
    ],
)
def test_an_error_ends_with_its_code_and_without_traceback(
    arguments: dict[str, Any], error: Exception, code: int
) -> None:
    arguments["result"] = error

    result = demo("--json")

    assert result.exit_code == code
    assert result.stderr == f"Error: {error}\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    "args",
    [["--seconds", "1"], ["--nodes", "0"], ["--broker", "sqs://"], ["--broker", "localhost"]],
)
def test_a_wrong_use_ends_with_2(arguments: dict[str, Any], args: list[str]) -> None:
    assert demo(*args).exit_code == 2
    assert "directory" not in arguments


def test_files_are_gone_afterwards(arguments: dict[str, Any]) -> None:
    demo()

    assert arguments["directory_existed"]
    assert not arguments["directory"].exists()


def test_files_are_kept_where_that_is_asked_for(arguments: dict[str, Any], tmp_path: Path) -> None:
    result = demo("--keep", str(tmp_path / "new" / "run"))

    assert arguments["directory"] == tmp_path / "new" / "run"
    assert arguments["directory"].is_dir()
    assert f"are in {tmp_path}/new/run." in result.stdout


def test_files_are_not_mixed_with_others(arguments: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    result = demo("--keep", str(tmp_path))

    assert result.exit_code == 2
    assert "is not empty" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_at_the_next_check_with_4(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    with Interruption() as interruption:
        interruption.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Failure, match=f"Stopped by {number.name}") as caught:
            interruption.check()

    assert caught.value.exit_code == 4
    assert signal.getsignal(number) is before


def test_a_missing_package_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)

    with pytest.raises(ClusterError, match=r"pip install 'celery-nodekit\[demo\]'"):
        require("supervisor")


def test_the_end_of_a_log_is_quoted_under_its_name(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))

    quoted = tail(log).splitlines()

    assert quoted[0] == f"The end of {log}:"
    assert quoted[-1] == "  line 99"
    assert len(quoted) == 26
    assert tail(tmp_path / "none").endswith("(nothing)")


def test_traffic_is_steady_and_goes_to_every_node_and_to_none() -> None:
    traffic = _Traffic(["node1", "node2"])

    first = list(traffic.due(10.0))

    assert len(first) == 24
    assert Counter(node for node, _ in first) == {None: 12, "node1": 6, "node2": 6}
    assert all(0.1 <= seconds <= 1.0 for _, seconds in first)
    assert list(traffic.due(10.0)) == []
    assert len(list(traffic.due(11.0))) == 3
