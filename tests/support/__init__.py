"""What the tests start, wait for and end: servers, Celery processes, stand-ins for containers."""

from __future__ import annotations
