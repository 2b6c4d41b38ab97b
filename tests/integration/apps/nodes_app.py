"""The app that the integration tests deploy; every execution leaves a line in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery

from celery_nodekit import NodeKit, cron

RECORDS = Path(os.environ["TEST_RECORDS"])

app = Celery("proj", broker=os.environ["TEST_BROKER"], backend=os.environ.get("TEST_BACKEND"))
kit = NodeKit(app, nodes=["node1", "node2", "node3"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    nodekit_queue_check_interval=1.0,
    nodekit_routes={
        "proj.routed": "node2",
        "proj.by_user": {"nodes": ["node1", "node2"], "by": "user"},
    },
)
if os.environ.get("TEST_QUORUM"):
    app.conf.task_default_queue_type = "quorum"


def record(task, **more):
    """Append one line, in one write, so that lines of several processes never mix."""
    line = json.dumps(
        {
            "task": task.name,
            "id": task.request.id,
            "node": os.environ.get("NODEKIT_NODE") or kit.node,
            "queue": task.request.delivery_info["routing_key"],
            "header": (task.request.headers or {}).get("nodekit"),
            **more,
        }
    )
    with RECORDS.open("ab", buffering=0) as file:
        file.write(line.encode() + b"\n")


@app.task(bind=True, shared=False, name="proj.mark")
def mark(self, label, value=None):
    record(self, label=label, value=value)
    return label


@app.task(bind=True, shared=False, name="proj.routed")
def routed(self, label):
    record(self, label=label)


@app.task(bind=True, shared=False, name="proj.by_user")
def by_user(self, label, user):
    record(self, label=label, user=user)


@app.task(bind=True, shared=False, name="proj.again")
def again(self, label, node=None):
    record(self, label=label, retries=self.request.retries)
    if not self.request.retries:
        raise self.retry(countdown=0, **({"node": node} if node else {}))


@kit.cron("* * * * * *", seconds="last", nodes="all")
@app.task(bind=True, shared=False, name="proj.tick")
def tick(self):
    record(self)


@app.task(bind=True, shared=False, name="proj.plain_tick")
def plain_tick(self):
    record(self)


app.conf.beat_schedule = {
    "every two": {
        "task": "proj.plain_tick",
        "schedule": 2.0,
        "options": {"node": "node1"},
    },
    "two of three": {
        "task": "proj.mark",
        "schedule": cron("*/2 * * * * *", seconds="first"),
        "args": ("pair",),
        "options": {"nodes": ["node1", "node3"]},
    },
}
