"""Notices that another live worker has the same full node name.

Two workers called ``worker1@host`` answer each other's remote control and hide each other in
Flower. Everything a worker's name stands for goes wrong quietly, so it is said aloud.

On RabbitMQ the mailbox of that name is looked at before this worker has its own; from Celery 5.7 on
it is exclusive, and the second worker ends right after with ``RESOURCE_LOCKED``. Elsewhere the name
is called once this worker listens, and two answers are one too many.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from amqp.exceptions import NotFound, ResourceLocked

from celery_nodekit.signals import duplicate_node_name

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["count_live", "warn_if_mailbox_is_taken", "watch_for_duplicate"]

logger = logging.getLogger(__name__)

#: Seconds to wait for a connection.
CONNECT_TIMEOUT = 2.0
#: Seconds before asking; `worker_ready` comes before the mailbox of a virtual transport listens.
SETTLE = 1.0
#: Seconds to wait for replies of workers of this name.
REPLY_TIMEOUT = 1.0


def watch_for_duplicate(app: Celery, hostname: str) -> threading.Thread:
    """Look once, beside the worker's start, and log an error when the name is taken."""
    thread = threading.Thread(
        target=_look, args=(app, hostname), name="nodekit-duplicate-name", daemon=True
    )
    thread.start()
    return thread


def count_live(app: Celery, hostname: str) -> int:
    """Return how many live workers of a full node name there are, this one included.

    A worker that cannot answer within a second (a busy ``solo`` pool, a stopping worker) is missed.
    """
    replies: Any = app.control.broadcast(
        "ping", destination=[hostname], reply=True, timeout=REPLY_TIMEOUT, limit=2
    )
    return sum(1 for reply in replies or () if hostname in reply)


def warn_if_mailbox_is_taken(app: Celery, hostname: str) -> None:
    """Look for another worker's mailbox of this name, on RabbitMQ, and log an error if it is there.

    Must be called before this worker's own mailbox exists.
    """
    try:
        taken = _mailbox_is_taken(app, hostname)
    except Exception:
        logger.debug("Could not look for the mailbox of %s", hostname, exc_info=True)
        return
    if taken:
        _report(hostname, 2)


def _mailbox_is_taken(app: Celery, hostname: str) -> bool:
    control: Any = app.control
    with app.connection_for_read(connect_timeout=CONNECT_TIMEOUT) as connection:
        if connection.transport.driver_type != "amqp":
            return False
        queue = control.mailbox.get_queue(hostname)
        with connection.channel() as channel:
            try:
                declared = queue(channel).queue_declare(passive=True)
            except NotFound:
                return False
            except ResourceLocked:
                return True
        return bool(declared.consumer_count)


def _look(app: Celery, hostname: str) -> None:
    time.sleep(SETTLE)
    try:
        count = count_live(app, hostname)
    except Exception:
        # A broker that just went away is the consumer's business, not this check's.
        logger.debug("Could not look for workers called %s", hostname, exc_info=True)
        return
    if count > 1:
        _report(hostname, count)


def _report(hostname: str, count: int) -> None:
    logger.error(
        "%s live workers are called %s, so they answer for each other. Give each its own name"
        " with -n, for example -n worker%%(process_num)s@%%%%h in supervisord.",
        count,
        hostname,
        extra={"action": "duplicate_node_name", "worker": hostname, "count": count},
    )
    duplicate_node_name.send(sender=hostname, count=count)
