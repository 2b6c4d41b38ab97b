"""Which process stands in for which image."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from celery_nodekit.demo.server import EmbeddedServer
from tests.support.processes import LoggedProcess, python_path
from tests.support.rabbitmq import RabbitServer

__all__ = [
    "BUILT",
    "ContainerSpec",
    "Machine",
    "Server",
    "host_command",
    "host_environment",
    "make_machine",
]

#: Id of every image that is built: this Python environment.
BUILT = "built"

#: What pytest-celery asks of Redis and EmbeddedServer does anyway.
_REDIS_OPTIONS = {"--save": "", "--maxmemory-policy": "noeviction", "--protected-mode": "no"}

#: Variables of the test run that no container would see.
_FOREIGN = ("CELERY_", "NODEKIT_")


class Machine(Protocol):
    """What a container needs of its process."""

    @property
    def pid(self) -> int:
        """Process id of the last start."""

    @property
    def running(self) -> bool:
        """Whether the process is alive."""

    @property
    def log_path(self) -> Path:
        """File with the output of all starts."""

    def start(self) -> None:
        """Start, and wait until it can be used where the process says so."""

    def stop(self, timeout: float = ...) -> object:
        """End it politely, and with SIGKILL after ``timeout`` seconds."""

    def kill(self) -> None:
        """End it and its children with SIGKILL."""


class Server(Machine, Protocol):
    """A machine that listens on a port."""

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1, known after the first start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSpec:
    """What ``containers.run`` or ``containers.create`` was asked for."""

    #: Id or name of the image.
    image: str
    #: 64 hexadecimal digits.
    id: str
    name: str
    #: Of the container alone: its log, its data and, without a volume, its working directory.
    directory: Path
    command: Sequence[str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Directory on this machine by path in the container.
    binds: Mapping[str, Path] = field(default_factory=dict)
    #: Ports to publish, such as ``6379/tcp``.
    ports: Sequence[str] = ()
    network: str = "none"
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def hostname(self) -> str:
        """Host name, as Docker chooses it."""
        return self.id[:12]

    @property
    def workdir(self) -> Path:
        """Working directory: the first volume, else the container's own directory."""
        return next(iter(self.binds.values()), self.directory)

    def host_path(self, path: str) -> str:
        """Return where a path in the container is on this machine."""
        for bind, directory in self.binds.items():
            if path == bind or path.startswith(bind + "/"):
                return str(directory) + path[len(bind) :]
        return path


def make_machine(spec: ContainerSpec) -> tuple[Machine, dict[str, Server]]:
    """Return the process of a container, not started yet, and who listens on its ports.

    Raises:
        NotImplementedError: there is no stand-in for the image or for an option of its command.
    """
    if spec.image == BUILT:
        return _worker(spec), {}
    kind = spec.image.partition(":")[0].rpartition("/")[2]
    if kind == "redis":
        redis = _redis(spec)
        return redis, {"6379/tcp": redis}
    if kind == "rabbitmq":
        if spec.command:
            raise NotImplementedError(f"RabbitMQ takes no command here: {spec.command}.")
        rabbitmq = RabbitServer(spec.directory)
        return rabbitmq, {"5672/tcp": rabbitmq}
    raise NotImplementedError(f"No local process stands in for the image {spec.image!r}.")


def _redis(spec: ContainerSpec) -> EmbeddedServer:
    arguments = list(spec.command or [])[1:]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    append_only = options.pop("--appendonly", "no") == "yes"
    unknown = sorted(options.items() - _REDIS_OPTIONS.items())
    if unknown:
        raise NotImplementedError(f"Redis does not take these options here: {unknown}.")
    return EmbeddedServer(spec.directory, append_only=append_only)


def _worker(spec: ContainerSpec) -> LoggedProcess:
    if not spec.command:
        raise NotImplementedError("The command of a built image has to be given.")
    return LoggedProcess(
        host_command(spec, spec.command),
        cwd=spec.workdir,
        env=host_environment(spec),
        log=spec.directory / "output.log",
    )


def host_command(spec: ContainerSpec, command: Sequence[str]) -> list[str]:
    """Return a container's command as it is run here."""
    program, *arguments = (argument.replace("%h", spec.hostname) for argument in command)
    if program == "celery":
        return [sys.executable, "-m", "celery", *arguments]
    if program == "python":
        return [sys.executable, *arguments]
    return [program, *arguments]


def host_environment(spec: ContainerSpec) -> dict[str, str]:
    """Return a container's environment variables on top of those a process needs here."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(_FOREIGN)}
    wanted = spec.environment.get("PYTHONPATH", "")
    path = [spec.host_path(entry) for entry in wanted.split(":") if entry]
    return {**inherited, **spec.environment, "PYTHONPATH": python_path(*path)}
