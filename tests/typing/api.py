"""The public names as a type checker sees them; checked by mypy --strict, never run."""

from __future__ import annotations

from datetime import datetime, timezone

from celery import Celery

from celery_nodekit import (
    ConfigurationError,
    NodeFanoutScheduler,
    NodeKit,
    NodeKitError,
    Scheduler,
    UnknownNodeError,
    __version__,
    cron,
)
from celery_nodekit.signals import occurrence_published, queue_unread
from celery_nodekit.topology import Topology

app = Celery("proj")
kit = NodeKit(app, nodes=["node1", "node2"])
later = NodeKit()
later.init_app(app)


@kit.cron("*/5 * * * *", nodes=["node1"], tz="Asia/Shanghai", kwargs={"x": 1})
@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


total: int = add(1, 2)
add.apply_async((1, 2), queue=kit.queue("node2"))
app.send_task("proj.add", node="node2")
add.s(1).set(queue=kit.queue("node2")).delay()

names: list[str] = kit.nodes("role=web:1", key="42")
names = kit.nodes(["node1", "role=web"])
where: str | None = kit.node
topology: Topology = kit.topology
queue: str = kit.crontab_queue("node1")

schedule = cron("0 2 * * *", tz="UTC")
following: datetime = schedule.next_after(datetime.now(timezone.utc))
scheduler: type[NodeFanoutScheduler] = Scheduler
version: str = __version__
errors: tuple[type[NodeKitError], ...] = (ConfigurationError, UnknownNodeError)


@occurrence_published.connect
def on_published(sender: str, **kwargs: object) -> None: ...


queue_unread.connect(on_published, weak=False)
