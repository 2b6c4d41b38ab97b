"""What the demo does to its workers while they have work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

from celery_nodekit.demo.records import Event, Record, RecordBook
from celery_nodekit.demo.report import Incident
from celery_nodekit.demo.stage import Stage

__all__ = ["Scene", "StopWorker"]

#: Seconds that the task takes during which a worker is stopped.
_LONG_TASK = 1.5


class Scene(Protocol):
    """One thing that is done to a worker."""

    def play(self, stage: Stage) -> Iterator[None]:
        """Do it; yield whenever there is something to wait for."""

    def result(self, book: RecordBook) -> Incident:
        """Return what came of it, by all records of the run."""


class StopWorker:
    """Stops a worker with SIGTERM in the middle of a task, then starts it again."""

    def __init__(self) -> None:
        self._worker = ""
        self._running: list[Record] = []
        self._exit_code = 0
        self._stopped_after = 0.0
        self._back_after = 0.0

    def play(self, stage: Stage) -> Iterator[None]:
        """Wait for a task to begin, stop its worker, wait, start it again, wait."""
        task = stage.submit(stage.settings.nodes[-1], _LONG_TASK)
        while not (begun := _starts_of(task, stage.book)):
            yield
        self._worker = begun[0].worker
        process = stage.process_of(self._worker)
        self._running = stage.book.running(self._worker)
        stage.say(f"SIGTERM to {self._worker}, which runs {len(self._running)} task(s)")
        stage.cluster.stop_process(process.name)
        since = time.monotonic()
        while (now := stage.process(process.name)).state != "STOPPED":
            yield
        self._stopped_after = time.monotonic() - since
        self._exit_code = now.exit_code
        stage.say(
            f"{self._worker} ended with exit code {self._exit_code} after"
            f" {self._stopped_after:.1f} s; starting it again"
        )
        stage.cluster.start_process(process.name)
        since = time.monotonic()
        while not _is_back(self._worker, process.pid, stage.book):
            yield
        self._back_after = time.monotonic() - since
        stage.say(f"{self._worker} is back after {self._back_after:.1f} s")

    def result(self, book: RecordBook) -> Incident:
        """Return what became of the tasks that it ran."""
        ended = book.of(Event.FINISHED)
        here = {(record.task, record.pid) for record in ended}
        anywhere = {record.task for record in ended}
        there = [r for r in self._running if (r.task, r.pid) in here]
        elsewhere = [r for r in self._running if r not in there and r.task in anywhere]
        return Incident(
            kind="SIGTERM",
            worker=self._worker,
            running=len(self._running),
            finished_there=len(there),
            ran_again=len(elsewhere),
            lost=len(self._running) - len(there) - len(elsewhere),
            exit_code=self._exit_code,
            stopped_after=round(self._stopped_after, 2),
            back_after=round(self._back_after, 2),
        )


def _starts_of(task: str, book: RecordBook) -> list[Record]:
    return [record for record in book.of(Event.STARTED) if record.task == task]


def _is_back(worker: str, old_pid: int, book: RecordBook) -> bool:
    ready = book.of(Event.WORKER_READY)
    return any(record.worker == worker and record.pid != old_pid for record in ready)
