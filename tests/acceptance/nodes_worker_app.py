"""pytest-celery's worker app (its ``content.app``) with a kit; three lines are filled in for it."""

from __future__ import annotations

from celery import Celery

from celery_nodekit import NodeKit

imports = None

app = Celery("celery_test_app")
config = None

if config:
    app.config_from_object(config)
NodeKit(app, nodes=["node1", "node2"])
