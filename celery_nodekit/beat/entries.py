"""Reads cron entries for several nodes out of ``beat_schedule`` and ``@kit.cron``.

An entry is for several nodes when its options have ``nodes``, or, in the form that every store can
keep, ``headers["nodekit"]["nodes"]``. All other entries are left to Celery's own scheduler.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from typing import Any

from celery.schedules import maybe_schedule

from celery_nodekit.beat.occurrence import HEADER
from celery_nodekit.exceptions import ConfigurationError, did_you_mean
from celery_nodekit.schedules import cron
from celery_nodekit.schedules.firetimes import FireTimes, fire_times
from celery_nodekit.topology import Node, Selector, Topology

__all__ = ["FanoutEntry", "Plan", "read_entries"]

_OWN_KEYS = frozenset({"nodes", "anchor"})
_SET_BY_FANOUT = ("queue", "exchange", "routing_key", "node", "task_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class FanoutEntry:
    """A cron entry of which each selected node gets every occurrence."""

    name: str
    #: Name of the task.
    task: str
    #: When it fires.
    times: FireTimes
    #: Which nodes get it.
    selector: Selector
    #: Every node that the selector can pick.
    candidates: tuple[Node, ...]
    args: Any
    kwargs: Any
    #: Execution options, without what only this library reads.
    options: Mapping[str, Any]
    #: Changes when the schedule does.
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All entries of an app, sorted by who serves them."""

    fanout: Mapping[str, FanoutEntry]
    #: Entries in ``beat_schedule`` form, for Celery's own scheduler.
    plain: Mapping[str, Any]


def read_entries(
    beat_schedule: Mapping[str, Any],
    *,
    topology: Topology,
    tz: tzinfo,
    app: Any,
    is_task: Callable[[str], bool],
) -> Plan:
    """Sort and check entries.

    Args:
        beat_schedule: entries as Celery's setting has them.
        topology: the nodes.
        tz: the app's time zone.
        app: given to schedules, which ask it for the time.
        is_task: tells whether a task of that name is registered.

    Raises:
        ConfigurationError: names every wrong entry and its cause.
    """
    fanout: dict[str, FanoutEntry] = {}
    plain: dict[str, Any] = {}
    mistakes: list[str] = []
    for name, given in beat_schedule.items():
        try:
            entry = dict(given)  # Celery takes a ScheduleEntry as well as a mapping
            named = _with_named_schedule(name, entry)
            own = _own_settings(entry)
            if own is None:
                _check_node(entry, topology)
                plain[name] = named
                continue
            fanout[name] = _read(name, named, own, topology=topology, tz=tz, app=app)
            _check_task(entry, is_task)
        except ConfigurationError as exc:
            mistakes.append(f"cron entry {name!r}: {exc}")
        except (TypeError, ValueError, OverflowError, AttributeError) as exc:
            mistakes.append(f"cron entry {name!r} cannot be read: {type(exc).__name__}: {exc}")
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return Plan(fanout=fanout, plain=plain)


def _with_named_schedule(name: str, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    schedule = entry.get("schedule")
    if isinstance(schedule, cron):
        return {**entry, "schedule": schedule.named(name)}
    return entry


def _own_settings(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    options = entry.get("options") or {}
    header = (options.get("headers") or {}).get(HEADER)
    if "nodes" in options:
        return {**(header if isinstance(header, Mapping) else {}), "nodes": options["nodes"]}
    return dict(header) if isinstance(header, Mapping) else None


def _read(
    name: str,
    entry: Mapping[str, Any],
    own: Mapping[str, Any],
    *,
    topology: Topology,
    tz: tzinfo,
    app: Any,
) -> FanoutEntry:
    for key in own:
        if key not in _OWN_KEYS:
            raise ConfigurationError(
                f"headers[{HEADER!r}] has the unknown key {key!r}."
                f"{did_you_mean(str(key), _OWN_KEYS)} Known: {', '.join(sorted(_OWN_KEYS))}."
            )
    if "nodes" not in own:
        raise ConfigurationError(f"headers[{HEADER!r}] lacks 'nodes', for example 'all'.")
    options = copy.deepcopy(dict(entry.get("options") or {}))
    options.pop("nodes", None)
    headers = dict(options.get("headers") or {})
    headers.pop(HEADER, None)
    options["headers"] = headers
    for key in _SET_BY_FANOUT:
        if options.get(key) is not None:
            raise ConfigurationError(
                f"options has both 'nodes' and {key!r}; with 'nodes' each occurrence goes to its"
                f" node's crontab queue under an id of its own. Leave {key!r} out."
            )
    if entry.get("schedule") is None:
        raise ConfigurationError("it has no 'schedule'.")
    schedule = maybe_schedule(entry["schedule"], entry.get("relative", False), app=app)
    return FanoutEntry(
        name=name,
        task=str(entry.get("task") or ""),
        times=fire_times(schedule, tz=tz, anchor=_anchor(own.get("anchor", 0))),
        selector=own["nodes"],
        candidates=tuple(topology.candidates(own["nodes"])),
        args=entry.get("args") or (),
        kwargs=entry.get("kwargs") or {},
        options=options,
        fingerprint=f"{schedule!r} {tz} {own.get('anchor', 0)}",
    )


def _check_node(entry: Mapping[str, Any], topology: Topology) -> None:
    node = (entry.get("options") or {}).get("node")
    if node is not None:
        topology.get(node)


def _anchor(seconds: object) -> timedelta:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigurationError(f"'anchor' must be a number of seconds, not {seconds!r}.")
    return timedelta(seconds=seconds)


def _check_task(entry: Mapping[str, Any], is_task: Callable[[str], bool]) -> None:
    task = entry.get("task")
    if not isinstance(task, str) or not task:
        raise ConfigurationError("it has no 'task'.")
    if not is_task(task):
        raise ConfigurationError(
            f"there is no task {task!r}; correct the name, or name its module in the app's"
            " 'imports' or 'include'."
        )
