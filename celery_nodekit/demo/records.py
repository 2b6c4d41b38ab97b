"""The demo's own account of what was sent and what ran, and the judgement by it.

It is kept in files, outside the broker and outside Celery: each process appends lines to a file of
its own, one write per line, so neither a kill nor two processes can spoil a line of another.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path

from celery_nodekit.demo.settings import CronEntry

__all__ = [
    "CronCell",
    "Event",
    "Record",
    "RecordBook",
    "RecordLog",
    "RecordReader",
    "TaskVerdict",
    "Window",
    "due_fires",
]


class Event(str, Enum):
    """What a record says happened."""

    #: A task was handed to the broker; ``node`` is where it must run, if that was said.
    SUBMITTED = "submitted"
    #: Beat handed an occurrence to the broker.
    PUBLISHED = "published"
    #: A task began to run.
    STARTED = "started"
    #: A task ran to its end.
    FINISHED = "finished"
    #: A worker consumes.
    WORKER_READY = "worker-ready"
    #: Beat starts its schedule.
    BEAT_READY = "beat-ready"


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One line."""

    event: Event
    #: When it was written, in seconds since the Unix epoch.
    at: float
    #: Process that wrote it.
    pid: int
    #: Id of the task.
    task: str = ""
    #: Node it is meant for (submitted, published), or on which it happened.
    node: str = ""
    #: Full name of the worker.
    worker: str = ""
    #: Name of the cron entry; empty for other tasks.
    entry: str = ""
    #: When the occurrence was due, in ISO format.
    fire: str = ""

    def to_line(self) -> bytes:
        """Return it as a line of JSON."""
        fields = {**asdict(self), "event": self.event.value}
        filled = {name: value for name, value in fields.items() if value != ""}
        return json.dumps(filled).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """Read what :meth:`to_line` wrote."""
        fields = json.loads(line)
        return cls(**{**fields, "event": Event(fields["event"])})

    @property
    def second(self) -> int:
        """When the occurrence was due, in whole seconds since the Unix epoch."""
        return round(datetime.fromisoformat(self.fire).timestamp())


class RecordLog:
    """Writes records of the current process.

    Args:
        directory: where the files are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, event: Event, **fields: str) -> Record:
        """Append a record and return it."""
        record = Record(event=event, at=time.time(), pid=os.getpid(), **fields)
        # The name is made anew each time: pool processes inherit this object.
        path = self._directory / f"{record.pid}.jsonl"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, record.to_line())
        finally:
            os.close(file)
        return record


class RecordReader:
    """Reads what was appended since the last time.

    Args:
        directory: where the files are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[Path, int] = {}

    def poll(self) -> list[Record]:
        """Return new records, oldest first."""
        return sorted(self._new(), key=lambda record: record.at)

    def _new(self) -> Iterator[Record]:
        for path in self._directory.glob("*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
            complete = data[: data.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(complete)
            yield from map(Record.from_line, complete.splitlines())


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The time in which every fire of every entry is due."""

    #: Seconds since the Unix epoch; fires at this very moment are not due.
    start: float
    #: Seconds since the Unix epoch; fires at this very moment are due.
    end: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskVerdict:
    """What became of the submitted tasks."""

    submitted: int
    finished: int
    #: Submitted, never run to the end.
    lost: tuple[str, ...]
    #: Run to the end more than once.
    duplicated: tuple[str, ...]
    #: Began to run more often than they ran to the end.
    interrupted: tuple[str, ...]
    #: Ran to the end on another node than theirs.
    astray: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CronCell:
    """One entry on one node."""

    #: Fires that had to run there: all in the window, and what beat published besides.
    due: int
    #: Of these, how many beat published.
    published: int
    #: Of these, how many ran there to the end.
    ran: int
    #: Due fires that did not run, in seconds since the Unix epoch.
    missing: tuple[int, ...]
    #: Fires that ran more than once.
    duplicated: tuple[int, ...]


def due_fires(entry: CronEntry, window: Window) -> set[int]:
    """Return the fires of an entry in a window, by arithmetic alone.

    The library's own reckoning is what the demo is to prove, so it is not asked.
    """
    first = int(window.start // entry.period) + 1
    last = int(window.end // entry.period)
    return {number * entry.period for number in range(first, last + 1)}


class RecordBook:
    """All records of a run, ready to be asked."""

    def __init__(self) -> None:
        self._records: dict[Event, list[Record]] = {event: [] for event in Event}

    def add(self, records: Iterable[Record]) -> None:
        """Take in records."""
        for record in records:
            self._records[record.event].append(record)

    def of(self, event: Event) -> list[Record]:
        """Return all records of a kind, in the order they were taken in."""
        return self._records[event]

    def running(self, worker: str) -> list[Record]:
        """Return the starts of the tasks that a worker runs now."""
        ended = {(record.task, record.pid) for record in self.of(Event.FINISHED)}
        return [
            record
            for record in self.of(Event.STARTED)
            if record.worker == worker and (record.task, record.pid) not in ended
        ]

    def judge_tasks(self) -> TaskVerdict:
        """Compare what was submitted with what ran."""
        submitted = {record.task: record.node for record in self.of(Event.SUBMITTED)}
        finished = Counter(r.task for r in self.of(Event.FINISHED) if r.task in submitted)
        started = Counter(r.task for r in self.of(Event.STARTED) if r.task in submitted)
        return TaskVerdict(
            submitted=len(submitted),
            finished=len(finished),
            lost=tuple(task for task in submitted if not finished[task]),
            duplicated=tuple(task for task, times in finished.items() if times > 1),
            interrupted=tuple(t for t, times in started.items() if times > finished[t]),
            astray=tuple(
                record.task
                for record in self.of(Event.FINISHED)
                if submitted.get(record.task) not in (None, "", record.node)
            ),
        )

    def judge_cron(
        self, entries: Iterable[CronEntry], window: Window
    ) -> dict[str, dict[str, CronCell]]:
        """Compare, for each entry and node, what was due with what ran there."""
        published = self._fires(Event.PUBLISHED)
        ran = self._fires(Event.FINISHED)
        return {
            entry.name: {
                node: _cell(
                    due_fires(entry, window),
                    published.get((entry.name, node), Counter()),
                    ran.get((entry.name, node), Counter()),
                )
                for node in entry.nodes
            }
            for entry in entries
        }

    def _fires(self, event: Event) -> Mapping[tuple[str, str], Counter[int]]:
        found: dict[tuple[str, str], Counter[int]] = {}
        for record in self.of(event):
            if record.entry:
                fires = found.setdefault((record.entry, record.node), Counter())
                fires[record.second] += 1
        return found


def _cell(due: set[int], published: Counter[int], ran: Counter[int]) -> CronCell:
    wanted = due | set(published)
    return CronCell(
        due=len(wanted),
        published=len(published),
        ran=len(wanted & set(ran)),
        missing=tuple(sorted(wanted - set(ran))),
        duplicated=tuple(sorted(fire for fire, times in ran.items() if times > 1)),
    )


def iso(second: int) -> str:
    """Return a fire time for people."""
    return datetime.fromtimestamp(second, timezone.utc).isoformat()
