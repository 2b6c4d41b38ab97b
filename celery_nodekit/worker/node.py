"""Ties one worker to its node while it starts.

``celeryd_init`` comes before Celery selects queues, ``celeryd_after_setup`` after ``-Q`` and ``-X``
were applied and before anything is consumed (``celery.apps.worker.Worker``).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from celery.utils.nodenames import worker_direct
from celery.utils.text import str_to_list

from celery_nodekit.config import PREFIX, ConfigSource
from celery_nodekit.exceptions import ConfigurationError
from celery_nodekit.routing.router import NodeRouter
from celery_nodekit.topology import Node, Topology
from celery_nodekit.worker.duplicates import warn_if_mailbox_is_taken, watch_for_duplicate

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["WorkerNode"]

logger = logging.getLogger(__name__)

#: Exit code of a worker whose node or settings are wrong, as for any wrong use of a command.
EX_USAGE = 2


class WorkerNode:
    """The node of the worker that this process is, and the signal handlers that apply it."""

    def __init__(self, app: Celery, source: ConfigSource) -> None:
        self._app = app
        self._source = source
        self._node: Node | None = None
        self._crontab = False
        self._excluded: list[str] = []
        self._selected: list[str] = []

    def on_worker_init(self, instance: Any, options: Any, **_kw: Any) -> None:
        """``celeryd_init``: find out which node this is; stop the worker when there is no such."""
        if instance.app is not self._app:
            return
        options = options or {}
        self._excluded = str_to_list(options.get("exclude_queues")) or []
        self._selected = str_to_list(options.get("queues")) or []
        try:
            topology = Topology.from_config(self._source.current())
            NodeRouter(self._source).check()
            name = options.get("nodekit_node") or self._source.node_from_environment()
            self._node = None if name is None else topology.get(name)
            self._crontab = _wants_crontab(options, self._node)
        except ConfigurationError as exc:
            _stop(str(exc))
        if self._node is not None:
            # Tasks ask which node they run on; pool processes inherit this.
            self._source.assign(PREFIX + "node", self._node.name)

    def on_queues_selected(self, instance: Any, **_kw: Any) -> None:
        """``celeryd_after_setup``: consume this node's queues, besides those of ``-Q``."""
        if instance.app is not self._app:
            return
        warn_if_mailbox_is_taken(self._app, instance.hostname)
        if self._node is not None:
            self._select_queues(instance, self._node)

    def on_worker_ready(self, sender: Any, **_kw: Any) -> None:
        """``worker_ready``: look for another live worker with this one's name."""
        if sender is not None and sender.app is self._app:
            watch_for_duplicate(self._app, sender.hostname)

    def _select_queues(self, instance: Any, node: Node) -> None:
        queues = self._app.amqp.queues
        wanted = queues_of(
            node, self._source.celery_setting("task_default_queue"), crontab=self._crontab
        )
        if not self._selected:
            queues.select(wanted)
            if self._source.celery_setting("worker_direct"):
                queues.select_add(worker_direct(instance.hostname))
        else:
            for name in wanted:
                queues.select_add(queues[name])
        queues.deselect(self._excluded)
        logger.info(
            "Worker of node %s consumes %s",
            node.name,
            ", ".join(sorted(queues.consume_from)),
            extra={"action": "node_queues_selected", "node": node.name},
        )


def queues_of(node: Node, default_queue: str, *, crontab: bool) -> list[str]:
    """Return the names of the queues that a worker of a node consumes."""
    return [node.crontab_queue] if crontab else [default_queue, node.queue]


def _wants_crontab(options: Any, node: Node | None) -> bool:
    given = options.get("nodekit_crontab")
    if given is None:
        given = _as_bool("NODEKIT_CRONTAB", os.environ.get("NODEKIT_CRONTAB", ""))
    if given and node is None:
        raise ConfigurationError("--crontab needs a node: say --node NAME, or set NODEKIT_NODE.")
    return bool(given)


def _as_bool(name: str, text: str) -> bool:
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    raise ConfigurationError(f"{name} must be 1 or 0, not {text!r}.")


def _stop(*lines: str) -> NoReturn:
    _print_error(lines)
    # Celery logs what a signal handler raises and goes on; SystemExit passes.
    raise SystemExit(EX_USAGE)


def _print_error(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"Error: {line}", file=sys.stderr)
