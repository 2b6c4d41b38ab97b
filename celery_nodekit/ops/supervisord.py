"""Writes a node's programs down as supervisord's configuration.

Names, paths and commands come from people, so everything goes through :func:`_text`: supervisord
expands ``%(...)s``, cuts a line off at a blank followed by ``;`` or ``#`` even inside quotes, and
knows no escape for a line break or for a quote at the end of an environment value
(``supervisor.options.UnhosedConfigParser``, ``supervisor.datatypes.dict_of_key_value_pairs``).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from celery_nodekit.exceptions import ConfigurationError
from celery_nodekit.ops.programs import STOP_MARGIN, NodePrograms, Program

__all__ = ["Daemon", "render_daemon", "render_node"]

#: Seconds that a program must stay up to count as started.
START_SECONDS = 5
#: The longest socket path that Linux and macOS both take, less the suffix that supervisord adds.
_LONGEST_SOCKET = 92

_CUT_OFF = re.compile(r"(?<=\s)(?=[;#])")
#: Expands to nothing; keeps a blank and the character after it apart.
_NOTHING = "%(here).0s"

_STOP_COMMENT = f"""\
; How a worker is stopped. TERM goes to its main process alone (stopasgroup=false): pool processes
; that get it too die at once, and their tasks with them. It then has nodekit_drain_timeout and
; {STOP_MARGIN} seconds more (stopwaitsecs) to finish what runs. Only what is left after that is
; killed, pool processes included (killasgroup=true)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Daemon:
    """A supervisord of its own, for hosts where none is set up.

    Raises:
        ConfigurationError: the path of the socket is too long for a socket.
    """

    #: Unix socket for ``supervisorctl``.
    socket: str
    #: Directory of its pid file and log, and of program logs that have no place of their own.
    directory: str

    def __post_init__(self) -> None:
        """Check the socket, whose path must fit into an address of the kernel."""
        length = len(os.fsencode(self.socket))
        if length > _LONGEST_SOCKET:
            raise ConfigurationError(
                f"{self.socket} is too long for a socket: {length} bytes, at most"
                f" {_LONGEST_SOCKET}. Use a shorter directory, such as /run/nodekit."
            )


def render_node(node: NodePrograms) -> str:
    """Return the configuration of one node: a group, and a section for each program.

    Raises:
        ConfigurationError: a value cannot be written in supervisord's format.
    """
    names = ",".join(program.name for program in node.programs)
    parts = [f"; Node {node.node}\n[group:{node.node}]\nprograms={names}"]
    explained = False
    for program in node.programs:
        section = _section(f"program:{program.name}", _settings(program, node))
        if program.worker_name is not None and not explained:
            section, explained = f"{_STOP_COMMENT}\n{section}", True
        parts.append(section)
    return "\n\n".join(parts) + "\n"


def render_daemon(daemon: Daemon) -> str:
    """Return the sections that make a configuration file complete by itself.

    Raises:
        ConfigurationError: a value cannot be written in supervisord's format.
    """
    directory = _text("the directory", daemon.directory.rstrip("/"))
    socket = _text("the socket", daemon.socket)
    sections = [
        _section("unix_http_server", {"file": socket, "chmod": "0700"}),
        _section(
            "supervisord",
            {
                "logfile": f"{directory}/supervisord.log",
                "pidfile": f"{directory}/supervisord.pid",
                "childlogdir": directory,
            },
        ),
        _section(
            "rpcinterface:supervisor",
            {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
        _section("supervisorctl", {"serverurl": f"unix://{socket}"}),
    ]
    return "\n\n".join(sections) + "\n"


def _settings(program: Program, node: NodePrograms) -> dict[str, str]:
    settings = {"command": _command(program)}
    if node.directory is not None:
        settings["directory"] = _text("the directory", node.directory)
    if node.user is not None:
        settings["user"] = _text("the user", node.user)
    settings["environment"] = _environment({**node.environment, **program.environment})
    number = ""
    if program.processes is not None:
        number = "-%(process_num)s"
        settings["numprocs"] = str(program.processes)
        settings["process_name"] = f"%(program_name)s{number}"
    settings |= {
        "autostart": "true",
        "autorestart": "true",
        "startsecs": str(START_SECONDS),
        "stopsignal": "TERM",
        "stopasgroup": "false",
        "killasgroup": "true",
        "stopwaitsecs": str(program.stop_seconds),
        "redirect_stderr": "true",
    }
    if node.log_dir is not None:
        # supervisord expands names of log files twice.
        directory = _text("the log directory", node.log_dir.rstrip("/")).replace("%%", "%%%%")
        settings["stdout_logfile"] = f"{directory}/{program.name}{number}.log"
    return settings


def _command(program: Program) -> str:
    words = [_text(f"the command of {program.name}", shlex.quote(w)) for w in program.command]
    if program.worker_name is not None:
        number = "" if program.processes is None else "%(process_num)s"
        words += ["-n", f"{program.worker_name}{number}@%%h"]
    return " ".join(words)


def _environment(variables: Mapping[str, str]) -> str:
    return ",".join(f"{name}={_quoted(name, value)}" for name, value in variables.items())


def _quoted(name: str, value: str) -> str:
    quote = "'" if '"' in value else '"'
    if quote in value or value.strip("'\"") != value:
        raise ConfigurationError(
            f"The environment variable {name} cannot be written for supervisord, which has no"
            " escape for a value that begins or ends with a quote or holds both kinds."
        )
    return f"{quote}{_text(name, value)}{quote}"


def _text(what: str, value: str) -> str:
    if any(character in value for character in "\n\r\0"):
        raise ConfigurationError(
            f"{what} holds a line break or a NUL, which supervisord's configuration cannot:"
            f" {value!r}."
        )
    return _CUT_OFF.sub(lambda _match: _NOTHING, value.replace("%", "%%"))


def _section(name: str, settings: Mapping[str, str]) -> str:
    return "\n".join([f"[{name}]", *(f"{key}={value}" for key, value in settings.items())])
