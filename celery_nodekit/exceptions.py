"""Every error celery-nodekit raises; each message says what to change."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AlreadyInstalledError",
    "BrokerUnreachableError",
    "ConfigurationError",
    "CronError",
    "NodeKitError",
    "RoutingError",
    "StateFileError",
    "UnknownNodeError",
    "did_you_mean",
]


class NodeKitError(Exception):
    """Base of all errors raised by celery-nodekit."""


class ConfigurationError(NodeKitError, ValueError):
    """A setting, a topology or a cron entry is wrong."""


class AlreadyInstalledError(ConfigurationError):
    """A second ``NodeKit`` was installed on one app."""


class UnknownNodeError(ConfigurationError):
    """A selector names a node or a label that the topology does not have."""


class BrokerUnreachableError(NodeKitError):
    """The broker takes nothing at present."""


class CronError(ConfigurationError):
    """A cron expression cannot be read, or never fires."""


class RoutingError(NodeKitError, ValueError):
    """A task call names destinations that exclude each other."""


class StateFileError(NodeKitError, OSError):
    """The scheduler's state file cannot be used, or another beat holds it."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``' Did you mean ...?'`` for the nearest known word, or nothing."""
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=0.6)
    return f" Did you mean {by_folded[near[0]]!r}?" if near else ""
