"""A Flask application with Celery, as in Flask's own documentation, on three nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery, Task
from flask import Flask

from celery_nodekit import cron
from task_app.extensions import kit


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(
        CELERY={
            "broker_url": "redis://localhost:6379/0",
            "result_backend": "redis://localhost:6379/1",
            "task_ignore_result": True,
            "nodekit_nodes": {
                "node1": {"labels": {"role": "web"}},
                "node2": {"labels": {"role": "web"}},
                "node3": {"labels": {"role": "batch"}},
            },
            "nodekit_routes": {"task_app.tasks.render": "node3"},
            "beat_schedule": {
                "report": {
                    "task": "task_app.tasks.report",
                    "schedule": cron("0 2 * * *", tz="Europe/Berlin"),
                    "options": {"nodes": ["node1", "node3"]},
                },
            },
        },
    )
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    celery_init_app(app)

    from task_app import views

    app.register_blueprint(views.bp)
    return app


def celery_init_app(app: Flask) -> Celery:
    class FlaskTask(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    kit.init_app(celery_app)  # the one line that is not in Flask's documentation
    app.extensions["celery"] = celery_app
    return celery_app
