"""The tasks. ``shared_task`` needs no app, and neither does ``kit.cron``."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import shared_task
from celery.utils.log import get_task_logger

from task_app.extensions import kit

logger = get_task_logger(__name__)


@shared_task(ignore_result=False)
def add(a: int, b: int) -> int:
    return a + b


@shared_task(ignore_result=False)
def where() -> dict[str, Any]:
    """Say which node ran this."""
    return {"node": kit.node, "pid": os.getpid()}


@shared_task(ignore_result=False)
def render(seconds: float) -> float:
    """Stand in for heavy work; ``nodekit_routes`` keeps it away from the web nodes."""
    time.sleep(seconds)
    return seconds


@kit.cron("*/10 * * * * *", seconds="first", nodes="all")
@shared_task
def sample_load() -> None:
    """Look at this host, every 10 seconds on every node."""
    logger.info("load of %s: %s", kit.node, os.getloadavg())


@shared_task
def report() -> None:
    """Run by ``beat_schedule``, once a day on two of the nodes."""
    logger.info("report of %s", kit.node)
