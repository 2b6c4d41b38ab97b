"""Child processes whose output is kept in a file, and Celery commands among them.

A process is started in a process group of its own, and leaving its ``with`` block always ends the
whole group. Its log stays where it is; when the block failed, the log is printed as well, so that
pytest shows it beside the failure.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import celery_nodekit
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CeleryProcess", "LoggedProcess", "is_gone", "python_path"]

#: Line that says that the command is at work, by Celery command.
READY = {"worker": r" ready\.$", "beat": r"beat: Starting"}

_TAIL = 4_000


def python_path(*directories: Path | str) -> str:
    """Return a PYTHONPATH of these directories, the package under test and the inherited one.

    A package that is installed is found without it, and is not put in front of the rest.
    """
    entries = [str(directory) for directory in directories]
    package = str(Path(celery_nodekit.__file__).resolve().parents[1])
    if package not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        entries.append(package)
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([*entries, inherited] if inherited else entries)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, also when nobody has asked for its exit code yet."""
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], stdout=subprocess.PIPE, text=True, check=False
    )
    return listed.stdout.strip()[:1] in {"", "Z"}


class LoggedProcess:
    """A command that can be started, waited for, signalled, ended and started again.

    Args:
        command: Program and arguments.
        cwd: Working directory.
        env: The whole environment.
        log: File that stdout and stderr are appended to.
    """

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path
    ) -> None:
        self.command = list(command)
        self.cwd = cwd
        self.env = dict(env)
        #: Output of all starts.
        self.log_path = log
        self._process: subprocess.Popen[bytes] | None = None
        self._group: int | None = None
        self._logged_before = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if exc is not None:
            print(f"----- {self.log_path} (exit code {self.exit_code}) -----\n{self.output()}")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last.

        Raises:
            RuntimeError: none was.
        """
        if self._process is None:
            raise RuntimeError(f"{self.command} was not started.")
        return self._process

    @property
    def pid(self) -> int:
        """Process id of the process that was started last."""
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while the process runs."""
        return self.process.poll()

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; a running one is left alone."""
        if self.running:
            return
        self._logged_before = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._group = self._process.pid

    def output(self) -> str:
        """Return what was printed since the last start."""
        with self.log_path.open("rb") as log:
            log.seek(self._logged_before)
            return log.read().decode(errors="replace")

    def wait_for_output(self, pattern: str, timeout: float = 20.0) -> re.Match[str]:
        """Wait until a regular expression (multiline) is found in the output since the last start.

        Raises:
            AssertionError: it was not found in ``timeout`` seconds, or the process ended first.
        """

        def found() -> re.Match[str] | None:
            ended = self.exit_code is not None
            match = re.search(pattern, self.output(), re.MULTILINE)
            if match is None and ended:
                raise AssertionError(self._failure(f"ended before it printed {pattern!r}"))
            return match

        match = wait_until(found, timeout, lambda: self._failure(f"did not print {pattern!r}"))
        assert match is not None
        return match

    def signal(self, number: int) -> None:
        """Send a signal to the process alone, not to its children."""
        self.process.send_signal(number)

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for the end and return the exit code.

        Raises:
            AssertionError: it is still running after ``timeout`` seconds.
        """
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(self._failure(f"still runs after {timeout:g} s")) from None

    def stop(self, timeout: float = 20.0) -> int:
        """Send SIGTERM, wait for the end and return the exit code.

        Raises:
            AssertionError: it was still running after ``timeout`` seconds, and was killed.
        """
        if self.running:
            self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        finally:
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL to the process group and wait for the end of the process."""
        # The group outlives its leader when children were left behind, but its number may be given
        # to another once it is empty: one signal only. On macOS a group that holds only zombies
        # answers with PermissionError.
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)
            self._group = None
        self.process.wait()

    def close(self, timeout: float = 5.0) -> None:
        """End the group: SIGTERM for the process, after ``timeout`` seconds SIGKILL for all."""
        if self._process is None:
            return
        with contextlib.suppress(AssertionError):
            self.stop(timeout)

    def _failure(self, what: str) -> str:
        tail = self.output()[-_TAIL:]
        return f"{self.command} {what}; exit code {self.exit_code}, end of its output:\n{tail}"


class CeleryProcess(LoggedProcess):
    """``celery -A app command ...`` with the Python that runs the tests.

    Workers and beats log at INFO unless they are told otherwise: :meth:`wait_ready` reads the log.

    Args:
        app: What ``-A`` names. Modules in ``cwd`` and in ``path`` can be imported.
        args: Celery command and its options, such as ``"worker", "--pool=solo"``.
        cwd: Working directory.
        env: Variables on top of the inherited ones.
        path: More directories to import modules from.
        log: File for the output; by default one in ``cwd`` that no other process writes.
    """

    _started = 0

    def __init__(
        self,
        app: str,
        *args: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        path: Sequence[Path] = (),
        log: Path | None = None,
    ) -> None:
        self.kind = args[0] if args else ""
        options = list(args)
        if self.kind in READY and not any(_sets_log_level(arg) for arg in args):
            options.append("--loglevel=INFO")
        CeleryProcess._started += 1
        super().__init__(
            [sys.executable, "-m", "celery", "-A", app, *options],
            cwd=cwd,
            env={
                **os.environ,
                # What tasks print shows up at once, also from a child that is killed.
                "PYTHONUNBUFFERED": "1",
                "PYTHONPATH": python_path(cwd, *path),
                **(env or {}),
            },
            log=log or cwd / f"celery-{self.kind}-{CeleryProcess._started}.log",
        )

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until the worker consumes, or until beat starts its schedule.

        Raises:
            AssertionError: it did not in ``timeout`` seconds, or it ended.
            ValueError: the command is neither a worker nor a beat.
        """
        if self.kind not in READY:
            raise ValueError(f"'celery {self.kind}' does not say when it is ready.")
        self.wait_for_output(READY[self.kind], timeout)


def _sets_log_level(arg: str) -> bool:
    return arg.startswith("--loglevel") or (arg.startswith("-l") and not arg.startswith("--"))
