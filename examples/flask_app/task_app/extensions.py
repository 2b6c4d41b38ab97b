"""Objects that exist before there is an app."""

from __future__ import annotations

from celery_nodekit import NodeKit

kit = NodeKit()
