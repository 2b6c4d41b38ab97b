"""``NodeKit``: the one place that wires the rooms to a Celery app.

Everything it hands to Celery is an extension point of Celery: ``app.amqp_cls``, ``app.conf``,
``app.user_options`` and signals, connected when a kit is installed and never at import.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from celery import signals
from celery.utils.imports import symbol_by_name

from celery_nodekit.config import PREFIX, ConfigSource, NodeKitConfig
from celery_nodekit.exceptions import AlreadyInstalledError, ConfigurationError
from celery_nodekit.reliability import preset_for
from celery_nodekit.routing.amqp import NodeAMQP, with_node_routing
from celery_nodekit.schedules import cron
from celery_nodekit.schedules.registry import CronRegistry, Registration
from celery_nodekit.topology import Selector, Topology
from celery_nodekit.worker.node import WorkerNode
from celery_nodekit.worker.options import worker_options

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["NodeKit"]

logger = logging.getLogger(__name__)

_AMQP_PATH = f"{NodeAMQP.__module__}:{NodeAMQP.__qualname__}"
_SCHEDULER_PATH = "celery_nodekit.beat.scheduler:NodeFanoutScheduler"

_Task = TypeVar("_Task")

#: What is given to ``@kit.cron`` by mistake: a function that is no task yet, a task's name.
_NO_TASKS = (FunctionType, str, type(None))


class NodeKit:
    """Gives a Celery app nodes: a router, cron entries for several nodes, reliable settings.

    .. code-block:: python

        kit = NodeKit(app, nodes=["node1", "node2", "node3"])

    A setting that the app makes itself, in any way and at any time, wins over a keyword argument
    here, and that wins over the defaults and the reliability preset.

    Args:
        app: the app; leave it out and call :meth:`init_app` in an app factory.
        settings: ``nodekit_*`` settings without the prefix, such as ``nodes``.

    Raises:
        ConfigurationError: a setting is unknown or wrong.
        AlreadyInstalledError: the app has a kit already.
    """

    def __init__(self, app: Celery | None = None, **settings: Any) -> None:
        NodeKitConfig.from_mapping(settings)
        self._settings = settings
        self._app: Celery | None = None
        self._workers: list[WorkerNode] = []
        #: Entries made with :meth:`cron`.
        self.registry = CronRegistry()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        """Install the kit on an app.

        One kit may serve several apps, which then share its arguments and ``@kit.cron`` entries.
        Its own methods answer for the app it was installed on last.

        Raises:
            AlreadyInstalledError: the app has a kit already.
        """
        if getattr(app, "nodekit", None) is not None:
            raise AlreadyInstalledError(
                f"{app!r} already has a NodeKit, at app.nodekit. Use that one, or pass its settings"
                " in the first NodeKit(app, ...) call."
            )
        self._app = app
        app.nodekit = self
        source = ConfigSource(app)
        _install_amqp(app)
        app.user_options["worker"].update(worker_options(source))
        self._connect(app, source)

    @property
    def app(self) -> Celery:
        """The app it was last installed on.

        Raises:
            ConfigurationError: there is none yet.
        """
        if self._app is None:
            raise ConfigurationError("This NodeKit has no app yet; call kit.init_app(app) first.")
        return self._app

    @property
    def topology(self) -> Topology:
        """The nodes as configured now."""
        return Topology.from_config(ConfigSource(self.app).current())

    @property
    def node(self) -> str | None:
        """Name of the node this process runs on; ``None`` where nobody said."""
        return ConfigSource(self.app).node_from_environment()

    def nodes(self, selector: Selector = "all", *, key: str = "") -> list[str]:
        """Return the names of the nodes that a selector picks.

        Args:
            selector: a name, a list, ``"all"``, ``"role=web"`` or ``"role=web:1"``.
            key: what ``:1`` chooses by.

        Raises:
            UnknownNodeError: no node has that name or label.
        """
        return [node.name for node in self.topology.select(selector, key=key)]

    def queue(self, node: str) -> str:
        """Return the name of a node's queue, for ``apply_async(queue=kit.queue("node2"))``.

        The same as ``node="node2"``, in a form that type checkers know.

        Raises:
            UnknownNodeError: there is no such node.
        """
        return self.topology.get(node).queue

    def crontab_queue(self, node: str) -> str:
        """Return the name of the queue of a node's cron occurrences.

        Raises:
            UnknownNodeError: there is no such node.
        """
        return self.topology.get(node).crontab_queue

    def cron(
        self,
        expression: str,
        *,
        nodes: Selector | None = None,
        tz: str | None = None,
        seconds: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Callable[[_Task], _Task]:
        """Run the decorated task by a cron expression, on each selected node.

        Put it above ``@app.task`` or ``@shared_task``; it returns the task unchanged and does not
        touch it before beat starts.

        Args:
            expression: see :class:`celery_nodekit.cron`.
            nodes: selector of the nodes that each get every occurrence. Without it the entry is
                an ordinary one, which one worker takes.
            tz: zone of the expression; the app's by default.
            seconds: see :class:`celery_nodekit.cron`.
            args: positional arguments of the task.
            kwargs: keyword arguments of the task.
            name: name of the entry; the task's name by default.
            options: execution options, such as ``priority`` or ``expires``.

        Raises:
            CronError: the expression or the zone cannot be used.
        """
        schedule = cron(expression, tz=tz, seconds=seconds)

        def register(task: _Task) -> _Task:
            # By type() alone: isinstance() would evaluate a lazy task.
            if type(task) in _NO_TASKS:
                raise ConfigurationError(
                    f"@kit.cron decorates a task, not {task!r}; put it above @app.task or"
                    " @shared_task."
                )
            self.registry.add(
                Registration(
                    task=task,
                    schedule=schedule,
                    name=name,
                    nodes=nodes,
                    args=args,
                    kwargs=dict(kwargs or {}),
                    options=options,
                )
            )
            return task

        return register

    def _connect(self, app: Any, source: ConfigSource) -> None:
        def on_configured(**_kw: Any) -> None:
            self._apply_settings(source)

        # A weak signal would forget these with the kit that nobody keeps.
        app.on_after_configure.connect(on_configured, weak=False)
        if app.configured:
            on_configured()
            source.current()
        # Celery's signals are global: they may not keep an app alive, so the kit, which the app
        # keeps, keeps the handlers.
        worker = WorkerNode(app, source)
        self._workers.append(worker)
        for signal, handler in (
            (signals.celeryd_init, worker.on_worker_init),
            (signals.celeryd_after_setup, worker.on_queues_selected),
            (signals.worker_ready, worker.on_worker_ready),
        ):
            # Until Celery 5.6 bound methods of different objects count as one receiver.
            signal.connect(handler, dispatch_uid=f"celery_nodekit-{id(worker)}")
        signals.beat_init.connect(self._on_beat_init, dispatch_uid=f"celery_nodekit-{id(self)}")

    def _apply_settings(self, source: ConfigSource) -> None:
        source.apply_defaults({PREFIX + name: value for name, value in self._settings.items()})
        source.fill_in()
        source.apply_defaults({"task_default_queue": "default", "beat_scheduler": _SCHEDULER_PATH})
        if source.celery_setting(f"{PREFIX}reliability") == "off":
            return
        own_options = source.celery_setting("broker_transport_options") or {}
        preset = preset_for(source.broker_scheme(), own_options)
        options = preset.pop("broker_transport_options", own_options)
        if options != own_options:
            source.assign("broker_transport_options", options)
        source.apply_defaults(preset)

    def _on_beat_init(self, sender: Any, **_kw: Any) -> None:
        if getattr(sender.app, "nodekit", None) is not self or not len(self.registry):
            return
        if not hasattr(sender.scheduler, "_plan"):
            logger.error(
                "beat uses %r, which does not know the %d entries made with @kit.cron; they will"
                " not run. Use celery_nodekit.Scheduler.",
                sender.scheduler_cls,
                len(self.registry),
                extra={"action": "scheduler_without_nodes"},
            )


def _install_amqp(app: Any) -> None:
    given = symbol_by_name(app.amqp_cls)
    cls = with_node_routing(given)
    # As a path it pickles with the app.
    app.amqp_cls = _AMQP_PATH if cls is NodeAMQP else cls
    # Celery caches the instance; one made before would go on without nodes.
    app.__dict__.pop("amqp", None)
