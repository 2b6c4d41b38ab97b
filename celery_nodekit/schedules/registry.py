"""Collects what ``@kit.cron`` decorates; resolves names only when a scheduler asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_nodekit.exceptions import ConfigurationError
from celery_nodekit.schedules.schedule import cron
from celery_nodekit.topology import Selector

__all__ = ["CronRegistry", "Registration"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """One use of ``@kit.cron``."""

    #: The task, a lazy task, or a shared_task's proxy; not touched before :meth:`resolve`.
    task: Any
    #: When it fires.
    schedule: cron
    #: Name of the entry; the task's name when ``None``.
    name: str | None = None
    #: Nodes that each get an occurrence; ``None`` for an ordinary entry.
    nodes: Selector | None = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    #: Execution options, as ``beat_schedule`` takes them.
    options: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self) -> tuple[str, dict[str, Any]]:
        """Return the entry's name and its ``beat_schedule`` form."""
        task_name: str = self.task.name
        options = dict(self.options)
        if self.nodes is not None:
            options["nodes"] = self.nodes
        return self.name or task_name, {
            "task": task_name,
            "schedule": self.schedule,
            "args": tuple(self.args),
            "kwargs": dict(self.kwargs),
            "options": options,
        }


class CronRegistry:
    """The entries of one kit, in the order they were decorated."""

    def __init__(self) -> None:
        self._registrations: list[Registration] = []

    def __len__(self) -> int:
        return len(self._registrations)

    def add(self, registration: Registration) -> None:
        """Keep a registration."""
        self._registrations.append(registration)

    def beat_schedule(self) -> dict[str, dict[str, Any]]:
        """Return all entries in ``beat_schedule`` form.

        Raises:
            ConfigurationError: two entries have one name.
        """
        entries: dict[str, dict[str, Any]] = {}
        for registration in self._registrations:
            name, entry = registration.resolve()
            if name in entries:
                raise ConfigurationError(
                    f"Two @kit.cron entries are called {name!r}; give one of them name=."
                )
            entries[name] = entry
        return entries
