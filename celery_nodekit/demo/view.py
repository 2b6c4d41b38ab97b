"""Shows a run: a live table on a terminal, plain lines elsewhere, or one JSON document."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

from celery_nodekit.demo.records import CronCell, iso
from celery_nodekit.demo.report import Incident, Report, Snapshot

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table
    from typing_extensions import Self

__all__ = ["JsonView", "PlainView", "RichView", "View", "make_view", "summary"]

#: Seconds between two lines of progress.
_LINE_INTERVAL = 5.0
#: Missing ticks that are listed one by one.
_MOST_LISTED = 10

Cron = Mapping[str, Mapping[str, CronCell]]


class View(Protocol):
    """Shows one run, inside its ``with`` block, and then its report."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def say(self, text: str) -> None:
        """Show what happened."""

    def update(self, snapshot: Snapshot) -> None:
        """Show how things are."""

    def finish(self, report: Report) -> None:
        """Show what came of it, after the block."""


def make_view(*, as_json: bool, stdout: TextIO, stderr: TextIO) -> View:
    """Return the view that fits the output."""
    if as_json:
        return JsonView(stdout, progress=stderr)
    return RichView() if stdout.isatty() else PlainView(stdout)


class PlainView:
    """Lines, for logs and pipes.

    Args:
        stream: where to print them.
        clock: seconds.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last_line = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to end."""

    def say(self, text: str) -> None:
        """Print what happened."""
        print(text, file=self._stream, flush=True)

    def update(self, snapshot: Snapshot) -> None:
        """Print a line of progress now and then."""
        if self._clock() - self._last_line < _LINE_INTERVAL:
            return
        self._last_line = self._clock()
        self.say(_progress(snapshot))

    def finish(self, report: Report) -> None:
        """Print the report."""
        for line in ("", *_matrix(report.cron, report.nodes), "", *summary(report)):
            self.say(line)


class JsonView(PlainView):
    """One JSON document at the end; progress goes elsewhere.

    Args:
        stream: where to print the document.
        progress: where to print everything else.
    """

    def __init__(self, stream: TextIO, *, progress: TextIO) -> None:
        super().__init__(progress)
        self._document = stream

    def finish(self, report: Report) -> None:
        """Print the document."""
        print(json.dumps(report.to_json(), indent=2), file=self._document, flush=True)


class RichView:
    """A live table, for terminals.

    Args:
        console: where to draw it; standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console: Console = console or Console(highlight=False)
        self._live: Live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.__exit__(exc_type, exc, traceback)

    def say(self, text: str) -> None:
        """Print what happened, above the table."""
        self._console.print(text, markup=False)

    def update(self, snapshot: Snapshot) -> None:
        """Draw the table anew."""
        self._live.update(_picture(snapshot), refresh=True)

    def finish(self, report: Report) -> None:
        """Print the report."""
        self._console.print(_cron_table(report.cron, report.nodes))
        for line in summary(report):
            self.say(line)


def summary(report: Report) -> Iterator[str]:
    """Yield what came of a run, in sentences."""
    tasks = report.tasks
    yield (
        f"Tasks: {tasks.submitted} submitted, {tasks.finished} finished, {len(tasks.lost)} lost,"
        f" {len(tasks.duplicated)} duplicated, {len(tasks.astray)} on the wrong node,"
        f" {len(tasks.interrupted)} interrupted; {report.left_over} message(s) left in queues."
    )
    due = sum(cell.due for cells in report.cron.values() for cell in cells.values())
    yield (
        f"Cron: {due} ticks due in {report.seconds:.0f} s, {report.missing_ticks} missing,"
        f" {report.duplicated_ticks} duplicated."
    )
    yield from _missing(report.cron)
    yield from map(_incident, report.incidents)
    if report.unread:
        yield f"No worker consumes {', '.join(report.unread)}."
    else:
        yield "Every crontab queue has a worker."
    if report.kept:
        yield f"Logs, configuration and records are in {report.kept}."
    yield (
        "Nothing was lost, and every entry ran on every node it is for."
        if report.ok
        else "Something was lost or did not run where it should; see above."
    )


def _missing(cron: Cron) -> Iterator[str]:
    missing = [
        f"Missing: {entry} of {iso(fire)} on {node}."
        for entry, cells in cron.items()
        for node, cell in cells.items()
        for fire in cell.missing
    ]
    yield from missing[:_MOST_LISTED]
    if len(missing) > _MOST_LISTED:
        yield f"... and {len(missing) - _MOST_LISTED} more."


def _incident(incident: Incident) -> str:
    return (
        f"{incident.kind} to {incident.worker} while it ran {incident.running} task(s):"
        f" {incident.finished_there} finished there, {incident.ran_again} ran again,"
        f" {incident.lost} lost. It ended with exit code {incident.exit_code} after"
        f" {incident.stopped_after:.1f} s and was back {incident.back_after:.1f} s after its start."
    )


def _progress(snapshot: Snapshot) -> str:
    ready = sum(process.state == "READY" for process in snapshot.processes)
    cells = [cell for cells in snapshot.cron.values() for cell in cells.values()]
    unread = [queue.name for queue in snapshot.queues if queue.is_crontab and queue.is_unread]
    line = (
        f"{snapshot.phase}: {ready} of {len(snapshot.processes)} processes ready;"
        f" {snapshot.tasks.submitted} tasks submitted, {snapshot.tasks.finished} finished;"
        f" {sum(cell.due for cell in cells)} ticks due, {sum(cell.ran for cell in cells)} ran"
    )
    return f"{line}; no worker consumes {', '.join(unread)}" if unread else line


def _matrix(cron: Cron, nodes: Sequence[str]) -> Iterator[str]:
    rows = [["ran / due", *nodes], *_cron_rows(cron, nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _cron_rows(cron: Cron, nodes: Sequence[str]) -> Iterator[list[str]]:
    for entry, cells in cron.items():
        yield [entry, *(_cell(cells.get(node)) for node in nodes)]


def _cell(cell: CronCell | None) -> str:
    return "-" if cell is None else f"{cell.ran}/{cell.due}"


def _picture(snapshot: Snapshot) -> RenderableType:
    from rich.columns import Columns
    from rich.console import Group
    from rich.text import Text

    tasks = snapshot.tasks
    counts = (
        f"{tasks.submitted} tasks submitted, {tasks.finished} finished,"
        f" {tasks.submitted - tasks.finished} to do, {len(tasks.duplicated)} duplicated"
    )
    return Group(
        Text(f"{snapshot.title} - {snapshot.phase}", style="bold"),
        Columns([_process_table(snapshot), _queue_table(snapshot)], padding=(1, 4)),
        _cron_table(snapshot.cron, snapshot.nodes),
        Text(counts),
    )


def _process_table(snapshot: Snapshot) -> Table:
    table = _table("process", "state", "pid", "running", "finished")
    for process in snapshot.processes:
        style = "green" if process.state == "READY" else "yellow"
        table.add_row(
            process.name,
            f"[{style}]{process.state}[/]",
            str(process.pid or ""),
            str(process.running or ""),
            str(process.finished or ""),
        )
    return table


def _queue_table(snapshot: Snapshot) -> Table:
    table = _table("queue", "waiting", "consumed by")
    for queue in snapshot.queues:
        workers = ", ".join(name.partition("@")[0] for name in queue.consumers or ())
        if queue.is_unread:
            workers = "[red]no worker consumes it[/]"
        table.add_row(queue.name, str(queue.waiting), workers)
    return table


def _cron_table(cron: Cron, nodes: Sequence[str]) -> Table:
    table = _table("cron entry: ran / due", *nodes)
    for row in _cron_rows(cron, nodes):
        table.add_row(*row)
    return table


def _table(*headers: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(*headers, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
