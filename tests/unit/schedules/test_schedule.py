from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab

from celery_nodekit import cron
from celery_nodekit.exceptions import CronError

UTC = timezone.utc
START = datetime(2026, 11, 23, 5, 40, 30, tzinfo=UTC)


def next_after(expression, **options):
    options.setdefault("tz", "UTC")
    return cron(expression, **options).next_after(START)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/5 * * * *", datetime(2026, 11, 23, 5, 45)),
        ("0 2 * * *", datetime(2026, 11, 24, 2)),
        ("@daily", datetime(2026, 11, 24)),
        ("@hourly", datetime(2026, 11, 23, 6)),
        ("@Weekly", datetime(2026, 11, 29)),
        ("@yearly", datetime(2027, 1, 1)),
        ("0 0 L * *", datetime(2026, 11, 30)),
        ("0 9 * * MON#1", datetime(2026, 12, 7, 9)),
        ("0 0 1 * mon", datetime(2026, 11, 30)),
        ("  0   6 * * *  ", datetime(2026, 11, 23, 6)),
    ],
)
def test_expressions_fire_when_cron_would(expression, expected):
    assert next_after(expression) == expected.replace(tzinfo=UTC)


def test_the_zone_is_that_of_the_expression():
    assert next_after("0 2 * * *", tz="Asia/Shanghai") == datetime(2026, 11, 23, 18, tzinfo=UTC)
    assert next_after("0 2 * * *", tz=ZoneInfo("Asia/Shanghai")).hour == 18


def test_the_zone_is_the_apps_where_none_is_given(make_app):
    schedule = cron("0 2 * * *", app=make_app(timezone="America/New_York"))
    assert schedule.next_after(START) == datetime(2026, 11, 23, 7, tzinfo=UTC)


class TestSixFields:
    def test_seconds_stand_where_it_is_said(self):
        assert next_after("30 0 2 * * *", seconds="first").second == 30
        assert next_after("0 2 * * * 30", seconds="last").second == 30
        assert next_after("* * * * * */10", seconds="last") == START.replace(second=40)

    def test_without_saying_it_is_an_error(self):
        with pytest.raises(CronError, match="say where the seconds are"):
            cron("0 0 2 * * *")

    def test_five_fields_with_seconds_is_an_error(self):
        with pytest.raises(CronError, match="has 5 fields; a cron expression has six fields"):
            cron("0 2 * * *", seconds="first")

    def test_a_wrong_place_is_an_error(self):
        with pytest.raises(CronError, match='seconds must be "first" or "last"'):
            cron("0 0 2 * * *", seconds="middle")


class TestHash:
    def test_the_name_of_the_entry_spreads_it(self):
        minutes = {
            cron("H 3 * * *", tz="UTC").named(f"entry{i}").next_after(START).minute
            for i in range(40)
        }
        assert len(minutes) > 15

    def test_it_is_the_same_in_every_process(self):
        fires = {cron("H H * * *", tz="UTC").named("e").next_after(START) for _ in range(3)}
        assert len(fires) == 1

    def test_an_explicit_id_wins_over_the_name(self):
        fixed = cron("H 3 * * *", tz="UTC", hash_id="x")
        assert fixed.named("a") == fixed.named("b") == fixed

    def test_other_expressions_do_not_depend_on_the_name(self):
        schedule = cron("@daily")
        assert schedule.named("a") is schedule

    def test_weekdays_with_an_h_are_no_hash(self):
        assert next_after("0 0 * * THU") == datetime(2026, 11, 26, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("", "A cron expression is a string"),
        (None, "A cron expression is a string"),
        (5, "A cron expression is a string"),
        ("* * * *", "has 4 fields; a cron expression has five fields"),
        ("* * * * * * *", "has 7 fields"),
        ("60 * * * *", "out of range"),
        ("a * * * *", "cannot be used"),
        ("0 0 30 2 *", "failed to find next date"),
        ("@dayly", "Unknown cron alias '@dayly'. Did you mean '@daily'"),
        ("@reboot", "Unknown cron alias"),
        ("R * * * *", "R is a different random time in every process; use H"),
        ("*/0 * * * *", "cannot be used"),
    ],
)
def test_a_bad_expression_is_an_error_that_says_why(expression, expected):
    with pytest.raises(CronError, match=expected):
        cron(expression)


@pytest.mark.parametrize("tz", ["Mars/Olympus", "", "../etc/passwd"])
def test_an_unknown_zone_is_an_error(tz):
    with pytest.raises(CronError, match="Unknown time zone"):
        cron("* * * * *", tz=tz)


def test_a_zone_without_a_name_is_an_error():
    class Nameless(tzinfo):
        def tzname(self, dt):
            return None

    with pytest.raises(CronError, match="Unknown time zone"):
        cron("* * * * *", tz=Nameless())


def test_using_it_as_a_decorator_is_an_error_that_names_the_right_one():
    with pytest.raises(CronError, match=r"Did you mean @kit\.cron"):

        @cron("* * * * *")
        def task(): ...


def test_equal_ones_fire_at_the_same_times():
    assert cron("@daily") == cron("0 0 * * *")
    assert cron("0 0 2 * * *", seconds="first") == cron("0 2 * * * 0", seconds="last")
    assert cron("@daily") != cron("@hourly")
    assert cron("@daily", tz="UTC") != cron("@daily")
    assert cron("@daily") != crontab(hour=0, minute=0)
    assert len({cron("@daily"), cron("0 0 * * *")}) == 1


def test_it_pickles_without_the_app(make_app):
    schedule = cron("H 0 2 * * *", seconds="first", tz="Asia/Shanghai", app=make_app())
    schedule.next_after(START)
    copy = pickle.loads(pickle.dumps(schedule.named("e")))
    assert copy == schedule.named("e")
    assert copy.next_after(START) == schedule.named("e").next_after(START)


def test_its_repr_is_how_it_was_written():
    assert repr(cron("@daily", tz="UTC")) == "cron('@daily', tz='UTC')"
    assert repr(cron("0 0 2 * * *", seconds="first")) == "cron('0 0 2 * * *', seconds='first')"


class TestAsACelerySchedule:
    def test_it_is_due_from_its_fire_time_on(self):
        schedule = cron("*/5 * * * *", tz="UTC", nowfun=lambda: START)
        due, wait = schedule.is_due(START - timedelta(minutes=1))
        assert (due, wait) == (True, 270)
        due, wait = schedule.is_due(START)
        assert (due, wait) == (False, 270)

    def test_remaining_time_is_real_time_across_a_change(self):
        berlin = ZoneInfo("Europe/Berlin")
        now = datetime(2026, 3, 29, 1, 0, tzinfo=berlin)
        schedule = cron("0 4 * * *", tz="Europe/Berlin", nowfun=lambda: now)
        assert schedule.remaining_estimate(now) == timedelta(hours=2)

    def test_the_current_time_comes_from_the_app(self, make_app):
        app = make_app()
        due, wait = cron("* * * * *", app=app).is_due(app.now())
        assert due is False
        assert 0 < wait <= 60
