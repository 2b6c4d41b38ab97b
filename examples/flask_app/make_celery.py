"""What ``celery -A make_celery`` loads."""

from __future__ import annotations

from task_app import create_app

flask_app = create_app()
celery_app = flask_app.extensions["celery"]
