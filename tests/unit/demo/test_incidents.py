from __future__ import annotations

from pathlib import Path
from typing import Any

from celery_nodekit.demo.cluster import Process
from celery_nodekit.demo.incidents import StopWorker
from celery_nodekit.demo.records import Event, Record, RecordBook
from celery_nodekit.demo.settings import DemoSettings

WORKER = "node2-worker0@h"


class FakeStage:
    """A stage whose processes do at once what supervisord is told."""

    def __init__(self) -> None:
        self.settings = DemoSettings(broker="x", nodes=("node1", "node2"), records=Path())
        self.book = RecordBook()
        self.cluster = self
        self.said: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.submitted: list[tuple[str | None, float]] = []
        self.state = "RUNNING"

    def say(self, text: str) -> None:
        self.said.append(text)

    def submit(self, node: str | None, seconds: float) -> str:
        self.submitted.append((node, seconds))
        return "probe"

    def process(self, name: str) -> Process:
        return Process(name=name, node="node2", state=self.state, pid=7, exit_code=0, log=Path())

    def process_of(self, worker: str) -> Process:
        assert worker == WORKER
        return self.process("node2:node2-worker-0")

    def stop_process(self, name: str) -> None:
        self.told.append(("stop", name))

    def start_process(self, name: str) -> None:
        self.told.append(("start", name))

    def record(self, event: Event, task: str = "", pid: int = 70) -> None:
        self.book.add([Record(event=event, at=1.0, pid=pid, task=task, worker=WORKER)])


def play(stage: Any) -> StopWorker:
    scene = StopWorker()
    steps = scene.play(stage)
    next(steps)
    assert stage.told == []
    stage.record(Event.STARTED, "other")
    stage.record(Event.STARTED, "probe", pid=71)
    next(steps)
    stage.state = "STOPPED"
    next(steps)
    stage.record(Event.WORKER_READY, pid=8)
    assert next(steps, "over") == "over"
    return scene


def test_a_worker_is_stopped_while_it_runs_a_task_of_its_node_and_started_again() -> None:
    stage = FakeStage()

    play(stage)

    assert stage.submitted == [("node2", 1.5)]
    assert stage.told == [("stop", "node2:node2-worker-0"), ("start", "node2:node2-worker-0")]
    assert stage.said[0] == f"SIGTERM to {WORKER}, which runs 2 task(s)"


def test_the_result_tells_tasks_that_ended_there_from_those_that_ran_again() -> None:
    stage = FakeStage()
    scene = play(stage)
    stage.record(Event.FINISHED, "probe", pid=71)
    stage.record(Event.FINISHED, "other", pid=99)

    result = scene.result(stage.book)

    assert (result.kind, result.worker, result.running) == ("SIGTERM", WORKER, 2)
    assert (result.finished_there, result.ran_again, result.lost) == (1, 1, 0)


def test_the_result_counts_tasks_that_never_ended() -> None:
    stage = FakeStage()

    result = play(stage).result(stage.book)

    assert (result.finished_there, result.ran_again, result.lost) == (0, 0, 2)
