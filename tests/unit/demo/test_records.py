from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from celery_nodekit.demo.records import (
    CronCell,
    Event,
    Record,
    RecordBook,
    RecordLog,
    RecordReader,
    Window,
    due_fires,
    iso,
)
from celery_nodekit.demo.settings import CronEntry

ENTRY = CronEntry(name="tick", period=2, nodes=("node1", "node2"))
WINDOW = Window(start=100.0, end=104.0)


def record(event: Event, task: str = "t1", **fields: Any) -> Record:
    return Record(**{"event": event, "at": 1.0, "pid": 7, "task": task, **fields})


def tick(event: Event, second: int, node: str, **fields: Any) -> Record:
    return record(event, f"{second}-{node}", entry="tick", fire=iso(second), node=node, **fields)


def book_of(*records: Record) -> RecordBook:
    book = RecordBook()
    book.add(records)
    return book


def all_ticks(event: Event) -> list[Record]:
    return [tick(event, second, node) for second in (102, 104) for node in ENTRY.nodes]


def test_a_record_survives_its_line() -> None:
    written = tick(Event.FINISHED, 102, "node1", worker="w@h", at=1.25)

    assert Record.from_line(written.to_line()) == written
    assert written.second == 102


def test_a_line_holds_only_what_is_known() -> None:
    assert json.loads(record(Event.BEAT_READY, "").to_line()) == {
        "event": "beat-ready",
        "at": 1.0,
        "pid": 7,
    }


def test_a_process_appends_to_a_file_of_its_own(tmp_path: Path) -> None:
    log = RecordLog(tmp_path)

    first, second = log.write(Event.STARTED, task="a"), log.write(Event.FINISHED, task="a")

    assert [path.name for path in tmp_path.iterdir()] == [f"{os.getpid()}.jsonl"]
    assert RecordReader(tmp_path).poll() == [first, second]


def test_the_reader_returns_each_record_once_and_oldest_first(tmp_path: Path) -> None:
    late, early = record(Event.STARTED, "late", at=2.0), record(Event.STARTED, "early", at=1.0)
    (tmp_path / "1.jsonl").write_bytes(late.to_line())
    (tmp_path / "2.jsonl").write_bytes(early.to_line())
    reader = RecordReader(tmp_path)

    assert reader.poll() == [early, late]
    assert reader.poll() == []


def test_the_reader_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    line = record(Event.STARTED).to_line()
    path = tmp_path / "1.jsonl"
    reader = RecordReader(tmp_path)

    path.write_bytes(line[:10])
    assert reader.poll() == []
    path.write_bytes(line)
    assert reader.poll() == [record(Event.STARTED)]


@pytest.mark.parametrize(
    ("start", "end", "fires"),
    [
        (100.0, 104.0, {102, 104}),
        (99.999, 104.0, {100, 102, 104}),
        (100.001, 103.999, {102}),
        (100.0, 101.9, set()),
        (100.0, 100.0, set()),
    ],
)
def test_fires_are_due_after_the_start_up_to_the_end(
    start: float, end: float, fires: set[int]
) -> None:
    assert due_fires(ENTRY, Window(start=start, end=end)) == fires


@pytest.mark.parametrize("period", [2, 3])
def test_due_fires_are_those_of_the_schedules_that_the_demo_uses(period: int) -> None:
    from celery.schedules import schedule

    from celery_nodekit.schedules import cron
    from celery_nodekit.schedules.firetimes import between, fire_times

    entry = CronEntry(name="e", period=period, nodes=("node1",))
    start = 1_700_000_000.5
    window = Window(start=start, end=start + 200)
    for kind in (cron(f"*/{period} * * * * *", seconds="first"), schedule(float(period))):
        times = fire_times(kind, tz=timezone.utc)
        fires = between(
            times,
            datetime.fromtimestamp(window.start, timezone.utc),
            datetime.fromtimestamp(window.end, timezone.utc),
        )
        assert {round(fire.timestamp()) for fire in fires} == due_fires(entry, window)


def test_tasks_that_all_ran_once_leave_nothing_to_report() -> None:
    verdict = book_of(
        record(Event.SUBMITTED, "a"),
        record(Event.SUBMITTED, "b", node="node2"),
        record(Event.STARTED, "a", node="node1"),
        record(Event.FINISHED, "a", node="node1"),
        record(Event.STARTED, "b", node="node2"),
        record(Event.FINISHED, "b", node="node2"),
    ).judge_tasks()

    assert (verdict.submitted, verdict.finished) == (2, 2)
    assert verdict.lost == verdict.duplicated == verdict.interrupted == verdict.astray == ()


def test_a_task_that_never_ran_to_its_end_is_lost() -> None:
    verdict = book_of(
        record(Event.SUBMITTED, "a"), record(Event.SUBMITTED, "b"), record(Event.STARTED, "b")
    ).judge_tasks()

    assert verdict.lost == ("a", "b")
    assert verdict.interrupted == ("b",)
    assert verdict.finished == 0


def test_a_task_that_was_cut_short_and_ran_again_is_interrupted_and_not_duplicated() -> None:
    verdict = book_of(
        record(Event.SUBMITTED, "a"),
        record(Event.STARTED, "a", pid=1),
        record(Event.STARTED, "a", pid=2),
        record(Event.FINISHED, "a", pid=2),
    ).judge_tasks()

    assert verdict.interrupted == ("a",)
    assert verdict.duplicated == verdict.lost == ()


def test_a_task_that_ran_to_its_end_twice_is_duplicated() -> None:
    run = [record(Event.STARTED, "a"), record(Event.FINISHED, "a")]
    verdict = book_of(record(Event.SUBMITTED, "a"), *run, *run).judge_tasks()

    assert verdict.duplicated == ("a",)
    assert verdict.finished == 1


def test_a_task_that_ran_on_another_node_is_astray() -> None:
    verdict = book_of(
        record(Event.SUBMITTED, "a", node="node2"), record(Event.FINISHED, "a", node="node1")
    ).judge_tasks()

    assert verdict.astray == ("a",)


def test_cron_occurrences_are_not_counted_among_the_tasks() -> None:
    assert book_of(*all_ticks(Event.FINISHED)).judge_tasks().finished == 0


def test_an_entry_that_ran_everywhere_misses_nothing() -> None:
    book = book_of(*all_ticks(Event.PUBLISHED), *all_ticks(Event.FINISHED))

    cell = CronCell(due=2, published=2, ran=2, missing=(), duplicated=())
    assert book.judge_cron([ENTRY], WINDOW) == {"tick": {"node1": cell, "node2": cell}}


def test_a_fire_that_was_never_published_is_missing() -> None:
    book = book_of(
        *(tick(event, 102, "node1") for event in (Event.PUBLISHED, Event.FINISHED)),
    )

    cells = book.judge_cron([ENTRY], WINDOW)["tick"]
    assert cells["node1"] == CronCell(due=2, published=1, ran=1, missing=(104,), duplicated=())
    assert cells["node2"].missing == (102, 104)


def test_a_fire_that_was_published_and_did_not_run_is_missing() -> None:
    book = book_of(*all_ticks(Event.PUBLISHED), *all_ticks(Event.FINISHED)[:-1])

    assert book.judge_cron([ENTRY], WINDOW)["tick"]["node2"].missing == (104,)


def test_a_fire_that_ran_on_another_node_is_missing_on_its_own() -> None:
    finished = [*all_ticks(Event.FINISHED)[:-1], tick(Event.FINISHED, 104, "node1")]
    cells = book_of(*all_ticks(Event.PUBLISHED), *finished).judge_cron([ENTRY], WINDOW)["tick"]

    assert cells["node2"].missing == (104,)
    assert cells["node1"].duplicated == (104,)


def test_what_beat_published_after_the_window_must_run_too() -> None:
    book = book_of(
        *all_ticks(Event.PUBLISHED),
        *all_ticks(Event.FINISHED),
        tick(Event.PUBLISHED, 106, "node1"),
    )

    cells = book.judge_cron([ENTRY], WINDOW)["tick"]
    assert cells["node1"] == CronCell(due=3, published=3, ran=2, missing=(106,), duplicated=())
    assert cells["node2"].missing == ()


def test_only_tasks_that_did_not_end_in_the_same_process_are_running() -> None:
    book = book_of(
        record(Event.STARTED, "a", pid=1, worker="w1"),
        record(Event.FINISHED, "a", pid=1, worker="w1"),
        record(Event.STARTED, "b", pid=1, worker="w1"),
        record(Event.STARTED, "b", pid=2, worker="w2"),
        record(Event.FINISHED, "b", pid=2, worker="w2"),
    )

    assert [r.task for r in book.running("w1")] == ["b"]
    assert book.running("w2") == []
