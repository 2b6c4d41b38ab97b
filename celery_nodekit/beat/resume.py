"""Where an entry goes on after a restart of beat."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from celery_nodekit.beat.entries import FanoutEntry
from celery_nodekit.beat.state import Position, Saved
from celery_nodekit.schedules.firetimes import latest

__all__ = ["SKEW", "resume"]

logger = logging.getLogger(__name__)

#: A time that is this far in the future came from a clock that was wrong.
SKEW = timedelta(minutes=5)


def resume(entry: FanoutEntry, saved: Saved, now: datetime) -> Position:
    """Return the position from which an entry goes on.

    A new entry, a new node and a changed schedule start from now. What the last beat still owed is
    due; of what was missed after that, while no beat ran, only the newest occurrence is.
    """
    old = saved.positions.get(entry.name)
    if old is None or old.fingerprint != entry.fingerprint:
        return Position(entry.fingerprint, {node.name: now for node in entry.candidates})
    known = {node: moment for node, moment in old.last.items() if moment < now + SKEW}
    if len(known) < len(old.last):
        logger.error(
            "%s was published up to %s, which is still to come: the clock was wrong. It goes on"
            " from now.",
            entry.name,
            max(old.last.values()).isoformat(),
            extra={"action": "clock_was_ahead", "entry": entry.name},
        )
    last = {node.name: known.get(node.name, now) for node in entry.candidates}
    carried = [moment for node, moment in last.items() if node in known]
    if not carried:
        return Position(entry.fingerprint, last)
    gaps = [gap for gap in old.gaps if gap[1] > min(carried)]
    start = max(carried if saved.owed_until is None else [*carried, saved.owed_until])
    newest = latest(entry.times, start, now)
    if newest is not None:
        gaps.append((start, newest))
    return Position(entry.fingerprint, last, gaps)
