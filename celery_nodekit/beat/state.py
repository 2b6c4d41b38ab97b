"""Where every entry has got to on every node, kept in a local file.

One beat at a time may use the file; it holds a lock on it while it runs. The file is replaced as a
whole after occurrences were published, so a crash leaves the state from before or after, never a
half-written one. A beat killed between a publish and the next write publishes that occurrence again
under the same task id.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Any, NamedTuple

from celery_nodekit.exceptions import StateFileError

__all__ = ["Position", "Saved", "StateFile"]

logger = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_VERSION = 1


class Position:
    """How far one entry has been published, per node."""

    __slots__ = ("fingerprint", "gaps", "last")

    def __init__(
        self,
        fingerprint: str,
        last: Mapping[str, datetime],
        gaps: Sequence[tuple[datetime, datetime]] = (),
    ) -> None:
        #: Of the schedule it was published by.
        self.fingerprint = fingerprint
        #: Newest fire time done with, by name of node.
        self.last = dict(last)
        #: Times without beat, each up to the newest fire missed; what lies between is left out.
        self.gaps = list(gaps)


class Saved(NamedTuple):
    """What a beat leaves to the next one."""

    positions: dict[str, Position]
    #: Until when something was owed that the broker did not take; ``None`` when all was published.
    owed_until: datetime | None = None


class StateFile:
    """The file, and the lock that keeps a second beat from using it.

    Args:
        path: where it is; ``PATH.lock`` beside it is the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            StateFileError: another process has it, or the directory cannot be written.
        """
        lock_path = self.path.with_name(self.path.name + ".lock")
        try:
            lock = lock_path.open("a+")
        except OSError as exc:
            raise StateFileError(
                f"beat cannot write {lock_path}: {exc.strerror}. Give it a writable place with"
                " `celery beat --schedule PATH`."
            ) from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise StateFileError(
                f"Another beat (pid {holder}) uses {self.path}. Run one beat per state file, or"
                " give this one its own with `celery beat --schedule PATH`."
            ) from exc
        self._lock = lock
        with contextlib.suppress(OSError):  # a full disk; the lock holds all the same
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Give the lock back; safe to call again."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def load(self) -> Saved:
        """Return what was saved; nothing when there is no file yet.

        An unreadable file is set aside with a log entry, and every entry starts from now.
        """
        try:
            return _decode(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Saved({})
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            aside = self.path.with_name(f"{self.path.name}.unreadable-{int(time.time())}")
            self.path.replace(aside)
            logger.error(
                "The state file was unreadable (%s) and is now %s; all cron entries start from now,"
                " what they missed before is not made up for.",
                exc,
                aside,
                extra={"action": "state_file_set_aside", "path": str(aside)},
            )
            return Saved({})

    def save(self, saved: Saved) -> None:
        """Replace the file.

        Raises:
            OSError: the disk is full, or the directory is gone.
        """
        temporary = self.path.with_name(self.path.name + ".new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(_encode(saved), file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


def _encode(saved: Saved) -> dict[str, Any]:
    entries = {}
    for name, position in saved.positions.items():
        newest = max(position.last.values(), default=_EPOCH)
        entries[name] = {
            "schedule": position.fingerprint,
            "last": _to_number(newest),
            "nodes": sorted(position.last),
            "behind": {n: _to_number(t) for n, t in position.last.items() if t != newest},
            "gaps": [[_to_number(start), _to_number(end)] for start, end in position.gaps],
        }
    owed = None if saved.owed_until is None else _to_number(saved.owed_until)
    return {"version": _VERSION, "owed_until": owed, "entries": entries}


def _decode(data: Any) -> Saved:
    if data["version"] != _VERSION:
        raise ValueError(f"version {data['version']!r}, expected {_VERSION}")
    positions = {
        name: Position(
            entry["schedule"],
            {node: _to_time(entry["behind"].get(node, entry["last"])) for node in entry["nodes"]},
            [(_to_time(start), _to_time(end)) for start, end in entry["gaps"]],
        )
        for name, entry in data["entries"].items()
    }
    owed = data["owed_until"]
    return Saved(positions, None if owed is None else _to_time(owed))


def _to_number(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _to_time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
