"""Tables in the pages that could stop being true."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab

from celery_nodekit import cron
from celery_nodekit.schedules.firetimes import between, fire_times

PAGES = Path(__file__).parent
CLOCK_CHANGES = (("Europe/Berlin", "2026-10-25"), ("America/New_York", "2027-03-14"))


@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "0,30 2 * * *", "*/30 2 * * *", "0 * * * *", "0 3 * * *"]
)
def test_the_table_of_clock_changes_is_what_schedules_do(expression: str) -> None:
    minute, hour = expression.split()[:2]
    row = [f"`{expression}`"]
    for name, day in CLOCK_CHANGES:
        zone = ZoneInfo(name)
        times = _times(cron(expression, tz=name), zone, day)
        stock = fire_times(crontab(minute=minute, hour=hour), tz=zone)
        assert _times(stock, zone, day) == times
        row.append(f"{len(times)} times" if len(times) > 4 else ", ".join(times) or "not at all")

    assert f"| {' | '.join(row)} |" in (PAGES / "explanation" / "fanout.md").read_text("utf-8")


def _times(schedule: Any, zone: ZoneInfo, day: str) -> list[str]:
    start = datetime.fromisoformat(day).replace(tzinfo=zone)
    end = start + timedelta(days=1)
    moment = timedelta(microseconds=1)
    fires = between(
        schedule, start.astimezone(timezone.utc) - moment, end.astimezone(timezone.utc) - moment
    )
    return [fire.astimezone(zone).strftime("%H:%M%z")[:8] for fire in fires]
