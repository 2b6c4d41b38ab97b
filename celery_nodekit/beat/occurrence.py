"""One firing of one cron entry on one node, and its identity."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["HEADER", "Occurrence"]

#: Name of the message header that tells a worker which occurrence it runs; also the key under
#: which ``beat_schedule``'s ``options["headers"]`` holds an entry's own settings.
HEADER = "nodekit"

_NAMESPACE = uuid.UUID("6f1d1c52-6a0b-5c0e-9f5e-0b8f4c1a7d3e")


@dataclass(frozen=True, kw_only=True, slots=True)
class Occurrence:
    """An occurrence; two beats that publish it give it the same task id."""

    #: ``nodekit_namespace``, which keeps apart apps that share a broker or result backend.
    namespace: str
    #: Name of the cron entry.
    entry: str
    #: When it is due, an aware UTC datetime.
    fire: datetime
    #: Name of the node it is for.
    node: str

    @property
    def task_id(self) -> str:
        """The id of its task, a UUID (version 5) of all fields."""
        parts = (self.namespace, self.entry, self.fire.isoformat(), self.node)
        return str(uuid.uuid5(_NAMESPACE, "\0".join(parts)))

    def header(self) -> dict[str, Any]:
        """Return what the message's ``nodekit`` header says."""
        return {
            "namespace": self.namespace,
            "entry": self.entry,
            "fire": self.fire.isoformat(),
            "node": self.node,
        }
