"""A container that is a local process."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import IO, Any

from tests.support.localdocker.machines import (
    ContainerSpec,
    Machine,
    Server,
    host_command,
    host_environment,
    make_machine,
)

__all__ = ["LocalContainer"]

#: How pytest-docker-tools asks which ports a container listens on.
_NETSTAT = "cat /proc/net/tcp /proc/net/tcp6"


class LocalContainer:
    """The part of ``docker.models.containers.Container`` that pytest-celery uses."""

    def __init__(self, spec: ContainerSpec) -> None:
        self.spec = spec
        self.id = spec.id
        self.name = spec.name
        self.labels = dict(spec.labels)
        self._machine: Machine | None = None
        self._listening: dict[str, Server] = {}
        spec.directory.mkdir(parents=True)

    @property
    def status(self) -> str:
        """``created``, ``running`` or ``exited``, as it is now."""
        if self._machine is None:
            return "created"
        return "running" if self._machine.running else "exited"

    @property
    def attrs(self) -> dict[str, Any]:
        """What ``docker inspect`` would say, as far as it is asked for."""
        running = self.status == "running"
        ports = {port: self._published(port) for port in self.spec.ports} if running else {}
        return {
            "Config": {
                "Hostname": self._hostname(),
                "Env": [f"{name}={text}" for name, text in self.spec.environment.items()],
                "Labels": self.labels,
            },
            "HostConfig": {"PortBindings": dict.fromkeys(self.spec.ports)},
            "NetworkSettings": {
                "Networks": {self.spec.network: {"IPAddress": "127.0.0.1" if running else ""}},
                "Ports": ports,
            },
            "Mounts": [],
        }

    def reload(self) -> None:
        """Do nothing: what a container says here is always current."""

    def logs(self) -> bytes:
        """Return the output of all starts."""
        if self._machine is None or not self._machine.log_path.exists():
            return b""
        return self._machine.log_path.read_bytes()

    def start(self) -> None:
        """Start the process; a server is waited for until it answers.

        Raises:
            NotImplementedError: see :func:`tests.support.localdocker.machines.make_machine`.
        """
        if self._machine is None:
            self._machine, self._listening = make_machine(self.spec)
        self._machine.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Send SIGTERM, and SIGKILL after ``timeout`` seconds."""
        if self._machine is not None and self._machine.running:
            with contextlib.suppress(AssertionError):
                self._machine.stop(timeout)

    def restart(self, timeout: float = 10.0) -> None:
        """Stop, where it runs, and start."""
        self.stop(timeout)
        self.start()

    def kill(self, name: str | int | None = None) -> None:
        """Send a signal to the main process, SIGKILL unless told otherwise.

        Raises:
            RuntimeError: the container does not run.
        """
        if self._machine is None or not self._machine.running:
            raise RuntimeError(f"The container {self.name} is not running.")
        number = _signal_number("SIGKILL" if name is None else name)
        if number == signal.SIGKILL:
            self._machine.kill()
        else:
            os.kill(self._machine.pid, number)

    def remove(self, force: bool = False) -> None:
        """Kill it; its files stay for whoever looks into a failed test.

        Raises:
            RuntimeError: it is running, and ``force`` was not given.
        """
        if self.status == "running":
            if not force:
                raise RuntimeError(f"The container {self.name} is running: stop it first.")
            self.kill()

    def exec_run(self, cmd: str | list[str]) -> tuple[int, bytes]:
        """Run a command beside the process and return its exit code and its output."""
        if cmd == _NETSTAT:
            return 0, self._netstat().encode()
        command = shlex.split(cmd) if isinstance(cmd, str) else cmd
        done = subprocess.run(
            host_command(self.spec, command),
            cwd=self.spec.workdir,
            env=host_environment(self.spec),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.returncode, done.stdout

    def put_archive(self, path: str, data: IO[bytes]) -> bool:
        """Unpack a tar file into a directory of the container."""
        root = Path(self.spec.host_path(path))
        with tarfile.open(fileobj=data) as archive:
            for member in archive.getmembers():
                content = archive.extractfile(member)
                target = root / member.name
                if content is None:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
        return True

    def _hostname(self) -> str:
        # pytest-celery makes the URL that workers get of the host name alone.
        for server in self._listening.values():
            return f"127.0.0.1:{server.port}"
        return self.spec.hostname

    def _published(self, port: str) -> list[dict[str, str]] | None:
        if port not in self._listening:
            return None
        return [{"HostIp": "127.0.0.1", "HostPort": str(self._listening[port].port)}]

    def _netstat(self) -> str:
        if self.status != "running":
            return ""
        ports = [int(port.partition("/")[0]) for port in self._listening]
        return "\n".join(f"0: 00000000:{port:04X} 00000000:0000 0A" for port in ports)


def _signal_number(name: str | int) -> int:
    if isinstance(name, int):
        return name
    return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
