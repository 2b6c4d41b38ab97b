"""One app, configured in the way that TEST_WAY names."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery

from celery_nodekit import NodeKit, cron

NODES = ["node1", "node2"]
ENTRY = {
    "tick": {
        "task": "conf.mark",
        "schedule": cron("* * * * * *", seconds="last"),
        "args": ("tick",),
        "options": {"nodes": "all"},
    }
}
SETTINGS = {"nodekit_nodes": NODES, "beat_schedule": ENTRY}

app = Celery("conf", broker=os.environ["TEST_BROKER"])
app.conf.task_ignore_result = True


def arguments():
    app.conf.beat_schedule = ENTRY
    NodeKit(app, nodes=NODES)


def init_app():
    kit = NodeKit(nodes=NODES)
    app.conf.beat_schedule = ENTRY
    kit.init_app(app)


def conf():
    NodeKit(app)
    app.conf.update(SETTINGS)


def conf_over_arguments():
    NodeKit(app, nodes=["elsewhere"])
    app.conf.update(SETTINGS)


def object_before():
    app.config_from_object(SETTINGS)
    NodeKit(app)


def object_after():
    NodeKit(app)
    app.config_from_object(SETTINGS)


def namespace():
    app.config_from_object(
        {f"CELERY_{name.upper()}": value for name, value in SETTINGS.items()}, namespace="CELERY"
    )
    NodeKit(app)


def flask():
    from flask import Flask

    web = Flask("web")
    web.config["CELERY"] = {"beat_schedule": ENTRY}
    web.config.from_prefixed_env()  # FLASK_CELERY__nodekit_nodes
    app.config_from_object(web.config["CELERY"])
    NodeKit(app)


def auto():
    app.config_from_object(
        {
            **SETTINGS,
            "imports": ["celery_nodekit.auto"],
            "task_routes": ["celery_nodekit.auto.route"],
            "beat_scheduler": "celery_nodekit.Scheduler",
        }
    )


WAYS = {
    way.__name__: way
    for way in (
        arguments,
        init_app,
        conf,
        conf_over_arguments,
        object_before,
        object_after,
        namespace,
        flask,
        auto,
    )
}


@app.task(bind=True, shared=False, name="conf.mark")
def mark(self, label):
    line = {"label": label, "queue": self.request.delivery_info["routing_key"]}
    with Path(os.environ["TEST_RECORDS"]).open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


if "TEST_WAY" in os.environ:
    WAYS[os.environ["TEST_WAY"]]()
