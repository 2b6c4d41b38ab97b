"""The instants at which a cron expression fires in a time zone, reckoned in UTC.

croniter matches the fields, in local time without a zone; what daylight saving does to a match is
decided here, as Debian's cron(8) does it:

- A fixed local time that a change skips fires once, right after the change. One that a change
  repeats fires once, the first time.
- Where the minute or hour field starts with ``*`` the entry follows real time: it fires at every
  instant whose local time matches, so a repeated hour fires twice and a skipped one not at all.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo

from croniter import croniter
from croniter.croniter import CroniterError

from celery_nodekit.exceptions import CronError

__all__ = ["Calendar"]

_UTC = timezone.utc
_SECOND = timedelta(seconds=1)
#: No zone changes its offset and back within this time.
_PROBE_STEP = timedelta(hours=6)


class Calendar:
    """Fire times of one cron expression in one zone.

    Args:
        fields: expression of five fields, or six with the seconds last.
        tz: zone in which the fields are meant.
        follows_clock: fire at every instant that matches, rather than once per local time.
        hash_id: what ``H`` fields are spread by.
        match_both_days: both day fields must match, as in ``celery.schedules.crontab``; cron and
            croniter take either.

    Raises:
        CronError: the expression cannot be read, or never fires.
    """

    def __init__(
        self,
        fields: str,
        tz: tzinfo,
        *,
        follows_clock: bool,
        hash_id: str | None = None,
        match_both_days: bool = False,
    ) -> None:
        self._tz = tz
        self._follows_clock = follows_clock
        try:
            self._matches = croniter(fields, 0.0, hash_id=hash_id, day_or=not match_both_days)
            self._matches.get_next(float)
        except (CroniterError, ValueError, KeyError, AttributeError) as exc:
            raise CronError(f"The cron expression {fields!r} cannot be used: {exc}.") from exc

    def next_after(self, after: datetime) -> datetime:
        """Return the first fire time after an instant, as an aware UTC datetime."""
        after = after.astimezone(_UTC)
        return self._next_real(after) if self._follows_clock else self._next_fixed(after)

    def _next_fixed(self, after: datetime) -> datetime:
        local = self._local(after)
        while True:
            local = self._next_match(local)
            fire = self._instant(local)
            # Within a repeated hour the first pass, which is the one that counts, may be over.
            if fire > after:
                return fire

    def _next_real(self, after: datetime) -> datetime:
        start, offset = self._local(after), self._offset(after)
        while True:
            fire = (self._next_match(start) - offset).replace(tzinfo=_UTC)
            change = self._first_change(after, fire)
            if change is None:
                return fire
            after, offset = change, self._offset(change)
            # The local time right at the change may itself match.
            start = self._local(change) - _SECOND

    def _next_match(self, local: datetime) -> datetime:
        # Naive local times go through croniter as if they were UTC, which has no changes.
        self._matches.set_current(local.replace(microsecond=0, tzinfo=_UTC).timestamp(), force=True)
        seconds: float = self._matches.get_next(float)
        return datetime.fromtimestamp(seconds, _UTC).replace(tzinfo=None)

    def _local(self, instant: datetime) -> datetime:
        return instant.astimezone(self._tz).replace(tzinfo=None)

    def _offset(self, instant: datetime) -> timedelta:
        return instant.astimezone(self._tz).utcoffset() or timedelta()

    def _instant(self, local: datetime) -> datetime:
        instant = local.replace(tzinfo=self._tz, fold=0).astimezone(_UTC)
        if self._local(instant) == local:
            return instant
        # Skipped: PEP 495 maps it past the change with fold=0 and before it with fold=1.
        before = local.replace(tzinfo=self._tz, fold=1).astimezone(_UTC)
        return self._bisect(before, instant)

    def _first_change(self, start: datetime, end: datetime) -> datetime | None:
        """Return when the zone's offset first changes in ``(start, end]``."""
        offset = self._offset(start)
        while start < end:
            probe = min(start + _PROBE_STEP, end)
            if self._offset(probe) != offset:
                return self._bisect(start, probe)
            start = probe
        return None

    def _bisect(self, start: datetime, end: datetime) -> datetime:
        start, end = start.replace(microsecond=0), end.replace(microsecond=0)
        offset = self._offset(start)
        while end - start > _SECOND:
            middle = start + (end - start) // 2
            middle = middle.replace(microsecond=0)
            if self._offset(middle) == offset:
                start = middle
            else:
                end = middle
        return end
