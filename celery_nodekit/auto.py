"""Installs a kit by configuration alone.

.. code-block:: python

    imports = ["celery_nodekit.auto", "proj.tasks"]      # workers and beat
    task_routes = ["celery_nodekit.auto.route"]          # web processes and other producers
    nodekit_nodes = ["node1", "node2"]
    beat_scheduler = "celery_nodekit.Scheduler"

Importing this module is what installs the kit, on the current app, because that is all Celery does
with a module named in ``imports``. It is the only module of this package that does anything when
imported. An app that can be edited is better served by ``NodeKit(app)``: here ``--node`` is not
known to ``celery worker`` (set ``NODEKIT_NODE``), and with several apps in one process only the
current one gets a kit.
"""

from __future__ import annotations

from typing import Any

from celery import current_app

from celery_nodekit.app import NodeKit
from celery_nodekit.routing.amqp import NodeRoutingMixin

__all__ = ["install", "route"]


def install(app: Any) -> NodeKit:
    """Return the app's kit, made now if there is none."""
    kit: NodeKit | None = getattr(app, "nodekit", None)
    return kit or NodeKit(app)


def route(
    name: str,
    args: Any,
    kwargs: Any,
    options: dict[str, Any],
    task: Any = None,
    **_kw: Any,
) -> dict[str, Any] | None:
    """Route the call during which this module was first loaded; later ones never get here.

    From then on the app's own ``amqp`` routes to nodes. Celery was already inside the old one.
    """
    app = _current_app() if task is None else task.app
    install(app)
    amqp = app.amqp
    if not isinstance(amqp, NodeRoutingMixin):
        return None
    return amqp.first_route(options, name, args, kwargs, task)


def _current_app() -> Any:
    proxy: Any = current_app
    return proxy._get_current_object()


install(_current_app())
