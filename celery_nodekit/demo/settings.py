"""What all processes of one demo agree on, handed to them in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CRONTAB_CONCURRENCY", "DRAIN_TIMEOUT", "CronEntry", "DemoSettings", "clean_environment"]

#: Seconds that a stopping worker may go on; no task of the demo takes that long.
DRAIN_TIMEOUT = 5.0
#: Tasks that a worker and a crontab worker run at a time.
CONCURRENCY, CRONTAB_CONCURRENCY = 2, 1

_BROKER, _NODES, _RECORDS, _PREFIX = (
    f"NODEKIT_DEMO_{name}" for name in ("BROKER", "NODES", "RECORDS", "PREFIX")
)
#: What Celery's command line and apps read, and what could lead the demo to somebody's real broker.
_FOREIGN = ("APP", "BROKER_URL", "CONFIG_MODULE", "DJANGO_SETTINGS_MODULE", "LOADER")
_FOREIGN_PREFIXES = ("CELERY_", "NODEKIT_", "RESULT_BACKEND")


@dataclass(frozen=True, kw_only=True, slots=True)
class CronEntry:
    """A cron entry of the demo."""

    #: Name of the entry.
    name: str
    #: Seconds between two fires, which are at the multiples of it on the Unix epoch.
    period: int
    #: Names of the nodes that each get every occurrence.
    nodes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoSettings:
    """One run of the demo."""

    #: URL of the broker.
    broker: str
    #: Names of the nodes.
    nodes: tuple[str, ...]
    #: Directory of the records.
    records: Path
    #: Comes before every name on the broker; empty where the broker is the demo's own.
    prefix: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> DemoSettings:
        """Read what :meth:`to_environment` wrote.

        Raises:
            RuntimeError: this process was not started by the demo.
        """
        try:
            return cls(
                broker=environment[_BROKER],
                nodes=tuple(environment[_NODES].split(",")),
                records=Path(environment[_RECORDS]),
                prefix=environment[_PREFIX],
            )
        except KeyError as exc:
            raise RuntimeError(
                "This app belongs to the demo; start it with: celery-nodekit demo"
            ) from exc

    def to_environment(self) -> dict[str, str]:
        """Return environment variables for the demo's processes."""
        return {
            _BROKER: self.broker,
            _NODES: ",".join(self.nodes),
            _RECORDS: str(self.records),
            _PREFIX: self.prefix,
        }

    @property
    def entries(self) -> tuple[CronEntry, ...]:
        """The cron entries: one for all nodes, one for the last two."""
        return (
            CronEntry(name="every-node", period=2, nodes=self.nodes),
            CronEntry(name="two-nodes", period=3, nodes=self.nodes[-2:]),
        )

    @property
    def default_queue(self) -> str:
        """Name of the queue of tasks that belong to no node."""
        return f"{self.prefix}default"

    def queue(self, node: str) -> str:
        """Return the name of a node's queue."""
        return f"{self.prefix}{node}"

    def crontab_queue(self, node: str) -> str:
        """Return the name of the queue of a node's cron occurrences."""
        return f"{self.prefix}{node}-crontab"

    @property
    def queues(self) -> tuple[str, ...]:
        """Names of all queues that hold tasks."""
        own = (name for n in self.nodes for name in (self.queue(n), self.crontab_queue(n)))
        return (self.default_queue, *own)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what configures other Celery apps."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _FOREIGN and not name.startswith(_FOREIGN_PREFIXES)
    }
