"""``nodekit_routes``: from a task's name to the nodes that may run it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_nodekit.exceptions import ConfigurationError, did_you_mean
from celery_nodekit.topology import Selector, Topology

__all__ = ["Rule", "RuleTable"]

_RULE_KEYS = frozenset({"nodes", "by"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Where one kind of task goes: to the one node selected, or to one of several."""

    #: The nodes that may take the task.
    nodes: Selector
    #: Name of the task argument that chooses among them; the task's id when ``None``.
    by: str | None = None


class RuleTable:
    """``nodekit_routes``, read once.

    An exact name is looked up first, then globs and regular expressions in the order given.

    Raises:
        ConfigurationError: a rule is malformed or selects no node; the message names the rule.
    """

    def __init__(self, routes: Mapping[Any, Any], topology: Topology) -> None:
        self._exact: dict[str, Rule] = {}
        self._patterns: list[tuple[re.Pattern[str], Rule]] = []
        for key, value in routes.items():
            rule = _read_rule(key, value, topology)
            if isinstance(key, re.Pattern):
                self._patterns.append((key, rule))
            elif not isinstance(key, str) or not key:
                raise ConfigurationError(
                    f"nodekit_routes: {key!r} must be a task name, a glob or a compiled regex."
                )
            elif any(mark in key for mark in "*?["):
                self._patterns.append((re.compile(fnmatch.translate(key)), rule))
            else:
                self._exact[key] = rule

    def find(self, task_name: str) -> Rule | None:
        """Return the rule for a task, or ``None`` where the app's own routing decides."""
        rule = self._exact.get(task_name)
        if rule is not None:
            return rule
        # `match`, as in celery.app.routes.MapRoute, so that a regex means the same in both tables.
        return next((rule for regex, rule in self._patterns if regex.match(task_name)), None)


def _read_rule(key: object, value: object, topology: Topology) -> Rule:
    by = None
    if isinstance(value, Mapping):
        for name in value:
            if name not in _RULE_KEYS:
                raise ConfigurationError(
                    f"nodekit_routes[{key!r}] has the unknown key {name!r}."
                    f"{did_you_mean(str(name), _RULE_KEYS)} Known: by, nodes."
                )
        by = value.get("by")
        if by is not None and not isinstance(by, str):
            raise ConfigurationError(
                f"nodekit_routes[{key!r}]['by'] must be the name of a task argument, not {by!r}."
            )
        value = value.get("nodes")
    if not isinstance(value, str | list | tuple):
        raise ConfigurationError(
            f"nodekit_routes[{key!r}] must be a node, a selector, or"
            f" {{'nodes': selector, 'by': argument}}, not {value!r}."
        )
    try:
        topology.candidates(value)
    except ConfigurationError as exc:
        raise type(exc)(f"nodekit_routes[{key!r}]: {exc}") from exc
    return Rule(nodes=value, by=by)
