"""Fire times of any schedule, from the schedule alone: no last run, no state, no process.

Two processes that ask at different times agree on every fire time, so an occurrence has one
identity wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, Protocol

from celery.schedules import crontab, schedule, solar

from celery_nodekit.exceptions import ConfigurationError
from celery_nodekit.schedules.calendar import Calendar
from celery_nodekit.schedules.schedule import cron

__all__ = ["FireTimes", "Grid", "between", "fire_times", "latest"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class FireTimes(Protocol):
    """What a schedule must be able to say."""

    def next_after(self, after: datetime) -> datetime:
        """Return the first fire time after an instant, as an aware UTC datetime."""


class Grid:
    """Fire times of an interval: a grid on the Unix epoch, so that it survives every restart.

    Args:
        period: the interval; longer than zero.
        anchor: shifts the grid, for example 02:00 for a daily interval.
    """

    def __init__(self, period: timedelta, anchor: timedelta = timedelta()) -> None:
        if period <= timedelta():
            raise ConfigurationError(f"An interval must be longer than zero, not {period}.")
        self._period = period
        self._origin = _EPOCH + anchor

    def next_after(self, after: datetime) -> datetime:
        """Return the next point of the grid."""
        return self._origin + ((after - self._origin) // self._period + 1) * self._period


class _Solar:
    def __init__(self, event: solar) -> None:
        self._event = event

    def next_after(self, after: datetime) -> datetime:
        after = after.astimezone(timezone.utc)
        event = solar(
            self._event.event,
            self._event.lat,
            self._event.lon,
            nowfun=lambda: after,
            app=self._event.app,
        )
        start = after
        while True:
            fire: datetime = after + event.remaining_estimate(start)
            fire = (fire + timedelta(milliseconds=500)).replace(microsecond=0)
            if fire > after:
                return fire
            start += timedelta(seconds=1)  # rounding put it at or before `after`


def fire_times(schedule_: Any, *, tz: tzinfo, anchor: timedelta = timedelta()) -> FireTimes:
    """Return the fire times of a schedule.

    Args:
        schedule_: ``cron``, ``crontab``, ``schedule``, ``solar``, or anything with ``next_after``.
        tz: the app's time zone, in which a ``crontab`` is meant.
        anchor: see :class:`Grid`; for intervals only.

    Raises:
        ConfigurationError: this kind of schedule cannot say when it fires.
    """
    if isinstance(schedule_, cron):
        return schedule_
    if isinstance(schedule_, crontab):
        return _crontab_calendar(schedule_, tz)
    if isinstance(schedule_, solar):
        return _Solar(schedule_)
    if isinstance(schedule_, schedule):
        run_every: timedelta = schedule_.run_every  # type: ignore[attr-defined]
        return Grid(run_every, anchor)
    if callable(getattr(schedule_, "next_after", None)):
        found: FireTimes = schedule_
        return found
    raise ConfigurationError(
        f"{schedule_!r} cannot say when it fires, so it cannot be sent to several nodes; use"
        " cron(), crontab, an interval or solar, or give it a method"
        " next_after(datetime) -> datetime."
    )


def between(times: FireTimes, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the fire times in ``(after, until]``, oldest first."""
    fire = times.next_after(after)
    while fire <= until:
        yield fire
        fire = times.next_after(fire)


def latest(times: FireTimes, after: datetime, until: datetime) -> datetime | None:
    """Return the newest fire time in ``(after, until]``, walking through as few as it can."""
    newest = None
    for window in _WINDOWS:
        start = max(after, until - window)
        newest = max(between(times, start, until), default=None)
        if newest is not None or start == after:
            break
    return newest


_WINDOWS = tuple(timedelta(seconds=s) for s in (1, 60, 3_600, 86_400, 2_678_400, 63_072_000_000))


def _crontab_calendar(schedule_: Any, tz: tzinfo) -> Calendar:
    fields = (
        _field(schedule_.minute, range(60)),
        _field(schedule_.hour, range(24)),
        _field(schedule_.day_of_month, range(1, 32)),
        _field(schedule_.month_of_year, range(1, 13)),
        _field(schedule_.day_of_week, range(7)),
    )
    originals = (schedule_._orig_minute, schedule_._orig_hour)
    return Calendar(
        " ".join(fields),
        tz,
        follows_clock=any(isinstance(o, str) and o.strip().startswith("*") for o in originals),
        match_both_days=True,
    )


def _field(values: set[int], every: range) -> str:
    return "*" if values >= set(every) else ",".join(map(str, sorted(values)))
