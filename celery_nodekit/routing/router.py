"""``node=`` and ``nodekit_routes``: from one task call to one queue.

Decisions, first match wins:

1. ``node=`` names the node. An explicit ``queue=`` or exchange beside it is an error, unless it
   came from ``@task(queue=...)`` or from ``self.retry()``, which fill it in by themselves.
2. A retry, or an explicit ``queue=`` that is a node's, stays with that queue.
3. Any other explicit destination is the app's own business.
4. ``nodekit_routes``.
5. The app's ``task_routes`` and default queue.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from kombu import Queue

from celery_nodekit.config import ConfigSource, NodeKitConfig
from celery_nodekit.exceptions import ConfigurationError, RoutingError
from celery_nodekit.routing.rules import Rule, RuleTable
from celery_nodekit.topology import ALL, Topology, rendezvous

__all__ = ["DESTINATION_OPTIONS", "Choice", "NodeRouter"]

#: Options of a task call that say where it goes.
DESTINATION_OPTIONS = ("queue", "exchange", "routing_key", "exchange_type")


class Choice:
    """Several queues of which the task's id will choose one, once the id is known."""

    def __init__(self, names: Sequence[str], queue_names: Mapping[str, str]) -> None:
        self._names = names
        self._queue_names = queue_names

    def by(self, key: str) -> str:
        """Return the name of the queue that a key chooses."""
        return self._queue_names[rendezvous(key, self._names)[0]]


class NodeRouter:
    """Finds the queue name for a task call, from the settings as they are at that moment."""

    def __init__(self, source: ConfigSource) -> None:
        self._source = source
        self._config: NodeKitConfig | None = None
        self._topology = Topology(())
        self._rules = RuleTable({}, self._topology)

    @property
    def topology(self) -> Topology:
        """The nodes as configured now."""
        self._refresh()
        return self._topology

    def check(self) -> None:
        """Read topology and routes now, so that mistakes show when a process starts.

        Raises:
            ConfigurationError: see :class:`Topology` and :class:`RuleTable`.
        """
        self._refresh()

    def destination(
        self,
        options: MutableMapping[str, Any],
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task: Any = None,
    ) -> str | Choice | None:
        """Return the queue for a call, or ``None`` where the app's own routing decides.

        ``node`` is taken out of ``options``, so that it never reaches the message's properties.

        Args:
            options: execution options of the call, as ``apply_async`` and ``set`` take them.
            name: the task's name.
            args: positional arguments, for rules with ``by``.
            kwargs: keyword arguments, for rules with ``by``.
            task: the task where it is registered in this process.

        Raises:
            UnknownNodeError: ``node=`` is not a node of the topology.
            RoutingError: ``nodes=``, ``node="all"``, two destinations that exclude each other, or
                a rule's ``by`` that the call does not have.
        """
        self._refresh()
        if "nodes" in options:
            raise RoutingError(
                f"{name}: nodes= is for cron entries. A call goes to one node, node='node1'; to"
                f" call it on several: for node in kit.nodes({options['nodes']!r}):"
                " task.apply_async(node=node)."
            )
        if options.get("node") is not None:
            return self._named_node(options, name, task)
        options.pop("node", None)
        explicit = self._explicit_queue(options)
        if explicit is not None and self._topology.queue_owner(explicit):
            return explicit
        if explicit is not None or options.get("exchange") or options.get("routing_key"):
            return None
        rule = self._rules.find(name)
        return None if rule is None else self._apply_rule(rule, name, args, kwargs, task)

    def _named_node(self, options: MutableMapping[str, Any], name: str, task: Any) -> str:
        node_name = options["node"]
        if node_name == ALL or not isinstance(node_name, str) or "=" in node_name:
            raise RoutingError(
                f"{name}: node={node_name!r} is not the name of one node. To call it on several:"
                f" for node in kit.nodes({node_name!r}): task.apply_async(node=node)."
            )
        node = self._topology.get(node_name)
        explicit = self._explicit_queue(options)
        given = explicit or options.get("exchange") or options.get("routing_key")
        if given and explicit != node.queue and not _filled_in_by_celery(options, task):
            raise RoutingError(
                f"{name}: node={node_name!r} and queue or exchange {given!r} exclude each other;"
                " leave one of them out."
            )
        del options["node"]
        return node.queue

    def _explicit_queue(self, options: Mapping[str, Any]) -> str | None:
        queue = options.get("queue")
        if queue is not None:
            return _queue_name(queue)
        # With the default exchange the routing key is the name of a queue.
        routing_key = options.get("routing_key")
        if routing_key and not options.get("exchange"):
            return str(routing_key)
        return None

    def _apply_rule(
        self,
        rule: Rule,
        name: str,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        task: Any,
    ) -> str | Choice:
        key = "" if rule.by is None else _argument(rule.by, name, args, kwargs, task)
        nodes = self._topology.candidates(rule.nodes)
        queues = {node.name: node.queue for node in nodes}
        names = list(queues)
        if len(names) == 1:
            return queues[names[0]]
        choice = Choice(names, queues)
        return choice if rule.by is None else choice.by(key)

    def _check_default_queue(self, topology: Topology) -> None:
        default = self._source.celery_setting("task_default_queue")
        owner = topology.queue_owner(default)
        if owner is not None:
            raise ConfigurationError(
                f"The queue {default!r} of {owner.name} is the default queue too, which every node"
                " reads; give the node another queue, or set task_default_queue."
            )

    def _refresh(self) -> None:
        config = self._source.current()
        if config is not self._config:
            topology = Topology.from_config(config)
            self._check_default_queue(topology)
            self._rules = RuleTable(config.routes, topology)
            self._topology = topology
            self._config = config


def _queue_name(queue: object) -> str:
    return str(queue.name if isinstance(queue, Queue) else queue)


def _filled_in_by_celery(options: Mapping[str, Any], task: Any) -> bool:
    """Tell whether the destination is ``@task(queue=...)`` or that of the message being retried.

    See ``celery.app.task.Task.signature_from_request`` for what a retry fills in.
    """
    if task is None:
        return False
    delivery = getattr(getattr(task, "request", None), "delivery_info", None) or {}
    if options.get("queue") is None:
        return bool(delivery) and all(
            options.get(key) == delivery.get(key) for key in ("exchange", "routing_key")
        )
    own_queue = getattr(task, "queue", None)
    filled_in = {
        None if own_queue is None else _queue_name(own_queue),
        None if delivery.get("exchange") else delivery.get("routing_key"),
    }
    return _queue_name(options["queue"]) in filled_in


def _argument(
    by: str,
    name: str,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    task: Any,
) -> str:
    arguments = dict(kwargs or {})
    run = getattr(task, "run", None)
    if by not in arguments and run is not None:
        try:
            arguments = inspect.signature(run).bind_partial(*(args or ()), **arguments).arguments
        except TypeError as exc:
            raise RoutingError(f"{name}: nodekit_routes cannot read {by!r}: {exc}.") from exc
    if by not in arguments:
        raise RoutingError(
            f"{name}: nodekit_routes chooses its node by the argument {by!r}, which this call does"
            " not have; pass it by keyword, or drop 'by' from the rule."
        )
    value = arguments[by]
    if not isinstance(value, str | int | bool | float | type(None)):
        raise ConfigurationError(
            f"{name}: nodekit_routes cannot choose a node by {by!r}={value!r}; it must be a string"
            " or a number, which has the same text in every process."
        )
    return str(value)
