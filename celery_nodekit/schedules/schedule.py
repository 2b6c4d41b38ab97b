"""``cron()``: a Celery schedule from a cron expression."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from celery.schedules import BaseSchedule, schedstate

from celery_nodekit.exceptions import CronError, did_you_mean
from celery_nodekit.schedules.calendar import Calendar

__all__ = ["cron"]

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_HASHED = re.compile(r"(?<![a-z])h(?![a-z])", re.IGNORECASE)
_RANDOM = re.compile(r"(?<![a-z])r(?![a-z])", re.IGNORECASE)


class cron(BaseSchedule):
    """A schedule written as a cron expression.

    Usable wherever Celery takes a schedule. Two of them are equal when they fire at the same times,
    and it pickles without an app, so ``PersistentScheduler`` can store it.

    Args:
        expression: five fields (minute, hour, day of month, month, day of week), an alias such as
            ``@daily``, or six fields together with ``seconds``. ``L``, ``#`` and ``H`` work as in
            croniter; when both day fields are given, either may match, as in cron.
        tz: name of the zone the fields are meant in; the app's ``timezone`` by default.
        seconds: ``"first"`` or ``"last"``, where the seconds stand in six fields. There is no
            default: programs differ, and ``0 0 2 * * *`` is valid in both readings.
        hash_id: what ``H`` is spread by; the name of the entry by default.

    Raises:
        CronError: the expression or the zone cannot be used; the message says why.
    """

    nowfun: Any

    def __init__(
        self,
        expression: str,
        *,
        tz: str | tzinfo | None = None,
        seconds: str | None = None,
        hash_id: str | None = None,
        nowfun: Any = None,
        app: Any = None,
    ) -> None:
        super().__init__(nowfun=nowfun, app=app)
        self.expression = expression
        self.seconds = seconds
        self.hash_id = hash_id
        self._given_app = app
        self.tz_name = _zone_name(tz)
        self._fields = _read_fields(expression, seconds)
        self._calendar: Calendar | None = None
        self._calendar_tz: tzinfo | None = None
        self._build(timezone.utc)  # finds mistakes now, where the traceback shows the entry

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse to decorate a task; that is what ``@kit.cron`` does."""
        raise CronError(
            f"cron({self.expression!r}) is a schedule for beat_schedule, not a decorator."
            " Did you mean @kit.cron(...), with kit = NodeKit(app)?"
        )

    def next_after(self, after: datetime) -> datetime:
        """Return the first fire time after an instant, as an aware UTC datetime."""
        zone: Any = ZoneInfo(self.tz_name) if self.tz_name else self.tz
        if self._calendar is None or self._calendar_tz != zone:
            self._calendar = self._build(zone)
            self._calendar_tz = zone
        return self._calendar.next_after(after)

    def named(self, entry: str) -> cron:
        """Return the schedule as that entry has it: ``H`` is spread by the entry's name."""
        if self.hash_id is not None or not _HASHED.search(self._fields):
            return self
        return cron(
            self.expression,
            tz=self.tz_name,
            seconds=self.seconds,
            hash_id=entry,
            nowfun=self.nowfun,
            app=self._given_app,
        )

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return the time from now to the first fire after ``last_run_at``; negative if past."""
        return self.next_after(self._aware(last_run_at)) - self._aware(self.now())

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether it is due, and the seconds until it is next.

        See ``celery.schedules.BaseSchedule.is_due``.
        """
        now = self._aware(self.now())
        fire = self.next_after(self._aware(last_run_at))
        if fire > now:
            return schedstate(False, (fire - now).total_seconds())
        return schedstate(True, (self.next_after(now) - now).total_seconds())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, cron):
            return self._identity() == other._identity()
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        zone = f", tz={self.tz_name!r}" if self.tz_name else ""
        seconds = f", seconds={self.seconds!r}" if self.seconds else ""
        return f"cron({self.expression!r}{zone}{seconds})"

    def __reduce__(self) -> Any:
        return _rebuild, (self.expression, self.tz_name, self.seconds, self.hash_id)

    def _identity(self) -> tuple[str, str | None, str | None]:
        return (self._fields, self.tz_name, self.hash_id)

    def _build(self, zone: tzinfo) -> Calendar:
        hashed = _HASHED.search(self._fields)
        minute, hour = self._fields.split()[:2]
        return Calendar(
            self._fields,
            zone,
            follows_clock=minute.startswith("*") or hour.startswith("*"),
            hash_id=(self.hash_id or "") if hashed else None,
        )

    def _aware(self, moment: datetime) -> datetime:
        aware: datetime = self.maybe_make_aware(moment)
        # Datetimes of one zone subtract by wall clock, which is wrong across a change.
        return aware.astimezone(timezone.utc)


def _rebuild(
    expression: str, tz_name: str | None, seconds: str | None, hash_id: str | None
) -> cron:
    return cron(expression, tz=tz_name, seconds=seconds, hash_id=hash_id)


def _zone_name(tz: str | tzinfo | None) -> str | None:
    if tz is None:
        return None
    name = tz if isinstance(tz, str) else getattr(tz, "key", None) or tz.tzname(None)
    try:
        return ZoneInfo(str(name)).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise CronError(
            f"Unknown time zone {name!r}; use a name such as 'Asia/Shanghai'. (On systems without"
            " a zone database, pip install tzdata.)"
        ) from exc


def _read_fields(expression: object, seconds: str | None) -> str:
    if not isinstance(expression, str) or not expression.strip():
        raise CronError(f"A cron expression is a string such as '*/5 * * * *', not {expression!r}.")
    if seconds not in (None, "first", "last"):
        raise CronError(f'seconds must be "first" or "last", not {seconds!r}.')
    text = expression.strip()
    if text.startswith("@"):
        try:
            text = _ALIASES[text.lower()]
        except KeyError:
            raise CronError(
                f"Unknown cron alias {text!r}.{did_you_mean(text.lower(), _ALIASES)}"
                f" Known: {', '.join(_ALIASES)}."
            ) from None
    parts = text.split()
    if _RANDOM.search(text):
        raise CronError(
            f"{expression!r}: R is a different random time in every process; use H, which is spread"
            " by the entry's name."
        )
    if len(parts) == 6 and seconds is None:
        raise CronError(
            f"{expression!r} has six fields; say where the seconds are, seconds='first' or"
            " seconds='last', or leave them out."
        )
    if len(parts) not in (5, 6) or (len(parts) == 5 and seconds is not None):
        wanted = "six fields with seconds=" if seconds else "five fields"
        raise CronError(f"{expression!r} has {len(parts)} fields; a cron expression has {wanted}.")
    if seconds == "first":
        parts = [*parts[1:], parts[0]]
    return " ".join(parts)
