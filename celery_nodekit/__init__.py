"""Celery on several nodes that loses no work.

Importing this package does nothing and loads nothing of Celery: names are imported when used, since
``celery`` loads the command line plug-in of every installed package on every call.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_nodekit.app import NodeKit
    from celery_nodekit.beat.scheduler import NodeFanoutScheduler
    from celery_nodekit.beat.scheduler import NodeFanoutScheduler as Scheduler
    from celery_nodekit.exceptions import (
        AlreadyInstalledError,
        ConfigurationError,
        CronError,
        NodeKitError,
        RoutingError,
        StateFileError,
        UnknownNodeError,
    )
    from celery_nodekit.schedules.schedule import cron

__version__ = "0.1.0"

__all__ = [
    "AlreadyInstalledError",
    "ConfigurationError",
    "CronError",
    "NodeFanoutScheduler",
    "NodeKit",
    "NodeKitError",
    "RoutingError",
    "Scheduler",
    "StateFileError",
    "UnknownNodeError",
    "__version__",
    "cron",
]

_HOMES = {
    "AlreadyInstalledError": "exceptions:AlreadyInstalledError",
    "ConfigurationError": "exceptions:ConfigurationError",
    "CronError": "exceptions:CronError",
    "NodeFanoutScheduler": "beat.scheduler:NodeFanoutScheduler",
    "NodeKit": "app:NodeKit",
    "NodeKitError": "exceptions:NodeKitError",
    "RoutingError": "exceptions:RoutingError",
    "Scheduler": "beat.scheduler:NodeFanoutScheduler",
    "StateFileError": "exceptions:StateFileError",
    "UnknownNodeError": "exceptions:UnknownNodeError",
    "cron": "schedules.schedule:cron",
}


def __getattr__(name: str) -> Any:
    try:
        module, _, attribute = _HOMES[name].partition(":")
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return __all__
