"""The demo's nodes: a real supervisord with the configuration that operators get as well."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from celery_nodekit.config import ConfigSource
from celery_nodekit.demo.settings import CONCURRENCY, CRONTAB_CONCURRENCY, DemoSettings
from celery_nodekit.demo.tasks import APP_PATH
from celery_nodekit.ops.programs import STOP_MARGIN, NodeOptions, NodePrograms, describe_node
from celery_nodekit.ops.supervisord import Daemon, render_daemon, render_node
from celery_nodekit.topology import Topology

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Cluster", "ClusterError", "Process", "require"]

#: Seconds that supervisord gets to answer for the first time.
_ANSWER_TIMEOUT = 15.0
_POLL_INTERVAL = 0.05
_LOG_LINES = 25


class ClusterError(RuntimeError):
    """Something that the demo needs is not there or did not start; the message says what."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process as supervisord sees it."""

    #: ``group:process``, as ``supervisorctl`` takes it.
    name: str
    #: Name of its node.
    node: str
    #: supervisord's word for its state, such as ``RUNNING``.
    state: str
    #: Process id; 0 when there is none.
    pid: int
    #: How it ended the last time.
    exit_code: int
    #: File of what it prints.
    log: Path


def require(*modules: str) -> None:
    """Check that the demo's extra is installed.

    Raises:
        ClusterError: one of the modules is not there.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ClusterError(
            f"The demo needs {' and '.join(missing)}. Run: pip install 'celery-nodekit[demo]'"
        )


class Cluster:
    """All nodes of one run; leaving its ``with`` block ends every process of theirs.

    Args:
        settings: of the run.
        source: settings of the demo's app.
        directory: where configuration and logs are put.
        environment: environment of all processes.
    """

    def __init__(
        self,
        settings: DemoSettings,
        source: ConfigSource,
        *,
        directory: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._directory = directory
        self._environment = dict(environment)
        self._nodes = _describe(settings, source, directory)
        config = source.current()
        #: Seconds after which supervisord has killed whatever did not stop by itself.
        self._stop_timeout = config.drain_timeout + STOP_MARGIN + 5.0
        self._daemon: subprocess.Popen[bytes] | None = None
        self._socket_directory: Path | None = None
        self._server: Any = None
        self._groups: set[int] = set()

    def __enter__(self) -> Self:
        require("supervisor")
        (self._directory / "logs").mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def processes(self) -> list[Process]:
        """Return all processes, by node.

        Raises:
            ClusterError: supervisord does not answer, or a process does not start at all.
        """
        found = [_process(info) for info in self._call("getAllProcessInfo")]
        # Kept for the case that supervisord itself dies; each process leads a group.
        self._groups = {process.pid for process in found if process.pid}
        for process in found:
            if process.state == "FATAL":
                raise ClusterError(f"{process.name} does not start. {tail(process.log)}")
        return sorted(found, key=lambda process: process.name)

    def stop_process(self, name: str) -> None:
        """Have a process stopped, as ``supervisorctl stop`` does; do not wait for it."""
        self._call("stopProcess", name, False)

    def start_process(self, name: str) -> None:
        """Have a process started; do not wait for it."""
        self._call("startProcess", name, False)

    def _call(self, method: str, *args: Any) -> Any:
        try:
            return getattr(self._server.supervisor, method)(*args)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as exc:
            if self._daemon is not None and self._daemon.poll() is not None:
                raise ClusterError(f"supervisord has ended. {self._daemon_log()}") from exc
            raise ClusterError(
                f"supervisord refuses {method}: {exc}.\n{self._daemon_log()}"
            ) from exc

    def _start(self) -> None:
        socket = self._make_socket_path()
        config = self._directory / "supervisord.conf"
        daemon = Daemon(socket=str(socket), directory=str(self._directory / "logs"))
        parts = [render_daemon(daemon), *map(render_node, self._nodes)]
        config.write_text("\n".join(parts), encoding="utf-8")
        with self._daemon_log_path.open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(config)],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C at the terminal is for the demo, which stops its nodes in order.
                start_new_session=True,
            )
        self._connect(socket)

    def _make_socket_path(self) -> Path:
        # A socket's path must be short, which the chosen directory may not be.
        directory = Path(tempfile.mkdtemp(prefix="nk-"))
        if len(os.fsencode(directory)) > 60:
            directory.rmdir()
            directory = Path(tempfile.mkdtemp(prefix="nk-", dir="/tmp"))
        self._socket_directory = directory
        return directory / "s"

    def _connect(self, socket: Path) -> None:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{socket}")
        self._server = xmlrpc.client.ServerProxy("http://supervisor", transport=transport)
        deadline = time.monotonic() + _ANSWER_TIMEOUT
        while not socket.exists():
            ended = self._daemon is None or self._daemon.poll() is not None
            if ended or time.monotonic() > deadline:
                raise ClusterError(f"supervisord does not start. {self._daemon_log()}")
            time.sleep(_POLL_INTERVAL)
        self._call("getState")

    def _stop(self) -> None:
        try:
            if self._daemon is not None:
                self._end_daemon(self._daemon)
        finally:
            if self._server is not None:
                self._server("close")()
            if self._socket_directory is not None:
                shutil.rmtree(self._socket_directory, ignore_errors=True)

    def _end_daemon(self, daemon: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ClusterError, AttributeError):
            self.processes()
        daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Having been told to stop, supervisord ends after the last of its processes.
            if daemon.wait(self._stop_timeout) == 0:
                return
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        daemon.kill()
        daemon.wait()

    @property
    def _daemon_log_path(self) -> Path:
        return self._directory / "logs" / "supervisord.out"

    def _daemon_log(self) -> str:
        return tail(self._daemon_log_path)


def tail(log: Path) -> str:
    """Return the end of a log, under a line that names it."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        lines = []
    return "\n  ".join([f"The end of {log}:", *(lines or ["(nothing)"])])


def _describe(settings: DemoSettings, source: ConfigSource, directory: Path) -> list[NodePrograms]:
    config = source.current()
    options = NodeOptions(
        celery=(sys.executable, "-m", "celery"),
        workers=1,
        concurrency=CONCURRENCY,
        crontab_concurrency=CRONTAB_CONCURRENCY,
        flower=False,
        directory=str(directory),
        log_dir=str(directory / "logs"),
    )
    return [
        describe_node(
            Topology.from_config(config),
            node,
            app=APP_PATH,
            drain_timeout=config.drain_timeout,
            options=options,
        )
        for node in settings.nodes
    ]


def _process(info: Mapping[str, Any]) -> Process:
    return Process(
        name=f"{info['group']}:{info['name']}",
        node=info["group"],
        state=info["statename"],
        pid=info["pid"],
        exit_code=info["exitstatus"],
        log=Path(info["stdout_logfile"]),
    )
