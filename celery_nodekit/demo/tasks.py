"""The demo's Celery app: ``celery -A celery_nodekit.demo.tasks:app``.

The app is made when it is asked for, from the environment that the demo gives its processes.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

from celery import Celery, signals

from celery_nodekit.app import NodeKit
from celery_nodekit.beat.occurrence import HEADER, Occurrence
from celery_nodekit.demo.records import Event, RecordLog
from celery_nodekit.demo.settings import DRAIN_TIMEOUT, DemoSettings
from celery_nodekit.schedules import cron
from celery_nodekit.signals import occurrence_published

__all__ = ["APP_PATH", "TICK", "WORK", "make_app"]

#: What ``celery -A`` is given.
APP_PATH = f"{__name__}:app"

#: Names of the tasks.
WORK, TICK = "demo.work", "demo.tick"
#: Seconds that a cron task takes.
_TICK_SECONDS = 0.1


def make_app(settings: DemoSettings) -> Celery:
    """Make the app of one run: its tasks, its nodes, its cron entries."""
    app = Celery("nodekit-demo", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker,
        task_default_queue=settings.default_queue,
        task_ignore_result=True,
        beat_schedule=_beat_schedule(settings),
    )
    if settings.prefix:
        _keep_apart(app, settings.prefix)
    NodeKit(
        app,
        nodes=list(settings.nodes),
        node_queue=f"{settings.prefix}{{node}}",
        crontab_queue=f"{settings.prefix}{{node}}-crontab",
        drain_timeout=DRAIN_TIMEOUT,
    )
    _add_tasks(app, RecordLog(settings.records))
    return app


def _beat_schedule(settings: DemoSettings) -> dict[str, dict[str, Any]]:
    every_node, two_nodes = settings.entries
    return {
        every_node.name: {
            "task": TICK,
            "schedule": cron(f"*/{every_node.period} * * * * *", seconds="first"),
            "options": {"nodes": "all"},
        },
        two_nodes.name: {
            "task": TICK,
            "schedule": float(two_nodes.period),
            "options": {"nodes": list(two_nodes.nodes)},
        },
    }


def _keep_apart(app: Celery, prefix: str) -> None:
    app.conf.update(control_exchange=f"{prefix}celery", event_exchange=f"{prefix}celeryev")
    if "redis" in app.conf.broker_url.partition("://")[0]:
        # Redis transports share the keys of unacknowledged messages, whatever the queues.
        app.conf.broker_transport_options = {"global_keyprefix": prefix}


def _add_tasks(app: Celery, log: RecordLog) -> None:
    @app.task(bind=True, shared=False, name=WORK)
    def work(self: Any, seconds: float) -> None:
        _run(log, self.request, seconds)

    @app.task(bind=True, shared=False, name=TICK)
    def tick(self: Any) -> None:
        _run(log, self.request, _TICK_SECONDS)


def _run(log: RecordLog, request: Any, seconds: float) -> None:
    occurrence = getattr(request, HEADER, None) or {}
    fields = {
        "task": request.id,
        "node": os.environ.get("NODEKIT_NODE", ""),
        "worker": request.hostname,
        "entry": occurrence.get("entry", ""),
        "fire": occurrence.get("fire", ""),
    }
    log.write(Event.STARTED, **fields)
    time.sleep(seconds)
    log.write(Event.FINISHED, **fields)


def _listen(log: RecordLog) -> None:
    """Record, in workers and in beat, what no task can."""

    def on_worker_ready(sender: Any, **_kw: Any) -> None:
        node = os.environ.get("NODEKIT_NODE", "")
        log.write(Event.WORKER_READY, worker=sender.hostname, node=node)

    def on_beat_init(**_kw: Any) -> None:
        # Celery builds the scheduler just before, and its entries start from then.
        log.write(Event.BEAT_READY)

    def on_published(occurrence: Occurrence, **_kw: Any) -> None:
        log.write(
            Event.PUBLISHED,
            task=occurrence.task_id,
            entry=occurrence.entry,
            fire=occurrence.fire.isoformat(),
            node=occurrence.node,
        )

    signals.worker_ready.connect(on_worker_ready, weak=False)
    signals.beat_init.connect(on_beat_init, weak=False)
    occurrence_published.connect(on_published, weak=False)


@cache
def _app_of_this_process() -> Celery:
    settings = DemoSettings.from_environment(os.environ)
    _listen(RecordLog(settings.records))
    return make_app(settings)


def __getattr__(name: str) -> Any:
    if name == "app":
        return _app_of_this_process()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
