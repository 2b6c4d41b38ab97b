"""Warns about crontab queues that no worker consumes, while beat goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from celery_nodekit.signals import queue_unread

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["UnreadQueueWatch"]

logger = logging.getLogger(__name__)

#: Seconds that workers have to come up before the first look.
GRACE = 15.0
#: Queues that a log line names before it only counts them.
NAMED = 10
#: Seconds to wait for the workers' replies; a second look follows before anything is said.
REPLY_TIMEOUT = 2.0


class UnreadQueueWatch:
    """Asks the workers now and then which queues they consume, in a thread of its own.

    Args:
        app: whose workers are asked.
        queues: names of the queues that should have a consumer.
        interval: seconds between two looks; 0 looks never.
        sender: sender of the ``queue_unread`` signal.
    """

    def __init__(
        self, app: Celery, queues: Iterable[str], *, interval: float, sender: object
    ) -> None:
        self._app = app
        self._queues = frozenset(queues)
        self._interval = interval
        self._sender = sender
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._reported: list[str] = []

    def start(self) -> None:
        """Start looking; does nothing when it already does, or has nothing to look for."""
        if self._thread is None and self._queues and self._interval > 0:
            self._thread = threading.Thread(
                target=self._run, name="nodekit-unread-queues", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the thread at its next chance, without waiting for it."""
        self._stopped.set()

    def _run(self) -> None:
        wait = min(GRACE, self._interval)
        while not self._stopped.wait(wait):
            wait = self._interval
            try:
                unread = self.unread()
                if unread:
                    unread = sorted(set(unread) & set(self.unread()))
            except Exception:
                # A broker that is away is reported by whoever publishes.
                logger.debug("Could not ask the workers for their queues", exc_info=True)
                continue
            self._report(unread)

    def unread(self) -> list[str]:
        """Return the queues that no answering worker consumes, sorted."""
        answers = self._app.control.inspect(timeout=REPLY_TIMEOUT).active_queues() or {}
        read = {queue["name"] for queues in answers.values() for queue in queues or ()}
        return sorted(self._queues - read)

    def _report(self, unread: list[str]) -> None:
        if unread == self._reported:
            return
        self._reported = unread
        if unread:
            logger.warning(
                "No worker answers for %s; occurrences wait there. Start one with"
                " `celery worker --node NAME --crontab`. (A busy worker with the solo pool"
                " does not answer.)",
                _shortened(unread),
                extra={"action": "queue_unread", "queues": unread},
            )
        else:
            logger.info("Every crontab queue has a worker", extra={"action": "queue_read"})
        queue_unread.send(sender=self._sender, queues=unread)


def _shortened(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
