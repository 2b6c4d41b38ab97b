"""When cron entries fire: ``cron()``, fire times of Celery's schedules, entries from decorators."""

from __future__ import annotations

from celery_nodekit.schedules.schedule import cron

__all__ = ["cron"]
