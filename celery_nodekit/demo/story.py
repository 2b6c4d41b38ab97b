"""The run itself: wait for the nodes, give them work, trouble a worker, add everything up."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Sequence

from celery_nodekit.demo.cluster import ClusterError, tail
from celery_nodekit.demo.incidents import Scene, StopWorker
from celery_nodekit.demo.records import Event, Window
from celery_nodekit.demo.report import Report
from celery_nodekit.demo.stage import Stage

__all__ = ["tell"]

#: Tasks submitted per second and node.
_RATE = 1.2
#: Seconds that a task takes, from and to.
_SHORTEST, _LONGEST = 0.1, 1.0
#: When the scenes begin, as a part of the run's time.
_SCENES_AT = 0.25
#: Seconds that all processes get to come up: in any case, and for each node more.
_START_TIMEOUT, _START_TIMEOUT_PER_NODE = 30.0, 10.0
#: Seconds that the scenes may take beyond the time of the run.
_SCENES_TIMEOUT = 45.0
#: Seconds to wait at the end for beat's last publishes, its stop, and the last tasks.
_PUBLISH_TIMEOUT, _BEAT_TIMEOUT, _FINISH_TIMEOUT = 5.0, 15.0, 20.0
#: Seconds without any work, at the end, in which second copies would show.
_QUIET = 1.0
#: Seconds to wait for the workers' last answers.
_LAST_LOOK_TIMEOUT = 5.0


def tell(stage: Stage, *, seconds: float, broker: str) -> Report:
    """Play the whole run and return what came of it.

    Args:
        stage: the nodes, just started.
        seconds: how long to submit tasks.
        broker: where the messages go, for people.

    Raises:
        ClusterError: a process does not come up, or not again.
        BrokerError: the broker takes no more tasks.
    """
    _wait_for_nodes(stage)
    stage.watch.start()
    scenes: list[Scene] = [StopWorker()]
    _give_work(stage, scenes, seconds)
    window = _finish(stage)
    stage.watch.stop()
    seen = stage.watch.look_now(_LAST_LOOK_TIMEOUT)
    return Report(
        broker=broker,
        nodes=stage.settings.nodes,
        seconds=window.end - window.start,
        tasks=stage.book.judge_tasks(),
        cron=stage.book.judge_cron(stage.settings.entries, window),
        crontab_queues=[queue for queue in stage.queues() if queue.is_crontab],
        left_over=sum(seen.waiting.values()),
        incidents=[scene.result(stage.book) for scene in scenes],
    )


def _wait_for_nodes(stage: Stage) -> None:
    nodes = stage.settings.nodes
    stage.say(f"Starting {len(nodes)} nodes under supervisord")
    begun = time.monotonic()
    stage.step()
    timeout = _START_TIMEOUT + _START_TIMEOUT_PER_NODE * len(nodes)
    if not stage.wait(lambda: not stage.not_ready(), timeout):
        raise _too_slow(stage)
    stage.window_start = stage.book.of(Event.BEAT_READY)[0].at
    stage.say(f"All nodes are up after {time.monotonic() - begun:.1f} s")


def _give_work(stage: Stage, scenes: Sequence[Scene], seconds: float) -> None:
    stage.phase = "at work"
    begun = time.monotonic()
    traffic = _Traffic(stage.settings.nodes)
    script = itertools.chain.from_iterable(scene.play(stage) for scene in scenes)
    playing = True
    while (elapsed := time.monotonic() - begun) < seconds or playing:
        if elapsed > seconds + _SCENES_TIMEOUT:
            raise _too_slow(stage)
        for node, duration in traffic.due(elapsed):
            stage.submit(node, duration)
        if playing and elapsed >= _SCENES_AT * seconds:
            playing = next(script, "over") is None
        stage.step()


def _finish(stage: Stage) -> Window:
    """Let everything that is due come to its end; return the time in which ticks are due."""
    stage.phase = "finishing"
    window = stage.window()
    entries = stage.settings.entries

    def all_published() -> bool:
        cron = stage.book.judge_cron(entries, window)
        return all(c.published == c.due for cells in cron.values() for c in cells.values())

    def all_done() -> bool:
        cron = stage.book.judge_cron(entries, window)
        missing = any(c.missing for cells in cron.values() for c in cells.values())
        started = stage.book.of(Event.STARTED)
        is_quiet = not started or time.time() - started[-1].at > _QUIET
        return is_quiet and not missing and not stage.book.judge_tasks().lost

    stage.say("No more tasks; waiting for the last ones")
    stage.wait(all_published, _PUBLISH_TIMEOUT)
    beat = f"{stage.settings.nodes[0]}:{stage.settings.nodes[0]}-beat"
    stage.cluster.stop_process(beat)
    stage.wait(lambda: stage.process(beat).state == "STOPPED", _BEAT_TIMEOUT)
    stage.wait(all_done, _FINISH_TIMEOUT)
    return window


def _too_slow(stage: Stage) -> ClusterError:
    late = stage.not_ready()
    names = ", ".join(process.name for process in late) or "the nodes"
    logs = "\n".join(tail(process.log) for process in late[:3])
    return ClusterError(f"It takes too long for {names} to be at work.\n{logs}")


class _Traffic:
    """Tasks in a steady stream: every second one for any node, the others for each in turn."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = nodes
        self._made = 0
        # The same stream in every run.
        self._random = random.Random(0)  # noqa: S311

    def due(self, elapsed: float) -> Iterator[tuple[str | None, float]]:
        """Yield node and duration of each task due after so many seconds."""
        while self._made < elapsed * _RATE * len(self._nodes):
            turn, is_routed = divmod(self._made, 2)
            node = self._nodes[turn % len(self._nodes)] if is_routed else None
            self._made += 1
            yield node, round(self._random.uniform(_SHORTEST, _LONGEST), 2)
