"""The app's ``amqp`` class: node queues beside the app's own, node routing before its own.

Set as ``app.amqp_cls``, Celery's own extension point (``Celery(amqp=...)``). Neither
``task_queues`` nor ``task_routes`` is touched, so it does not matter when or how often the app
assigns them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from celery.app.amqp import AMQP
from celery.app.routes import Router
from kombu import Queue

from celery_nodekit.config import ConfigSource
from celery_nodekit.routing.router import DESTINATION_OPTIONS, Choice, NodeRouter

__all__ = ["NodeAMQP", "NodeRoutingMixin", "with_node_routing"]


class NodeRoutingMixin:
    """Adds nodes to a ``celery.app.amqp.AMQP``."""

    app: Any

    @cached_property
    def node_source(self) -> ConfigSource:
        """The app's settings."""
        return ConfigSource(self.app)

    @cached_property
    def node_router(self) -> NodeRouter:
        """The router of ``node=`` and ``nodekit_routes``."""
        return NodeRouter(self.node_source)

    def Queues(self, queues: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N802
        """Return the app's queues and, for routing only, the node queues."""
        made = super().Queues(queues, *args, **kwargs)  # type: ignore[misc]
        if not hasattr(made, "_default_consume_from"):
            # Until Celery 5.6 a worker without -Q consumes every queue it knows.
            made._consume_from = dict(made)
        self.add_node_queues(made)
        return made

    def Router(  # noqa: N802
        self, queues: Any = None, create_missing: bool | None = None
    ) -> _NodeFirstRouter:
        """Return a router that asks for a node first."""
        stock = super().Router(queues, create_missing)  # type: ignore[misc]
        return _NodeFirstRouter(self, stock)

    def first_route(
        self, options: dict[str, Any], name: str, args: Any, kwargs: Any, task: Any
    ) -> dict[str, Any] | None:
        """Answer as an entry of ``task_routes`` would, with ``options`` of the call changed."""
        destination = self.node_router.destination(options, name, args, kwargs, task)
        if destination is None:
            return None
        for key in DESTINATION_OPTIONS:
            options.pop(key, None)
        return {"queue": self.find_queue(destination)}

    def find_queue(self, destination: str | Choice) -> Queue:
        """Return the queue that a task call goes to."""
        if isinstance(destination, Choice):
            return _QueueByTaskId(destination, self.find_queue)
        queues: Any = self.queues  # type: ignore[attr-defined]
        if destination not in queues:
            # nodekit_nodes grew since the app's queues were made.
            self.add_node_queues(queues)
        queue: Queue = queues[destination]
        return queue

    def add_node_queues(self, queues: Any) -> None:
        """Make every node queue known for routing; what the app declares itself stays."""
        quorum = self.node_source.celery_setting("task_default_queue_type") == "quorum"
        for node in self.node_router.topology:
            for name in (node.queue, node.crontab_queue):
                if name not in queues:
                    queue = queues.new_missing(name)
                    if quorum:
                        arguments = queue.queue_arguments or {}
                        queue.queue_arguments = {**arguments, "x-queue-type": "quorum"}
                    queues.add(queue)

    def _create_task_sender(self) -> Any:
        send = super()._create_task_sender()  # type: ignore[misc]

        def send_task_message(
            producer: Any, name: str, message: Any, queue: Any = None, **options: Any
        ) -> Any:
            if isinstance(queue, _QueueByTaskId):
                queue = queue.chosen_by(message.properties["correlation_id"])
            return send(producer, name, message, queue=queue, **options)

        return send_task_message


class NodeAMQP(NodeRoutingMixin, AMQP):
    """``celery.app.amqp.AMQP`` with nodes."""


def with_node_routing(amqp_cls: type) -> type:
    """Return an ``amqp`` class with nodes, for an app that brings one of its own."""
    if amqp_cls is AMQP:
        return NodeAMQP
    if issubclass(amqp_cls, NodeRoutingMixin):
        return amqp_cls
    return type(f"Node{amqp_cls.__name__}", (NodeRoutingMixin, amqp_cls), {})


class _QueueByTaskId(Queue):
    """Stands for one of several queues, between routing and sending.

    ``Celery.send_task`` routes before it shares the task's id with the router, and looks at the
    queue's exchange meanwhile; every candidate has the same kind of exchange.
    """

    def __init__(self, choice: Choice, find: Callable[[str], Queue]) -> None:
        like = find(choice.by(""))
        super().__init__(like.name, like.exchange, like.routing_key)
        self._choice = choice
        self._find = find

    def chosen_by(self, task_id: str) -> Queue:
        return self._find(self._choice.by(task_id))


class _NodeFirstRouter(Router):
    """``celery.app.routes.Router`` that asks for a node before the app's own routes."""

    def __init__(self, amqp: NodeRoutingMixin, stock: Any) -> None:
        super().__init__(stock.routes, stock.queues, stock.create_missing, app=stock.app)
        self._amqp = amqp

    def route(
        self,
        options: dict[str, Any],
        name: str,
        args: Any = (),
        kwargs: Any = None,
        task_type: Any = None,
    ) -> dict[str, Any]:
        destination = self._amqp.node_router.destination(options, name, args, kwargs, task_type)
        if destination is None:
            routed: dict[str, Any] = super().route(options, name, args, kwargs, task_type)
            return routed
        chosen = {key: value for key, value in options.items() if key not in DESTINATION_OPTIONS}
        # The app's routes may still set a priority, a serializer and so on.
        extras = self.lookup_route(name, args, kwargs, dict(options), task_type)
        if isinstance(extras, Mapping):
            inherited = {k: v for k, v in extras.items() if k not in DESTINATION_OPTIONS}
            given = {k: v for k, v in chosen.items() if v is not None}
            chosen = {**chosen, **inherited, **given}
        chosen["queue"] = self._amqp.find_queue(destination)
        return chosen
