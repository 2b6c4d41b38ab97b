"""Puts a run together, and takes it apart again whatever happens."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kombu.utils.url import maybe_sanitize_url

from celery_nodekit.config import ConfigSource
from celery_nodekit.demo import brokers
from celery_nodekit.demo.cluster import Cluster, require
from celery_nodekit.demo.server import EmbeddedServer
from celery_nodekit.demo.settings import DemoSettings, clean_environment
from celery_nodekit.demo.stage import Stage
from celery_nodekit.demo.story import tell
from celery_nodekit.demo.tasks import make_app

if TYPE_CHECKING:
    from celery import Celery

    from celery_nodekit.demo.report import Report
    from celery_nodekit.demo.view import View

__all__ = ["play"]


def play(
    *,
    directory: Path,
    nodes: int,
    seconds: float,
    broker: str | None,
    view: View,
    check: Callable[[], None],
) -> Report:
    """Start everything, run the story, and end everything.

    Args:
        directory: an empty directory for all files.
        nodes: how many there are.
        seconds: how long to submit tasks.
        broker: URL of a broker that is there; an own server is started when ``None``.
        view: shows it.
        check: called often; raises when the run is to end at once.

    Raises:
        ClusterError: something is missing or does not start.
        ServerNotFoundError: there is no server program.
        ServerStartError: the own server does not start.
        BrokerError: the broker cannot be used.
    """
    require("supervisor")
    records = directory / "records"
    records.mkdir()
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(_environment_of_its_own())
        settings = DemoSettings(
            broker=broker or stack.enter_context(EmbeddedServer(directory / "broker")).url,
            nodes=tuple(f"node{number}" for number in range(1, nodes + 1)),
            records=records,
            prefix=f"nkdemo-{secrets.token_hex(4)}-" if broker else "",
        )
        app = make_app(settings)
        stack.callback(app.close)
        brokers.check(app)
        check()
        stack.callback(_forget, app, settings, view)
        cluster = stack.enter_context(
            Cluster(
                settings,
                ConfigSource(app),
                directory=directory,
                environment={**environment, **settings.to_environment()},
            )
        )
        watch = stack.enter_context(brokers.BrokerWatch(app, settings, workers=2 * nodes))
        stack.enter_context(view)
        where = maybe_sanitize_url(settings.broker) if broker else "a server of its own"
        stage = Stage(
            app=app,
            settings=settings,
            cluster=cluster,
            watch=watch,
            audience=view,
            title=f"celery-nodekit demo: {nodes} nodes on {where}",
            check=check,
        )
        report = tell(stage, seconds=seconds, broker=where)
        view.say("Stopping all nodes")
    return report


@contextlib.contextmanager
def _environment_of_its_own() -> Iterator[dict[str, str]]:
    """Take away what would lead this process's app to another broker, until the end."""
    before = dict(os.environ)
    mine = clean_environment(before)
    os.environ.clear()
    os.environ.update(mine)
    try:
        yield mine
    finally:
        os.environ.clear()
        os.environ.update(before)


def _forget(app: Celery, settings: DemoSettings, view: View) -> None:
    try:
        brokers.forget(app, settings)
    except brokers.BrokerError as exc:
        view.say(str(exc))
