"""Try celery-nodekit on one machine, without installing a server."""

from __future__ import annotations
