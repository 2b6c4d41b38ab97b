"""``celery-nodekit demo``: several nodes on this machine, for as long as it takes to see them work.

Exit codes: 0 all is well, 1 something was lost or did not run, 2 wrong use, 3 something is missing
or does not start, 4 stopped half-way by a signal, 5 the broker cannot be used.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from typing_extensions import Self

    from celery_nodekit.demo.report import Report
    from celery_nodekit.demo.view import View

__all__ = ["main"]

FINDINGS, MISSING, INTERRUPTED, UNREACHABLE = 1, 3, 4, 5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failure(click.ClickException):
    """Ends the command with a message and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


class Interruption:
    """Turns signals into an end at the next safe moment.

    Raising inside the handler could strike between the start of a process and the line that
    remembers it, and would leave that process behind.
    """

    def __init__(self) -> None:
        self._received = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise if a signal came.

        Raises:
            Failure: one did.
        """
        if self._received:
            name = signal.Signals(self._received).name
            raise Failure(f"Stopped by {name}.", INTERRUPTED)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._received = self._received or number


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="celery-nodekit", prog_name="celery-nodekit")
def main() -> None:
    """Celery on several nodes that loses no work."""


@main.command()
@click.option(
    "--seconds",
    type=click.FloatRange(5, 600),
    default=30,
    show_default=True,
    help="How long to give the nodes work; starting and stopping them comes on top.",
)
@click.option(
    "--nodes",
    type=click.IntRange(1, 9),
    default=3,
    show_default=True,
    help="Number of nodes, each with a worker and a crontab worker.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document at the end, nothing else."
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep logs, configuration and records in this new or empty directory.",
)
@click.option(
    "--broker",
    metavar="URL",
    help="Use this Redis or RabbitMQ, under names of the demo's own that are removed at the end."
    "  [default: a server of the demo's own]",
)
def demo(
    *, seconds: float, nodes: int, as_json: bool, keep: Path | None, broker: str | None
) -> None:
    """Start several nodes on this machine, give them work, stop a worker in the middle of it.

    Needs no app and no server: pip install 'celery-nodekit[demo]'. Every node is a group of
    supervisord with the configuration that `celery nodekit config supervisord` prints. Tasks go to
    nodes and to the default queue, cron entries to all nodes and to two of them. In the end what
    ran is compared with what had to run, by records that are kept outside the broker.

    Exit code: 0 all is well, 1 something was lost or did not run, 2 wrong use, 3 something is
    missing or does not start, 4 stopped half-way, 5 the broker cannot be used.
    """
    _check_broker_url(broker)
    with Interruption() as interruption, _directory(keep) as directory:
        view = _view(as_json)
        report = _run(
            directory=directory,
            nodes=nodes,
            seconds=seconds,
            broker=broker,
            view=view,
            check=interruption.check,
        )
    view.finish(report if keep is None else replace(report, kept=str(keep)))
    if not report.ok:
        sys.exit(FINDINGS)


def _check_broker_url(broker: str | None) -> None:
    from celery_nodekit.demo.brokers import SCHEMES

    if broker is not None and broker.partition("://")[0] not in SCHEMES:
        raise click.BadParameter(
            f"The demo runs on {', '.join(SCHEMES)}, for example redis://localhost:6379/0.",
            param_hint="--broker",
        )


@contextlib.contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="nodekit-demo-") as directory:
            yield Path(directory)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        is_empty = not any(keep.iterdir())
    except OSError as exc:
        raise click.BadParameter(f"{keep}: {exc.strerror}.", param_hint="--keep") from exc
    if not is_empty:
        raise click.BadParameter(f"{keep} is not empty.", param_hint="--keep")
    yield keep.absolute()


def _view(as_json: bool) -> View:
    from celery_nodekit.demo.cluster import ClusterError, require
    from celery_nodekit.demo.view import make_view

    try:
        if not as_json and sys.stdout.isatty():
            require("rich")
    except ClusterError as exc:
        raise Failure(str(exc), MISSING) from exc
    return make_view(as_json=as_json, stdout=sys.stdout, stderr=sys.stderr)


def _run(**arguments: Any) -> Report:
    from celery_nodekit.demo.brokers import BrokerError
    from celery_nodekit.demo.cluster import ClusterError
    from celery_nodekit.demo.run import play
    from celery_nodekit.demo.server import ServerNotFoundError, ServerStartError

    try:
        return play(**arguments)
    except BrokerError as exc:
        raise Failure(str(exc), UNREACHABLE) from exc
    except (ClusterError, ServerNotFoundError, ServerStartError) as exc:
        raise Failure(str(exc), MISSING) from exc
