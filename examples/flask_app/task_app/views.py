"""The HTTP side: start tasks, ask for results, look at the nodes."""

from __future__ import annotations

from typing import Any

from celery import Task
from flask import Blueprint, current_app, request, url_for
from kombu.exceptions import OperationalError

from celery_nodekit import NodeKitError
from task_app import tasks
from task_app.extensions import kit

bp = Blueprint("tasks", __name__)

#: What may be started over HTTP.
STARTABLE: dict[str, Task] = {"add": tasks.add, "where": tasks.where, "render": tasks.render}


@bp.post("/tasks")
def start() -> tuple[dict[str, Any], int]:
    body = request.get_json()
    body = body if isinstance(body, dict) else {}
    task = STARTABLE.get(str(body.get("task")))
    if task is None:
        return {"error": f"'task' must be one of {', '.join(STARTABLE)}"}, 400
    args = body.get("args", [])
    if not isinstance(args, list):
        return {"error": "'args' must be a list"}, 400
    try:
        result = task.apply_async(args, node=body.get("node"))
    except (NodeKitError, TypeError) as exc:
        # An unknown node, or arguments that the task does not take.
        return {"error": str(exc)}, 400
    except OperationalError as exc:
        return {"error": f"The broker cannot be reached: {exc}"}, 503
    return {"id": result.id, "url": url_for("tasks.result", task_id=result.id)}, 202


@bp.get("/result/<task_id>")
def result(task_id: str) -> dict[str, Any]:
    found = current_app.extensions["celery"].AsyncResult(task_id)
    answer: dict[str, Any] = {"id": task_id, "state": found.state}
    if found.successful():
        answer["value"] = found.result
    elif found.failed():
        answer["error"] = str(found.result)
    return answer


@bp.get("/nodes")
def nodes() -> dict[str, Any]:
    return {
        "default_queue": current_app.extensions["celery"].conf.task_default_queue,
        "nodes": [
            {
                "name": node.name,
                "labels": dict(node.labels),
                "queue": node.queue,
                "crontab_queue": node.crontab_queue,
            }
            for node in kit.topology
        ],
    }


@bp.get("/healthz")
def healthz() -> dict[str, str]:
    """Say that this process answers; it asks neither broker nor workers."""
    return {"status": "ok"}
