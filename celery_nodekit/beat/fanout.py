"""Publishes what is due: every occurrence to every selected node, in fire order per node.

The only state is, per entry and node, the newest fire time done with. What is due follows from it
and the schedule, so an outage of any length is made up for without a list of what was missed.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Protocol

from celery_nodekit.beat.entries import FanoutEntry
from celery_nodekit.beat.occurrence import Occurrence
from celery_nodekit.beat.resume import SKEW, resume
from celery_nodekit.beat.state import Position, Saved
from celery_nodekit.exceptions import BrokerUnreachableError
from celery_nodekit.topology import Node, Topology

__all__ = ["Fanout", "PositionStore", "utc_now"]

logger = logging.getLogger(__name__)

#: Longest time between two looks at the entries, in seconds.
MAX_WAIT = 1.0
#: Occurrences published in one go, so that signals are handled in between.
BATCH = 500
#: Seconds that an occurrence may be late before it is said that beat cannot keep up.
LATE = 10.0
#: Seconds until a failed publish is tried again: the first time, and at most.
RETRY_FIRST, RETRY_MOST = 1.0, 15.0


class PositionStore(Protocol):
    """Keeps positions over restarts."""

    def load(self) -> Saved:
        """Return what was saved."""

    def save(self, saved: Saved) -> None:
        """Keep it."""


#: Publishes one occurrence. It raises ``BrokerUnreachableError`` when no node can be reached, and
#: anything else for this node alone.
Publish = Callable[[FanoutEntry, Node, Occurrence], None]


def utc_now() -> datetime:
    """Return the time as an aware UTC datetime."""
    return datetime.now(timezone.utc)


class _Delay:
    """Grows with each failure in a row."""

    __slots__ = ("seconds", "until")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.until: datetime | None = None

    def failed(self, now: datetime) -> None:
        self.seconds = min(self.seconds * 2, RETRY_MOST) or RETRY_FIRST
        self.until = now + timedelta(seconds=self.seconds)

    def worked(self) -> None:
        self.seconds, self.until = 0.0, None

    def holds(self, now: datetime) -> bool:
        return self.until is not None and self.until > now


class Fanout:
    """Walks the entries in the order in which they are due.

    Args:
        entries: what to publish.
        topology: chooses nodes for each fire time.
        namespace: of the occurrences.
        store: keeps positions.
        publish: sends one occurrence.
        clock: the time.
    """

    def __init__(
        self,
        entries: Iterable[FanoutEntry],
        *,
        topology: Topology,
        namespace: str,
        store: PositionStore,
        publish: Publish,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._topology = topology
        self._namespace = namespace
        self._store = store
        self._publish = publish
        self._clock = clock
        self._positions: dict[str, Position] = {}
        self._broker = _Delay()
        self._lanes: dict[tuple[str, str], _Delay] = {}
        self._failing: set[tuple[str, str]] = set()
        self._order = itertools.count()
        self._heap: list[tuple[datetime, int, FanoutEntry]] = []
        self._unsaved = False
        self._save_failed = False
        self._owed_until: datetime | None = None
        self._seen = clock()
        self._late_said = False

    def start(self) -> None:
        """Take up where the last run ended.

        A new entry, a new node and a changed schedule start from now. What the last beat still
        owed is published; of what was missed after that, while no beat ran, each node gets the
        newest occurrence.
        """
        now = self._clock()
        saved = self._store.load()
        for entry in self._entries.values():
            self._positions[entry.name] = resume(entry, saved, now)
            self._push(entry)
        self._unsaved = True
        self.save()

    def run_due(self) -> float:
        """Publish what is due and return the seconds until there may be more."""
        now = self._clock()
        if not self._heap:
            return MAX_WAIT
        self._notice_clock(now)
        if self._broker.holds(now):
            self._owe(now)
            self.save()
            return self._wait(self._broker.until, now)
        budget = BATCH
        try:
            while budget > 0 and self._heap[0][0] <= now:
                _due, _order, entry = heapq.heappop(self._heap)
                try:
                    budget -= max(1, self._run(entry, now, budget))
                finally:
                    self._push(entry)
        except BrokerUnreachableError as exc:
            self._broker.failed(now)
            logger.error(
                "The broker cannot be reached; due occurrences wait, next try in %.0f s: %s",
                self._broker.seconds,
                exc,
                extra={"action": "occurrences_wait"},
            )
        finally:
            self._owe(now)
            self.save()
        if self._broker.holds(now):
            return self._wait(self._broker.until, now)
        if budget <= 0:
            self._notice_delay(now)
            return 0.0
        return self._wait(self._heap[0][0], self._clock())

    def save(self) -> None:
        """Keep the positions, if they changed.

        A disk that is full must not end beat: it goes on with the positions it has, and saves them
        as soon as it can.
        """
        if not self._unsaved:
            return
        try:
            self._store.save(Saved(self._positions, self._owed_until))
        except OSError as exc:
            if not self._save_failed:
                logger.error(
                    "Could not save the positions of cron entries, so a restart would publish some"
                    " occurrences again: %s",
                    exc,
                    extra={"action": "positions_not_saved"},
                )
            self._save_failed = True
        else:
            self._unsaved = self._save_failed = False

    def _run(self, entry: FanoutEntry, now: datetime, budget: int) -> int:
        """Publish one entry's due occurrences, oldest first; return how many were tried."""
        last = self._positions[entry.name].last
        free = [node for node in entry.candidates if not self._lane(entry, node).holds(now)]
        if not free:
            return 1
        tried = 0
        for fire in self._due(entry, min(last[node.name] for node in free), now):
            chosen = self._topology.select(entry.selector, key=f"{entry.name}\0{fire.isoformat()}")
            picked = {node.name for node in chosen}
            for node in free:
                lane = self._lane(entry, node)
                if last[node.name] >= fire or lane.holds(now):
                    continue
                if node.name in picked:
                    tried += 1
                    if not self._attempt(entry, node, fire, now, lane):
                        continue
                last[node.name] = fire
                self._unsaved = True
            if tried >= budget:
                break
        return tried

    def _due(self, entry: FanoutEntry, after: datetime, now: datetime) -> Iterator[datetime]:
        fire = self._next(entry, after)
        while fire <= now:
            yield fire
            fire = self._next(entry, fire)

    def _next(self, entry: FanoutEntry, after: datetime) -> datetime:
        fire = entry.times.next_after(after)
        gaps = self._positions[entry.name].gaps
        return next((end for start, end in gaps if start < fire < end), fire)

    def _owe(self, now: datetime) -> None:
        """Keep until when something is owed, so that a restart does not take it for missed."""
        is_behind = self._broker.until or self._failing or self._heap[0][0] <= now
        owed_until = now if is_behind else None
        if owed_until is None and self._owed_until is None:
            return
        self._owed_until = owed_until
        self._unsaved = True

    def _notice_clock(self, now: datetime) -> None:
        if now > self._seen - SKEW:
            self._seen = max(self._seen, now)
            return
        logger.error(
            "The clock went back from %s to %s; cron entries go on from now, and what they already"
            " published for this time comes again under the same ids.",
            self._seen.isoformat(),
            now.isoformat(),
            extra={"action": "clock_went_back"},
        )
        self._seen = now
        for position in self._positions.values():
            position.last = {node: min(moment, now) for node, moment in position.last.items()}
            position.gaps.clear()
        self._heap.clear()
        for entry in self._entries.values():
            self._push(entry)
        self._unsaved = True

    def _notice_delay(self, now: datetime) -> None:
        late = (now - self._heap[0][0]).total_seconds()
        if late < LATE:
            self._late_said = False
        elif not self._late_said:
            self._late_said = True
            logger.warning(
                "Cron entries are %.0f s late, %s most of all: beat cannot publish as fast as they"
                " fall due. Longer intervals or fewer nodes help.",
                late,
                self._heap[0][2].name,
                extra={"action": "occurrences_late"},
            )

    def _attempt(
        self, entry: FanoutEntry, node: Node, fire: datetime, now: datetime, lane: _Delay
    ) -> bool:
        occurrence = Occurrence(
            namespace=self._namespace, entry=entry.name, fire=fire, node=node.name
        )
        try:
            self._publish(entry, node, occurrence)
        except BrokerUnreachableError:
            raise
        except Exception as exc:
            lane.failed(now)
            self._failing.add((entry.name, node.name))
            logger.error(
                "Could not publish %s of %s to %s, next try in %.0f s: %s",
                entry.name,
                fire.isoformat(),
                node.crontab_queue,
                lane.seconds,
                exc,
                extra={"action": "occurrence_failed", "entry": entry.name, "node": node.name},
            )
            return False
        lane.worked()
        self._failing.discard((entry.name, node.name))
        self._broker.worked()
        return True

    def _lane(self, entry: FanoutEntry, node: Node) -> _Delay:
        return self._lanes.setdefault((entry.name, node.name), _Delay())

    def _push(self, entry: FanoutEntry) -> None:
        last = self._positions[entry.name].last
        fires: dict[datetime, datetime] = {}
        due = []
        for node in entry.candidates:
            after = last[node.name]
            if after not in fires:
                fires[after] = self._next(entry, after)
            until = self._lane(entry, node).until
            due.append(fires[after] if until is None else max(until, fires[after]))
        heapq.heappush(self._heap, (min(due), next(self._order), entry))

    @staticmethod
    def _wait(until: datetime | None, now: datetime) -> float:
        seconds = MAX_WAIT if until is None else (until - now).total_seconds()
        return max(0.0, min(seconds, MAX_WAIT))
