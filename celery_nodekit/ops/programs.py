"""What runs on one node, said once for every process manager.

A :class:`NodePrograms` knows commands, numbers and stop times; how they are written down for
supervisord or another process manager is that renderer's business.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from celery_nodekit.exceptions import ConfigurationError
from celery_nodekit.topology import Topology

__all__ = ["STOP_MARGIN", "NodeOptions", "NodePrograms", "Program", "describe_node"]

#: Seconds that a process manager waits beyond ``nodekit_drain_timeout`` before it kills a worker.
STOP_MARGIN = 10
#: Seconds that beat and Flower get to stop; they hold no work.
_STOP_SECONDS = 10

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """One command of a node, run as one or several processes."""

    #: Name, unique in the deployment: the node's name and the role.
    name: str
    #: ``backend``, ``worker``, ``crontab``, ``beat`` or ``flower``.
    role: str
    #: The command and its arguments; no shell reads it.
    command: tuple[str, ...]
    #: What Celery is to call the worker, without number and host; ``None`` for other programs.
    worker_name: str | None = None
    #: Environment variables of this program alone.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Number of processes; ``None`` for exactly one, which then needs no number in its name.
    processes: int | None = None
    #: Seconds it gets to stop by itself.
    stop_seconds: int = _STOP_SECONDS


@dataclass(frozen=True, kw_only=True, slots=True)
class NodePrograms:
    """Everything that runs on one node."""

    #: Name of the node.
    node: str
    #: The programs, in the order in which they are listed.
    programs: tuple[Program, ...]
    #: Environment of every program.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Working directory of every program.
    directory: str | None = None
    #: Account that runs them.
    user: str | None = None
    #: Directory of their log files.
    log_dir: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeOptions:
    """What may be chosen about a node's programs.

    Raises:
        ConfigurationError: a value cannot be used.
    """

    #: The ``celery`` command, split into words.
    celery: tuple[str, ...] = ("celery",)
    #: Whether the app's ``celery worker`` knows ``--node`` and ``--crontab``, as it does when
    #: ``NodeKit(app)`` was called; with ``celery_nodekit.auto`` only the environment says it.
    flags: bool = True
    #: Number of worker processes, not counting the crontab worker.
    workers: int = 2
    #: Tasks that each worker runs at a time; Celery's default when ``None``.
    concurrency: int | None = None
    #: The same for the crontab worker.
    crontab_concurrency: int | None = None
    #: Command of the node's own application, as one would type it; none when ``None``.
    backend: str | None = None
    #: Whether beat runs here; on the first node of the topology alone when ``None``.
    beat: bool | None = None
    #: Directory of beat's schedule file; the working directory when ``None``.
    state_dir: str | None = None
    #: Whether Flower runs here.
    flower: bool = True
    #: Address that Flower listens on.
    flower_address: str = "127.0.0.1"
    #: Port that Flower listens on.
    flower_port: int = 5555
    #: Log level of workers and beat.
    loglevel: str = "INFO"
    #: Account that runs the programs; the process manager's when ``None``.
    user: str | None = None
    #: Working directory; the process manager's when ``None``.
    directory: str | None = None
    #: Directory of log files; the process manager's choice when ``None``.
    log_dir: str | None = None
    #: Environment variables besides ``NODEKIT_NODE``.
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what no process manager would report well."""
        for name in ("workers", "concurrency", "crontab_concurrency"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be 1 or more, not {value!r}.")
        if not 1 <= self.flower_port <= 65_535:
            raise ConfigurationError(f"Flower cannot listen on port {self.flower_port!r}.")
        if not self.celery:
            raise ConfigurationError("The celery command is empty.")
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise ConfigurationError(
                    f"{name!r} cannot be the name of an environment variable; use letters, digits"
                    " and '_'."
                )


def describe_node(
    topology: Topology,
    node: str,
    *,
    app: str,
    drain_timeout: float,
    options: NodeOptions | None = None,
) -> NodePrograms:
    """Describe what runs on a node.

    Args:
        topology: the nodes of the deployment.
        node: name of the node.
        app: what ``celery -A`` is given.
        drain_timeout: seconds that a stopping worker may go on (``nodekit_drain_timeout``).
        options: choices; all defaults when left out.

    Raises:
        UnknownNodeError: there is no such node.
        ConfigurationError: the backend's command cannot be split into words, or the environment
            contradicts the node.
    """
    options = options or NodeOptions()
    name = topology.get(node).name
    celery = (*options.celery, "-A", app)
    drain = math.ceil(drain_timeout) + STOP_MARGIN
    programs = [
        *_backend(name, options, drain),
        *_workers(name, celery, options, drain),
        *_beat(name, celery, options, is_first=name == topology.names[0]),
        *_flower(name, celery, options),
    ]
    return NodePrograms(
        node=name,
        programs=tuple(programs),
        environment=_environment(name, options.environment),
        directory=options.directory,
        user=options.user,
        log_dir=options.log_dir,
    )


def _backend(node: str, options: NodeOptions, stop_seconds: int) -> list[Program]:
    if options.backend is None:
        return []
    try:
        command = tuple(shlex.split(options.backend))
    except ValueError as exc:
        raise ConfigurationError(
            f"The backend command {options.backend!r} cannot be read: {exc}."
        ) from exc
    if not command:
        raise ConfigurationError("The backend command is empty; leave it out instead.")
    return [
        Program(name=f"{node}-backend", role="backend", command=command, stop_seconds=stop_seconds)
    ]


def _workers(
    node: str, celery: tuple[str, ...], options: NodeOptions, stop_seconds: int
) -> list[Program]:
    node_flag, crontab_flag = (("--node", node), ("--crontab",)) if options.flags else ((), ())
    command = (*celery, "worker", *node_flag, "-l", options.loglevel)
    return [
        Program(
            name=f"{node}-worker",
            role="worker",
            command=(*command, *_concurrency(options.concurrency)),
            # The process manager's own environment may say otherwise.
            environment={"NODEKIT_CRONTAB": "0"},
            worker_name=f"{node}-worker",
            processes=options.workers,
            stop_seconds=stop_seconds,
        ),
        Program(
            name=f"{node}-crontab",
            role="crontab",
            command=(*command, *crontab_flag, *_concurrency(options.crontab_concurrency)),
            environment={"NODEKIT_CRONTAB": "1"},
            worker_name=f"{node}-crontab",
            stop_seconds=stop_seconds,
        ),
    ]


def _concurrency(number: int | None) -> tuple[str, ...]:
    return () if number is None else ("-c", str(number))


def _beat(
    node: str, celery: tuple[str, ...], options: NodeOptions, *, is_first: bool
) -> list[Program]:
    if not (is_first if options.beat is None else options.beat):
        return []
    schedule = f"{node}-beat-schedule"
    if options.state_dir is not None:
        schedule = f"{options.state_dir.rstrip('/')}/{schedule}"
    return [
        Program(
            name=f"{node}-beat",
            role="beat",
            command=(*celery, "beat", "-s", schedule, "-l", options.loglevel),
        )
    ]


def _flower(node: str, celery: tuple[str, ...], options: NodeOptions) -> list[Program]:
    if not options.flower:
        return []
    address = (f"--address={options.flower_address}", f"--port={options.flower_port}")
    return [
        Program(name=f"{node}-flower", role="flower", command=(*celery, "flower", *address)),
    ]


def _environment(node: str, chosen: Mapping[str, str]) -> dict[str, str]:
    if chosen.get("NODEKIT_NODE", node) != node:
        raise ConfigurationError(
            f"The environment says NODEKIT_NODE={chosen['NODEKIT_NODE']}, but these are the"
            f" programs of {node}; leave NODEKIT_NODE out."
        )
    return {"NODEKIT_NODE": node, **chosen}
