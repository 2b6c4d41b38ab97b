"""A run as its scenes see it: the processes, the records, and the means to act on them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from celery_nodekit.demo.brokers import BrokerError, BrokerWatch
from celery_nodekit.demo.cluster import Cluster, Process
from celery_nodekit.demo.records import Event, RecordBook, RecordLog, RecordReader, Window
from celery_nodekit.demo.report import NodeProcess, QueueState, Snapshot
from celery_nodekit.demo.settings import DemoSettings
from celery_nodekit.demo.tasks import WORK

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Audience", "Stage"]

#: Seconds between two looks at everything, and between two pictures for the audience.
_STEP, _PICTURE_INTERVAL = 0.1, 0.25


class Audience(Protocol):
    """Who watches."""

    def say(self, text: str) -> None:
        """Take in what happened."""

    def update(self, snapshot: Snapshot) -> None:
        """Take in how things are."""


class Stage:
    """The run, kept up to date by :meth:`step`.

    Args:
        app: the demo's app.
        settings: of the run.
        cluster: its nodes, started.
        watch: looks at its broker.
        audience: is told.
        title: line over everything that the audience sees.
        check: called often; raises when the run is to end at once.
    """

    def __init__(
        self,
        *,
        app: Celery,
        settings: DemoSettings,
        cluster: Cluster,
        watch: BrokerWatch,
        audience: Audience,
        title: str,
        check: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.cluster = cluster
        self.watch = watch
        self.book = RecordBook()
        #: What goes on, for the audience.
        self.phase = "starting"
        #: Since when fires are due, that is, when beat began; ``None`` until then.
        self.window_start: float | None = None
        self._app = app
        self._audience = audience
        self._title = title
        self._check = check
        self._log = RecordLog(settings.records)
        self._reader = RecordReader(settings.records)
        self._processes: Sequence[Process] = ()
        self._workers: dict[str, str] = {}
        self._next_picture = 0.0

    def say(self, text: str) -> None:
        """Tell the audience what happened."""
        self._audience.say(text)

    def step(self) -> None:
        """Let a moment pass and take in what happened in it.

        Raises:
            ClusterError: supervisord is gone, or a process does not start at all.
        """
        self._check()
        time.sleep(_STEP)
        self._processes = self.cluster.processes()
        self.book.add(self._reader.poll())
        by_pid = {record.pid: record.worker for record in self.book.of(Event.WORKER_READY)}
        # A stopped process keeps the name of the worker that it was.
        self._workers |= {p.name: by_pid[p.pid] for p in self._processes if p.pid in by_pid}
        if time.monotonic() >= self._next_picture:
            self._next_picture = time.monotonic() + _PICTURE_INTERVAL
            self._audience.update(self._snapshot())

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Step until something is so, at most ``timeout`` seconds, and return whether it is."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.step()
        return True

    def submit(self, node: str | None, seconds: float) -> str:
        """Submit a task, for one node or for any, and return its id.

        Raises:
            BrokerError: the broker did not take it.
        """
        work: Any = self._app.tasks[WORK]
        try:
            result = work.apply_async((seconds,), node=node)
        except Exception as exc:
            # Every client library has errors of its own.
            raise BrokerError(f"The broker takes no tasks any more: {exc}") from exc
        task: str = result.id
        self._log.write(Event.SUBMITTED, task=task, node=node or "")
        return task

    def process(self, name: str) -> Process:
        """Return what supervisord last said about a process."""
        return next(process for process in self._processes if process.name == name)

    def process_of(self, worker: str) -> Process:
        """Return the process that is a worker, by the worker's full name."""
        return next(p for p in self._processes if self._workers.get(p.name) == worker)

    def not_ready(self) -> list[Process]:
        """Return the processes that have not said that they are at work."""
        ready = self._ready_pids()
        return [process for process in self._processes if process.pid not in ready]

    def window(self) -> Window:
        """Return the time in which fires are due, up to this moment."""
        now = time.time()
        return Window(start=now if self.window_start is None else self.window_start, end=now)

    def _ready_pids(self) -> set[int]:
        events = (Event.WORKER_READY, Event.BEAT_READY)
        return {record.pid for event in events for record in self.book.of(event)}

    def queues(self) -> list[QueueState]:
        """Return all queues as they were seen last, under the names they have without prefix."""
        seen = self.watch.latest
        crontab = {self.settings.crontab_queue(node) for node in self.settings.nodes}
        return [
            QueueState(
                name=name.removeprefix(self.settings.prefix),
                consumers=None if seen is None else seen.consumers.get(name, ()),
                waiting=0 if seen is None else seen.waiting.get(name, 0),
                is_crontab=name in crontab,
            )
            for name in self.settings.queues
        ]

    def _snapshot(self) -> Snapshot:
        ready = self._ready_pids()
        finished = Counter(record.worker for record in self.book.of(Event.FINISHED))
        return Snapshot(
            title=self._title,
            phase=self.phase,
            nodes=self.settings.nodes,
            processes=[
                NodeProcess(
                    name=process.name.partition(":")[2],
                    state="READY" if process.pid in ready else process.state,
                    pid=process.pid,
                    running=len(self.book.running(worker)) if worker else 0,
                    finished=finished[worker],
                )
                for process in self._processes
                for worker in (self._workers.get(process.name, ""),)
            ],
            queues=self.queues(),
            tasks=self.book.judge_tasks(),
            cron=self.book.judge_cron(self.settings.entries, self.window()),
        )
