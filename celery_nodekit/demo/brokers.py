"""The broker of a run: an own server, or somebody's, which is left as it was found."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kombu.utils.url import maybe_sanitize_url

from celery_nodekit.demo.settings import DemoSettings

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Connection
    from typing_extensions import Self

__all__ = ["SCHEMES", "BrokerError", "BrokerWatch", "Look", "check", "forget"]

logger = logging.getLogger(__name__)

#: Schemes of the URLs that the demo can be run on.
SCHEMES = ("redis", "rediss", "redis+socket", "amqp", "amqps", "pyamqp")

#: Seconds.
_CONNECT_TIMEOUT = 5
_REPLY_TIMEOUT, _LOOK_INTERVAL = 1.0, 1.5


class BrokerError(RuntimeError):
    """The broker cannot be reached or refuses to work; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What the broker and the workers say at one time."""

    #: Names of the workers that consume a queue, by its name.
    consumers: Mapping[str, list[str]] = field(default_factory=dict)
    #: Number of messages that wait in a queue, by its name.
    waiting: Mapping[str, int] = field(default_factory=dict)


def check(app: Celery) -> None:
    """Connect once.

    Raises:
        BrokerError: that did not work.
    """
    with app.connection_for_write(connect_timeout=_CONNECT_TIMEOUT) as connection:
        try:
            connection.ensure_connection(
                max_retries=1, interval_start=0, timeout=2 * _CONNECT_TIMEOUT
            )
        except Exception as exc:
            # Every client library has errors of its own; all of them mean the same here.
            url = maybe_sanitize_url(app.conf.broker_url)
            raise BrokerError(f"{url} cannot be used: {exc}") from exc


def look(app: Celery, settings: DemoSettings, *, workers: int, timeout: float) -> Look:
    """Ask workers and broker.

    Args:
        app: the demo's app.
        settings: of the run.
        workers: how many answers there can be.
        timeout: seconds to wait for them.
    """
    answers = app.control.inspect(timeout=timeout, limit=workers).active_queues() or {}
    consumers: dict[str, list[str]] = {}
    for worker, queues in sorted(answers.items()):
        for queue in queues or ():
            consumers.setdefault(queue["name"], []).append(worker)
    with app.connection_for_read(connect_timeout=_CONNECT_TIMEOUT) as connection:
        waiting = {name: _size(connection, name) for name in settings.queues}
    return Look(consumers=consumers, waiting=waiting)


def _size(connection: Connection, queue: str) -> int:
    # RabbitMQ closes the channel when there is no such queue.
    channel: Any
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except connection.channel_errors:
            return 0


class BrokerWatch:
    """Looks again and again in a thread of its own, so that nobody waits for the answers.

    Args:
        app: the demo's app.
        settings: of the run.
        workers: how many workers there are.
    """

    def __init__(self, app: Celery, settings: DemoSettings, *, workers: int) -> None:
        self._app = app
        self._settings = settings
        self._workers = workers
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nodekit-demo-watch", daemon=True)
        #: What was seen last; ``None`` before the first look.
        self.latest: Look | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_REPLY_TIMEOUT + _CONNECT_TIMEOUT)

    def look_now(self, timeout: float) -> Look:
        """Look once, in the calling thread; not while the watch's own thread runs.

        Args:
            timeout: seconds to wait for workers.
        """
        seen = look(self._app, self._settings, workers=self._workers, timeout=timeout)
        self.latest = seen
        return seen

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.look_now(_REPLY_TIMEOUT)
            except Exception:
                # A broker that is away is reported by whoever submits.
                logger.debug("Could not look at the broker", exc_info=True)
            self._stopped.wait(_LOOK_INTERVAL)


def forget(app: Celery, settings: DemoSettings) -> None:
    """Remove from the broker everything that the run left there, and only that.

    Raises:
        BrokerError: that did not work.
    """
    if not settings.prefix:
        return
    try:
        with app.connection_for_write(connect_timeout=_CONNECT_TIMEOUT) as connection:
            connection.ensure_connection(max_retries=1, timeout=_CONNECT_TIMEOUT)
            channel: Any = connection.default_channel
            if "redis" in settings.broker.partition("://")[0]:
                _forget_keys(channel, settings.prefix)
            else:
                _forget_queues(channel, settings)
    except Exception as exc:
        raise BrokerError(
            f"What begins with {settings.prefix} could not be removed from the broker: {exc}"
        ) from exc


def _forget_keys(channel: Any, prefix: str) -> None:
    import redis

    # The channel's own client would put the prefix before each name once more.
    client = redis.Redis(connection_pool=channel.client.connection_pool)
    for key in client.scan_iter(match=f"{prefix}*", count=1_000):
        client.delete(key)


def _forget_queues(channel: Any, settings: DemoSettings) -> None:
    for queue in settings.queues:
        channel.queue_delete(queue=queue)
    control = f"{settings.prefix}celery.pidbox"
    events = f"{settings.prefix}celeryev"
    # Celery gives each queue an exchange of its own name.
    for exchange in (*settings.queues, control, f"reply.{control}", events):
        channel.exchange_delete(exchange=exchange)
