"""``NodeFanoutScheduler``: Celery's scheduler, and beside it the fan-out to nodes.

Entries without ``nodes`` are Celery's: nothing of ``PersistentScheduler`` is changed for them.
"""

from __future__ import annotations

import copy
import dbm
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from celery.beat import PersistentScheduler, SchedulingError
from kombu.exceptions import OperationalError

from celery_nodekit.beat.entries import FanoutEntry, Plan, read_entries
from celery_nodekit.beat.fanout import MAX_WAIT, Fanout
from celery_nodekit.beat.occurrence import HEADER, Occurrence
from celery_nodekit.beat.state import StateFile
from celery_nodekit.beat.watch import UnreadQueueWatch
from celery_nodekit.config import ConfigSource
from celery_nodekit.exceptions import BrokerUnreachableError, ConfigurationError, NodeKitError
from celery_nodekit.routing.router import NodeRouter
from celery_nodekit.signals import occurrence_published
from celery_nodekit.topology import Node, Topology

__all__ = ["NodeFanoutScheduler"]

logger = logging.getLogger(__name__)

#: Exit code of a beat that was given something wrong.
EX_USAGE = 2


class NodeFanoutScheduler(PersistentScheduler):
    """Sends each occurrence of an entry with ``nodes`` to every selected node.

    Use it as ``celery beat -S celery_nodekit.Scheduler`` or ``-S nodekit``; ``NodeKit`` makes it
    the default. Positions are kept in ``<schedule file>.nodekit.json``.

    A wrong entry, setting or state file ends beat at start with exit code 2; the log names each.
    """

    schedule_filename: str
    _store: Any
    _plan = Plan(fanout={}, plain={})
    _fanout: Fanout | None = None
    _state: StateFile | None = None
    _watch: UnreadQueueWatch | None = None
    _ticking = False

    def setup_schedule(self) -> None:
        """Read and check all entries, then start where the last beat ended.

        Raises:
            SystemExit: with code 2; what is wrong was logged. Celery would print it twice, with
                tracebacks, and end with code 1.
        """
        try:
            self._start_fanout()
        except NodeKitError as exc:
            for line in str(exc).splitlines():
                logger.critical("beat cannot start: %s", line, extra={"action": "beat_not_started"})
            raise SystemExit(EX_USAGE) from exc
        try:
            super().setup_schedule()
        except (EOFError, UnpicklingError, UnicodeDecodeError, *dbm.error) as exc:
            # Celery mends a damaged file only where it is damaged in other places.
            mend: Any = self._destroy_open_corrupted_schedule  # type: ignore[attr-defined]
            self._store = mend(exc)
            super().setup_schedule()

    def _start_fanout(self) -> None:
        source = ConfigSource(self.app)
        config = source.current()
        topology = Topology.from_config(config)
        NodeRouter(source).check()
        self._plan = read_entries(
            self._all_entries(source),
            topology=topology,
            tz=self.app.timezone,
            app=self.app,
            is_task=self.app.tasks.__contains__,
        )
        if self._plan.fanout:
            self._check_fanout(source)
            state = StateFile(Path(f"{self.schedule_filename}.nodekit.json"))
            state.acquire()
            self._state = state
            self._fanout = Fanout(
                self._plan.fanout.values(),
                topology=topology,
                namespace=source.namespace,
                store=state,
                publish=self._publish,
            )
            self._fanout.start()
            self._watch = UnreadQueueWatch(
                self.app,
                _crontab_queues(self._plan),
                interval=config.queue_check_interval,
                sender=self,
            )

    def merge_inplace(self, b: Any) -> None:  # noqa: ARG002
        """Give Celery's scheduler the entries that are its own."""
        super().merge_inplace(dict(self._plan.plain))

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Publish what is due and return the seconds until the next look."""
        self._ticking = True
        try:
            wait = MAX_WAIT if self._fanout is None else self._fanout.run_due()
            seconds: float = super().tick(*args, **kwargs)
        except BaseException:
            # SIGTERM, most likely in the middle of a conversation with the broker.
            self._drop_connection()
            raise
        finally:
            self._ticking = False
        if self._fanout is None:
            return seconds
        if self._watch is not None:
            self._watch.start()
        return min(wait, seconds)

    def close(self) -> None:
        """Save and let go of everything.

        On SIGTERM beat calls this inside the signal handler and once more when it has come to its
        end (``celery.apps.beat.Beat.install_sync_handler``). A handler that interrupts a publish
        must not talk to the broker over the same connection, so all it does is to save.
        """
        if self._ticking:
            if self._fanout is not None:
                self._fanout.save()
            return
        if self._watch is not None:
            self._watch.stop()
        try:
            if self._fanout is not None:
                self._fanout.save()
        finally:
            if self._state is not None:
                self._state.release()
            if self._store is not None:  # never opened when lazy
                super().close()

    def _drop_connection(self) -> None:
        self.__dict__.pop("producer", None)
        connection = self.__dict__.pop("connection", None)
        if connection is not None:
            # Without the broker's goodbye, which could wait for a reply that never comes.
            connection.collect(socket_timeout=1.0)

    @property
    def info(self) -> str:
        """What beat's banner says about the schedule."""
        return f"{super().info}\n    . fan-out -> {self.schedule_filename}.nodekit.json"

    def _all_entries(self, source: ConfigSource) -> dict[str, Any]:
        configured: Mapping[str, Any] = source.celery_setting("beat_schedule") or {}
        kit = getattr(self.app, "nodekit", None)
        decorated = {} if kit is None else kit.registry.beat_schedule()
        twice = sorted(set(configured) & set(decorated))
        if twice:
            raise ConfigurationError(
                f"@kit.cron and beat_schedule both have an entry called {', '.join(twice)};"
                " rename one of them."
            )
        return {**decorated, **configured}

    def _check_fanout(self, source: ConfigSource) -> None:
        if not source.namespace:
            raise ConfigurationError(
                "Occurrence ids need the name of the app: give Celery(...) a name, or set"
                " nodekit_namespace."
            )
        if source.celery_setting("task_always_eager"):
            raise ConfigurationError(
                "task_always_eager would run every node's cron tasks inside beat; unset it for"
                " beat."
            )

    def _publish(self, entry: FanoutEntry, node: Node, occurrence: Occurrence) -> None:
        options = copy.deepcopy(dict(entry.options))
        options["headers"][HEADER] = occurrence.header()
        options["task_id"] = occurrence.task_id
        options["queue"] = node.crontab_queue
        message = self.Entry(
            name=entry.name,
            task=entry.task,
            args=entry.args,
            kwargs=entry.kwargs,
            options=options,
            app=self.app,
        )
        logger.info(
            "Sending due task %s (%s) to %s",
            entry.name,
            entry.task,
            node.crontab_queue,
            extra={"action": "occurrence_published", "entry": entry.name, "node": node.name},
        )
        try:
            # The same path as Celery's own entries, so signals, instrumentation and lazy
            # arguments work as they do there.
            self.apply_async(message, producer=self.producer, advance=False)
        except SchedulingError as exc:
            if self._is_connection_error(exc):
                raise BrokerUnreachableError(str(exc)) from exc
            raise
        except self._connection_errors() as exc:
            raise BrokerUnreachableError(str(exc)) from exc
        occurrence_published.send(sender=entry.name, occurrence=occurrence)

    def _is_connection_error(self, exc: BaseException) -> bool:
        # kombu wraps errors of the channel and of the connection alike in OperationalError.
        causes = list(_causes(exc))
        if any(isinstance(cause, tuple(self.connection.channel_errors)) for cause in causes):
            return False
        return any(isinstance(cause, self._connection_errors()) for cause in causes)

    def _connection_errors(self) -> tuple[type[BaseException], ...]:
        return (*self.connection.connection_errors, OperationalError, OSError)


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _crontab_queues(plan: Plan) -> list[str]:
    return [node.crontab_queue for entry in plan.fanout.values() for node in entry.candidates]
