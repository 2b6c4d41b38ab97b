from __future__ import annotations

import io
import json
from typing import Any

import pytest

from celery_nodekit.demo.records import CronCell, TaskVerdict
from celery_nodekit.demo.report import Incident, NodeProcess, QueueState, Report, Snapshot
from celery_nodekit.demo.view import JsonView, PlainView, RichView, make_view, summary

GOOD = CronCell(due=3, published=3, ran=3, missing=(), duplicated=())
BAD = CronCell(due=3, published=3, ran=2, missing=(1_700_000_000,), duplicated=())
INCIDENT = Incident(
    kind="SIGTERM",
    worker="node2-worker0@h",
    running=2,
    finished_there=1,
    ran_again=1,
    lost=0,
    exit_code=0,
    stopped_after=1.23,
    back_after=2.0,
)


def tasks(**fields: Any) -> TaskVerdict:
    nothing: dict[str, Any] = {"lost": (), "duplicated": (), "interrupted": (), "astray": ()}
    return TaskVerdict(**{"submitted": 10, "finished": 10, **nothing, **fields})


def queue(name: str = "node1-crontab", consumers: Any = ("w",)) -> QueueState:
    return QueueState(name=name, consumers=consumers, waiting=0, is_crontab=True)


def report(**fields: Any) -> Report:
    return Report(
        **{
            "broker": "a server of its own",
            "nodes": ("node1", "node2"),
            "seconds": 8.0,
            "tasks": tasks(),
            "cron": {"every": {"node1": GOOD, "node2": GOOD}, "one": {"node2": GOOD}},
            "crontab_queues": [queue()],
            "left_over": 0,
            "incidents": [INCIDENT],
            **fields,
        }
    )


def snapshot(**fields: Any) -> Snapshot:
    process = NodeProcess(name="node1-worker-0", state="READY", pid=7, running=1, finished=2)
    return Snapshot(
        **{
            "title": "demo",
            "phase": "at work",
            "nodes": ("node1", "node2"),
            "processes": [process],
            "queues": [queue()],
            "tasks": tasks(),
            "cron": {"every": {"node1": GOOD, "node2": BAD}},
            **fields,
        }
    )


def text(made: Report) -> str:
    return "\n".join(summary(made))


def test_a_run_in_which_everything_ran_is_ok() -> None:
    made = report()

    assert made.ok
    assert (made.missing_ticks, made.duplicated_ticks, made.unread) == (0, 0, [])
    assert "Nothing was lost" in text(made)


@pytest.mark.parametrize(
    "fields",
    [
        {"tasks": tasks(lost=("a",))},
        {"tasks": tasks(astray=("a",))},
        {"cron": {"every": {"node1": GOOD, "node2": BAD}}},
    ],
)
def test_a_run_that_lost_or_missed_something_is_not_ok(fields: dict[str, Any]) -> None:
    made = report(**fields)

    assert not made.ok
    assert made.to_json()["ok"] is False
    assert "Something was lost" in text(made)


def test_second_runs_are_counted_and_are_no_failure() -> None:
    twice = CronCell(due=3, published=3, ran=3, missing=(), duplicated=(5,))
    made = report(tasks=tasks(duplicated=("a",)), cron={"every": {"node1": twice}})

    assert made.ok
    assert made.duplicated_ticks == 1
    assert "1 duplicated" in text(made)


def test_missing_ticks_are_listed_up_to_a_number() -> None:
    many = CronCell(due=30, published=0, ran=0, missing=tuple(range(30)), duplicated=())

    made = text(report(cron={"every": {"node2": many}}))

    assert "Missing: every of 1970-01-01T00:00:09+00:00 on node2." in made
    assert "00:00:10" not in made
    assert "... and 20 more." in made


def test_the_summary_names_crontab_queues_that_no_worker_consumes() -> None:
    assert "Every crontab queue has a worker." in text(report())
    made = report(crontab_queues=[queue(), queue("node2-crontab", ())])
    assert "No worker consumes node2-crontab." in text(made)


def test_the_summary_tells_what_came_of_an_incident() -> None:
    assert (
        "SIGTERM to node2-worker0@h while it ran 2 task(s): 1 finished there, 1 ran again, 0 lost."
        " It ended with exit code 0 after 1.2 s and was back 2.0 s after its start."
    ) in text(report())


def test_the_summary_says_where_files_are_kept() -> None:
    assert "are in" not in text(report())
    assert "Logs, configuration and records are in /keep." in text(report(kept="/keep"))


def test_plain_lines_hold_the_matrix_and_the_summary() -> None:
    out = io.StringIO()

    PlainView(out).finish(report())

    lines = out.getvalue().splitlines()
    assert lines[1:4] == [
        "ran / due  node1  node2",
        "every      3/3    3/3",
        "one        -      3/3",
    ]
    assert "Tasks: 10 submitted, 10 finished, 0 lost" in lines[5]


def test_plain_progress_comes_now_and_then_and_names_unread_crontab_queues() -> None:
    out, now = io.StringIO(), [0.0]
    view = PlainView(out, clock=lambda: now[0])

    view.update(snapshot())
    assert out.getvalue() == ""
    now[0] = 5.0
    view.update(snapshot(queues=[queue(), queue("node2-crontab", ()), queue("node3", None)]))
    view.update(snapshot())

    (line,) = out.getvalue().splitlines()
    assert line == (
        "at work: 1 of 1 processes ready; 10 tasks submitted, 10 finished; 6 ticks due, 5 ran;"
        " no worker consumes node2-crontab"
    )


def test_json_is_one_document_and_progress_goes_elsewhere() -> None:
    out, progress = io.StringIO(), io.StringIO()
    view = JsonView(out, progress=progress)

    with view:
        view.say("hello")
    view.finish(report(tasks=tasks(lost=("a", "b"))))

    document = json.loads(out.getvalue())
    assert (document["lost"], document["submitted"]) == (2, 10)
    assert document["cron"]["every"]["node1"] == {
        "due": 3,
        "published": 3,
        "ran": 3,
        "missing": [],
        "duplicated": [],
    }
    assert document["crontab_queues"] == {"node1-crontab": ["w"]}
    assert document["incidents"][0]["worker"] == "node2-worker0@h"
    assert progress.getvalue() == "hello\n"


def test_the_view_follows_the_output() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = io.StringIO()
    assert type(make_view(as_json=True, stdout=Terminal(), stderr=out)) is JsonView
    assert type(make_view(as_json=False, stdout=out, stderr=out)) is PlainView
    assert type(make_view(as_json=False, stdout=Terminal(), stderr=out)) is RichView


def test_the_live_table_shows_queues_without_a_worker() -> None:
    from rich import console

    out = io.StringIO()
    view = RichView(console.Console(file=out, force_terminal=True, width=120))

    with view:
        view.update(snapshot(queues=[queue("node2-crontab", ()), queue("node3", None)]))
        assert out.getvalue().count("no worker consumes it") == 1
        assert "node1-worker-0" in out.getvalue()
    view.finish(report())

    assert "Nothing was lost" in out.getvalue()
