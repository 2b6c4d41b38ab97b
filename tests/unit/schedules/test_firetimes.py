from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import BaseSchedule, crontab, schedule, solar
from hypothesis import given
from hypothesis import strategies as st

from celery_nodekit import cron
from celery_nodekit.exceptions import ConfigurationError
from celery_nodekit.schedules.firetimes import Grid, between, fire_times, latest

UTC = timezone.utc
START = datetime(2026, 11, 23, 5, 40, 30, tzinfo=UTC)


def times(schedule_, tz=UTC, **options):
    return fire_times(schedule_, tz=tz, **options)


class TestIntervals:
    def test_they_are_a_grid_on_the_epoch(self):
        assert times(schedule(timedelta(hours=6))).next_after(START) == datetime(
            2026, 11, 23, 6, tzinfo=UTC
        )
        assert times(schedule(30)).next_after(START) == START + timedelta(seconds=30)

    def test_an_anchor_shifts_the_grid(self):
        daily = times(schedule(timedelta(days=1)), anchor=timedelta(hours=2))
        assert daily.next_after(START) == datetime(2026, 11, 24, 2, tzinfo=UTC)

    def test_fractions_of_a_second_do_not_drift(self):
        grid = times(schedule(timedelta(seconds=0.1)))
        moment = START
        for _ in range(1000):
            moment = grid.next_after(moment)
        assert moment == START + timedelta(seconds=100)

    @pytest.mark.parametrize("period", [0, -5])
    def test_an_interval_must_be_longer_than_zero(self, period):
        with pytest.raises(ConfigurationError, match="longer than zero"):
            Grid(timedelta(seconds=period))

    @given(
        st.timedeltas(timedelta(microseconds=1), timedelta(days=400)),
        st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    )
    def test_every_process_sees_the_same_grid(self, period, moment):
        grid = Grid(period)
        fire = grid.next_after(moment)
        assert moment < fire <= moment + period
        assert grid.next_after(fire - timedelta(microseconds=1)) == fire


class TestCrontab:
    def test_it_is_meant_in_the_apps_zone(self):
        calendar = times(crontab(minute=0, hour=2), tz=ZoneInfo("Asia/Shanghai"))
        assert calendar.next_after(START) == datetime(2026, 11, 23, 18, tzinfo=UTC)

    def test_both_day_fields_must_match_as_in_celery(self):
        calendar = times(crontab(minute=0, hour=0, day_of_month=1, day_of_week="mon"))
        assert calendar.next_after(START) == datetime(2027, 2, 1, tzinfo=UTC)

    def test_changes_of_the_clock_leave_no_hole(self):
        calendar = times(crontab(minute=0), tz=ZoneInfo("Europe/Berlin"))
        start = datetime(2026, 10, 24, 22, 0, tzinfo=UTC)
        fires = list(between(calendar, start, start + timedelta(hours=5)))
        assert fires == [start + timedelta(hours=h) for h in range(1, 6)]

    def test_sets_and_ranges_are_understood(self):
        calendar = times(crontab(minute={0, 30}, hour="8-10/2", month_of_year="dec"))
        assert list(between(calendar, START, datetime(2026, 12, 1, 12, tzinfo=UTC))) == [
            datetime(2026, 12, 1, hour, minute, tzinfo=UTC)
            for hour in (8, 10)
            for minute in (0, 30)
        ]


def test_solar_events_are_rounded_to_a_second():
    sunset = times(solar("sunset", 52.5, 13.4))
    fire = sunset.next_after(START)
    assert fire.microsecond == 0
    assert fire.date() == START.date()
    assert sunset.next_after(fire) - fire > timedelta(hours=23)


def test_a_cron_is_its_own_fire_times():
    schedule_ = cron("@daily")
    assert times(schedule_) is schedule_


def test_anything_that_can_say_when_it_fires_is_taken():
    class Own(BaseSchedule):
        def next_after(self, after):
            return after + timedelta(seconds=1)

    assert times(Own()).next_after(START) == START + timedelta(seconds=1)


def test_a_schedule_that_cannot_say_when_it_fires_is_an_error():
    with pytest.raises(ConfigurationError, match="cannot say when it fires"):
        times(BaseSchedule())


class TestLatest:
    def test_it_is_the_newest_fire_in_the_span(self):
        minutely = times(cron("* * * * *", tz="UTC"))
        for span in (timedelta(minutes=3), timedelta(days=400), timedelta(days=20000)):
            assert latest(minutely, START - span, START) == START.replace(second=0)

    def test_there_may_be_none(self):
        yearly = times(cron("@yearly", tz="UTC"))
        assert latest(yearly, START - timedelta(days=90), START) is None
        assert latest(yearly, START - timedelta(days=9000), START).year == 2026

    def test_the_start_of_the_span_is_not_in_it(self):
        hourly = times(cron("@hourly", tz="UTC"))
        five, six = START.replace(hour=5, minute=0, second=0), START.replace(hour=6, minute=0)
        assert latest(hourly, five, five + timedelta(minutes=59)) is None
        assert latest(hourly, five, six.replace(second=0)) == six.replace(second=0)
