"""A private RabbitMQ node, from the programs that are installed on this machine.

The node, its Erlang port mapper (epmd) and its data are its own: nothing is shared with a system
service, and nothing of it is left after :meth:`RabbitServer.stop`. No plugin is enabled.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from celery_nodekit.demo.server import free_port
from tests.support.processes import LoggedProcess

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RabbitServer", "available"]

#: Where the plain scripts are. On Debian the one on PATH changes to the user ``rabbitmq``.
SCRIPTS = "/usr/lib/rabbitmq/bin"

#: Virtual hosts made by one ``rabbitmqctl``: the command takes 0.7 s to start, a host about 10 ms.
BATCH = 16

_PROGRAMS = ("rabbitmq-server", "rabbitmqctl", "epmd", "erl")

_ADD_VHOSTS = """
lists:foreach(fun(I) ->
    VHost = list_to_binary("test-" ++ integer_to_list(I)),
    ok = rabbit_vhost:add(VHost, <<"tests">>),
    ok = rabbit_auth_backend_internal:set_permissions(
        <<"guest">>, VHost, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)
end, lists:seq(%d, %d)).
"""

_CONFIG = """
listeners.tcp.1 = 127.0.0.1:%d
disk_free_limit.absolute = 1MB
"""


def available() -> str | None:
    """Return None when RabbitMQ can be started here, else what is missing."""
    missing = [program for program in _PROGRAMS if _which(program) is None]
    return f"RabbitMQ is not installed: no {', '.join(missing)}" if missing else None


def _which(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([SCRIPTS, os.environ.get("PATH", "")]))


class RabbitServer:
    """A RabbitMQ node that keeps its ports and its data over stop, kill and another start.

    Args:
        directory: Where its data and its log are kept; made if it is missing.

    Raises:
        RuntimeError: RabbitMQ is not installed.
    """

    def __init__(self, directory: Path) -> None:
        missing = available()
        if missing:
            raise RuntimeError(missing)
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory.resolve()
        self.port = free_port()
        self._env = self._prepare(distribution_port=free_port(), epmd_port=free_port())
        self._epmd = self._process("epmd", "-port", self._env["ERL_EPMD_PORT"])
        self._node = self._process("rabbitmq-server")
        self._vhosts: list[str] = []
        self._vhosts_made = 0

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
    def url(self) -> str:
        """URL of the default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def pid(self) -> int:
        """Process id of the running node, or of the last one that ran."""
        return self._node.pid

    @property
    def epmd_pid(self) -> int:
        """Process id of the node's port mapper, or of the last one that ran."""
        return self._epmd.pid

    @property
    def log_path(self) -> Path:
        """What the node printed, over all its starts."""
        return self._node.log_path

    @property
    def running(self) -> bool:
        """Whether the node's process is alive."""
        return self._node.running

    def start(self, timeout: float = 60.0) -> None:
        """Start the node and wait until it takes connections; a running one is left alone.

        Raises:
            AssertionError: it ended, or was not ready in ``timeout`` seconds.
        """
        if self.running:
            return
        try:
            self._epmd.start()
            self._node.start()
            self._node.wait_for_output("Server startup complete", timeout)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float = 30.0) -> None:
        """End the node with SIGTERM, and with SIGKILL after ``timeout`` seconds; then epmd."""
        self._node.close(timeout)
        self._epmd.close()

    def kill(self) -> None:
        """End the node and epmd with SIGKILL."""
        for process in (self._node, self._epmd):
            if process.running:
                process.kill()

    def vhost(self) -> str:
        """Return the URL of a virtual host that nobody has used yet."""
        if not self._vhosts:
            first, last = self._vhosts_made + 1, self._vhosts_made + BATCH
            self.control("eval", _ADD_VHOSTS % (first, last))
            self._vhosts = [f"test-{number}" for number in range(first, last + 1)]
            self._vhosts_made = last
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{self._vhosts.pop(0)}"

    def control(self, *args: str, timeout: float = 30.0) -> str:
        """Run ``rabbitmqctl`` on the node and return what it printed.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            [_which("rabbitmqctl") or "rabbitmqctl", "--quiet", *args],
            env=self._env,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"rabbitmqctl {args[0]} failed:\n{done.stdout}"
        return done.stdout

    def _process(self, program: str, *args: str) -> LoggedProcess:
        return LoggedProcess(
            [_which(program) or program, *args],
            cwd=self.directory,
            env=self._env,
            log=self.directory / f"{program}.log",
        )

    def _prepare(self, *, distribution_port: int, epmd_port: int) -> dict[str, str]:
        config = self.directory / "rabbitmq.conf"
        config.write_text(_CONFIG % self.port)
        plugins = self.directory / "enabled_plugins"
        plugins.write_text("[].\n")
        cookie = self.directory / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(10))
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RABBITMQ_", "ERL_"))
        }
        return {
            **inherited,
            "HOME": str(self.directory),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_CRASH_DUMP_BYTES": "0",
            "RABBITMQ_NODENAME": f"tests-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            # Without a short busy wait each file that is read at boot costs the schedulers a sleep
            # and a wake-up: 8 s instead of 3 s.
            "RABBITMQ_SCHEDULER_BUSY_WAIT_THRESHOLD": "short",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 2:2 {loopback}",
            "RABBITMQ_CTL_ERL_ARGS": loopback,
            # The script then becomes the node, instead of waiting for it as a child.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
