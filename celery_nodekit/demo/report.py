"""What a run has to tell, as plain data: while it goes on, and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from celery_nodekit.demo.records import CronCell, TaskVerdict, iso

__all__ = ["Incident", "NodeProcess", "QueueState", "Report", "Snapshot"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeProcess:
    """A process, for people."""

    name: str
    #: supervisord's word, or ``READY`` where a worker said that it consumes.
    state: str
    pid: int
    #: Tasks that it runs now, and that it has run.
    running: int
    finished: int


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueState:
    """A queue, for people."""

    name: str
    #: Names of the workers that consume it; ``None`` where nobody has asked yet.
    consumers: Sequence[str] | None
    #: Messages that wait in it.
    waiting: int
    #: Whether it holds the cron occurrences of a node.
    is_crontab: bool

    @property
    def is_unread(self) -> bool:
        """Whether it is known that no worker consumes it."""
        return self.consumers is not None and not self.consumers


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """Something done to a worker while it had work, and what came of it."""

    #: What was done, such as ``SIGTERM``.
    kind: str
    #: Name of the worker.
    worker: str
    #: Tasks that it ran at that moment.
    running: int
    #: Of these: run to the end by the same process, run again elsewhere, and neither.
    finished_there: int
    ran_again: int
    lost: int
    #: Exit code of the worker.
    exit_code: int
    #: Seconds until it had ended.
    stopped_after: float
    #: Seconds from its next start until it consumed again.
    back_after: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A run while it goes on."""

    #: Line over everything else.
    title: str
    #: What goes on now.
    phase: str
    nodes: Sequence[str]
    processes: Sequence[NodeProcess]
    queues: Sequence[QueueState]
    tasks: TaskVerdict
    cron: Mapping[str, Mapping[str, CronCell]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A run that has ended."""

    #: Where the messages went.
    broker: str
    nodes: Sequence[str]
    #: Seconds in which tasks were submitted and cron entries were due.
    seconds: float
    tasks: TaskVerdict
    #: By entry and node.
    cron: Mapping[str, Mapping[str, CronCell]]
    #: Crontab queues, with the workers that consume them.
    crontab_queues: Sequence[QueueState]
    #: Messages that were still in queues at the end.
    left_over: int
    incidents: Sequence[Incident]
    #: Directory with logs, configuration and records; empty when it is gone.
    kept: str = field(default="")

    @property
    def missing_ticks(self) -> int:
        """Number of due fires that did not run on a node that had to run them."""
        return sum(len(cell.missing) for nodes in self.cron.values() for cell in nodes.values())

    @property
    def duplicated_ticks(self) -> int:
        """Number of fires that ran more than once on a node."""
        return sum(len(cell.duplicated) for nodes in self.cron.values() for cell in nodes.values())

    @property
    def unread(self) -> list[str]:
        """Names of the crontab queues that no worker consumes."""
        return [queue.name for queue in self.crontab_queues if queue.is_unread]

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, every tick ran, and everything ran where it belongs."""
        return not (self.tasks.lost or self.tasks.astray or self.missing_ticks)

    def to_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "ok": self.ok,
            "broker": self.broker,
            "nodes": list(self.nodes),
            "seconds": round(self.seconds, 3),
            "submitted": self.tasks.submitted,
            "finished": self.tasks.finished,
            "lost": len(self.tasks.lost),
            "duplicated": len(self.tasks.duplicated),
            "interrupted": len(self.tasks.interrupted),
            "astray": len(self.tasks.astray),
            "left_over": self.left_over,
            "cron": {
                entry: {node: _cell_json(cell) for node, cell in cells.items()}
                for entry, cells in self.cron.items()
            },
            "missing_ticks": self.missing_ticks,
            "duplicated_ticks": self.duplicated_ticks,
            "crontab_queues": {q.name: list(q.consumers or ()) for q in self.crontab_queues},
            "incidents": [asdict(incident) for incident in self.incidents],
            "kept": self.kept or None,
        }


def _cell_json(cell: CronCell) -> dict[str, Any]:
    return {
        "due": cell.due,
        "published": cell.published,
        "ran": cell.ran,
        "missing": [iso(fire) for fire in cell.missing],
        "duplicated": [iso(fire) for fire in cell.duplicated],
    }
