"""Fire times around changes of the clock, on real dates."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_nodekit import cron

UTC = timezone.utc
#: Zone, local day on which clocks go forward, on which they go back.
CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2027-03-14", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-10-04", "2026-04-05"),
}


def runs(expression, zone, day, **options):
    """Return every run on a local day, as 'HH:MM+offset'."""
    tz = ZoneInfo(zone)
    start = datetime.fromisoformat(day).replace(tzinfo=tz).astimezone(UTC)
    end = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=tz).astimezone(UTC)
    schedule = cron(expression, tz=zone, **options)
    found, moment = [], schedule.next_after(start - timedelta(seconds=1))
    while moment < end:
        found.append(moment.astimezone(tz).strftime("%H:%M%z"))
        moment = schedule.next_after(moment)
    return found


class TestSkippedTimes:
    def test_a_fixed_time_runs_once_right_after_the_gap(self):
        assert runs("30 2 * * *", "Europe/Berlin", "2026-03-29") == ["03:00+0200"]
        assert runs("30 2 * * *", "America/New_York", "2027-03-14") == ["03:00-0400"]
        assert runs("15 2 * * *", "Australia/Lord_Howe", "2026-10-04") == ["02:30+1100"]

    def test_several_fixed_times_in_the_gap_are_one_run(self):
        assert runs("0,30 2 * * *", "Europe/Berlin", "2026-03-29") == ["03:00+0200"]

    def test_a_fixed_time_right_after_the_gap_is_itself(self):
        assert runs("0 3 * * *", "America/New_York", "2027-03-14") == ["03:00-0400"]

    def test_wildcards_follow_the_clock(self):
        hours = runs("0 * * * *", "Europe/Berlin", "2026-03-29")
        assert len(hours) == 23
        assert hours[:3] == ["00:00+0100", "01:00+0100", "03:00+0200"]
        assert runs("*/30 2 * * *", "Europe/Berlin", "2026-03-29") == []
        assert runs("*/15 * * * *", "Australia/Lord_Howe", "2026-10-04")[6:10] == [
            "01:30+1030",
            "01:45+1030",
            "02:30+1100",
            "02:45+1100",
        ]


class TestRepeatedTimes:
    def test_a_fixed_time_runs_once_the_first_time(self):
        assert runs("30 2 * * *", "Europe/Berlin", "2026-10-25") == ["02:30+0200"]
        assert runs("30 1 * * *", "America/New_York", "2026-11-01") == ["01:30-0400"]
        assert runs("45 1 * * *", "Australia/Lord_Howe", "2026-04-05") == ["01:45+1100"]

    def test_wildcard_hours_follow_the_clock_without_a_hole(self):
        hours = runs("0 * * * *", "Europe/Berlin", "2026-10-25")
        assert len(hours) == 25
        assert hours[1:5] == ["01:00+0200", "02:00+0200", "02:00+0100", "03:00+0100"]
        assert len(runs("0 * * * *", "America/New_York", "2026-11-01")) == 25

    def test_wildcard_minutes_follow_the_clock(self):
        assert runs("*/30 2 * * *", "Europe/Berlin", "2026-10-25") == [
            "02:00+0200",
            "02:30+0200",
            "02:00+0100",
            "02:30+0100",
        ]
        assert len(runs("*/10 * * * *", "Australia/Lord_Howe", "2026-04-05")) == 6 * 24 + 3


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("hour", range(4))
@pytest.mark.parametrize("minute", [0, 15, 30, 59])
def test_a_fixed_time_runs_exactly_once_on_days_of_change(zone, hour, minute):
    for day in CHANGES[zone]:
        assert len(runs(f"{minute} {hour} * * *", zone, day)) == 1


@pytest.mark.parametrize("zone", CHANGES)
def test_quarter_hours_are_never_more_than_a_quarter_of_an_hour_apart(zone):
    schedule = cron("*/15 * * * *", tz=zone)
    for day in CHANGES[zone]:
        moment = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=24)
        for _ in range(300):
            following = schedule.next_after(moment)
            assert following - moment == timedelta(minutes=15)
            moment = following


def test_every_minute_of_a_rare_day_is_found():
    assert len(runs("* * 29 2 *", "Europe/Berlin", "2028-02-29")) == 24 * 60
    schedule = cron("* * 29 2 *", tz="Europe/Berlin")
    assert schedule.next_after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(
        2028, 2, 28, 23, tzinfo=UTC
    )


@settings(max_examples=60, deadline=None)
@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
    st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 1 * *", "15 */2 * * 1-5"]),
    st.sampled_from([*CHANGES, "UTC", "Asia/Kathmandu"]),
)
def test_the_next_fire_is_later_and_nothing_lies_between(moment, expression, zone):
    schedule = cron(expression, tz=zone)
    fire = schedule.next_after(moment)
    assert fire > moment
    middle = moment + (fire - moment) / 2
    assert schedule.next_after(middle) == fire
    assert schedule.next_after(fire - timedelta(microseconds=1)) == fire
