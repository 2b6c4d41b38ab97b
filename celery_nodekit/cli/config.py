"""``celery nodekit config ...``: process configuration from the topology."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from celery_nodekit.config import ConfigSource
from celery_nodekit.exceptions import ConfigurationError
from celery_nodekit.ops.programs import NodeOptions, describe_node
from celery_nodekit.ops.supervisord import Daemon, render_daemon, render_node
from celery_nodekit.topology import Topology

__all__ = ["app_argument", "config"]

_HEADER = """\
; Made by `celery nodekit config supervisord`. Rather than edit it, make it again.
"""


@click.group()
def config() -> None:
    """Print configuration for a process manager.

    It follows from the app's own settings: which nodes there are, what their queues are called,
    and how long a worker may take to stop. Make it again after these have changed.
    """


@config.command()
@click.option(
    "--node",
    required=True,
    envvar="NODEKIT_NODE",
    metavar="NAME",
    help="The node to print it for.  Also NODEKIT_NODE.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Workers for the default queue and the node's own queue.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    help="Tasks at a time in each of them.  [default: Celery's]",
)
@click.option(
    "--crontab-concurrency",
    type=click.IntRange(min=1),
    help="Tasks at a time in the crontab worker.  [default: Celery's]",
)
@click.option(
    "--backend",
    metavar="CMD",
    help="Also run this command, for example the node's web server. No shell reads it; write"
    " \"sh -c '...'\" if one should.",
)
@click.option(
    "--beat/--no-beat",
    default=None,
    help="Run beat on this node. Every beat publishes every cron entry, so run one: it is on for"
    " the first node of nodekit_nodes, and off for all others.",
)
@click.option(
    "--state-dir",
    metavar="DIR",
    help="Where beat keeps what it has published. It must outlast restarts and deploys."
    "  [default: --directory]",
)
@click.option("--flower/--no-flower", default=True, show_default=True, help="Run Flower.")
@click.option(
    "--flower-address",
    metavar="HOST",
    default="127.0.0.1",
    show_default=True,
    help="Address that Flower listens on. It shows tasks and their arguments to whoever connects.",
)
@click.option(
    "--flower-port",
    type=click.IntRange(1, 65_535),
    default=5555,
    show_default=True,
    help="Port that Flower listens on.",
)
@click.option("--user", metavar="NAME", help="Account to run as.  [default: supervisord's]")
@click.option("--directory", metavar="DIR", help="Directory to run in.  [default: the current one]")
@click.option(
    "--environment",
    multiple=True,
    metavar="KEY=VALUE",
    help="An environment variable for every program; give it as often as needed. NODEKIT_NODE is"
    " always set.",
)
@click.option(
    "--log-dir",
    metavar="DIR",
    help="Existing directory for one log file per process.  [default: supervisord's own, which"
    " forgets them when it restarts]",
)
@click.option(
    "--loglevel",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="Log level of workers and beat.",
)
@click.option(
    "--celery",
    "celery_command",
    metavar="CMD",
    help="The celery command.  [default: the one of this Python environment]",
)
@click.option(
    "--app-path",
    metavar="APP",
    help="What the programs give to celery -A.  [default: what this command was given]",
)
@click.option(
    "--standalone",
    metavar="DIR",
    help="Also print the sections of a supervisord of its own, whose socket, pid file and log are"
    " in this existing directory. Start it with: supervisord -c FILE",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file.  [default: standard output]",
)
@click.pass_context
def supervisord(
    ctx: click.Context,
    /,
    *,
    node: str,
    app_path: str | None,
    standalone: str | None,
    output: Path | None,
    **chosen: Any,
) -> None:
    """Print supervisord's configuration of one node.

    A node is a group: the workers, one crontab worker, and where wanted beat, Flower and a command
    of your own. Workers are stopped in the way that loses no work; the file says how.

    \b
      celery -A proj nodekit config supervisord --node node1 \\
          --user www --log-dir /var/log/proj --backend "gunicorn proj.wsgi" \\
          -o /etc/supervisor/conf.d/node1.conf
      supervisorctl update
    """  # noqa: D301
    try:
        celery_app = ctx.obj.app
        settings = ConfigSource(celery_app).current()
        has_kit = getattr(celery_app, "nodekit", None) is not None
        options = _node_options(flags=has_kit, **chosen)
        programs = describe_node(
            Topology.from_config(settings),
            node,
            app=app_path or app_argument(ctx),
            drain_timeout=settings.drain_timeout,
            options=options,
        )
        parts = [_HEADER, render_node(programs)]
        if standalone is not None:
            home = _absolute(standalone)
            parts.insert(1, render_daemon(Daemon(socket=f"{home}/supervisor.sock", directory=home)))
    except ConfigurationError as exc:
        raise click.UsageError(str(exc), ctx=ctx) from exc
    if options.flower and chosen["celery_command"] is None and find_spec("flower") is None:
        click.echo(
            "Note: Flower is not installed here; pip install flower, or --no-flower.", err=True
        )
    _write("\n".join(parts), output)


def app_argument(ctx: click.Context) -> str:
    """Return what ``celery -A`` was given, on the command line or in the environment.

    Raises:
        ConfigurationError: nothing, or an app object (``app.start()``), which has no path.
    """
    given = ctx.find_root().params.get("app")
    if isinstance(given, str) and given:
        return given
    raise ConfigurationError(
        "It is not known where the app is; say celery -A MODULE nodekit ..., or --app-path MODULE."
    )


def _node_options(
    *,
    celery_command: str | None,
    environment: Iterable[str],
    directory: str | None,
    state_dir: str | None,
    log_dir: str | None,
    **rest: Any,
) -> NodeOptions:
    return NodeOptions(
        celery=_celery_words(celery_command),
        environment=dict(_variable(text) for text in environment),
        directory=_absolute(directory or "."),
        state_dir=None if state_dir is None else _absolute(state_dir),
        log_dir=None if log_dir is None else _absolute(log_dir),
        **rest,
    )


def _absolute(path: str) -> str:
    # supervisord would take it from where it was started itself.
    return str(Path(path).absolute())


def _celery_words(command: str | None) -> tuple[str, ...]:
    if command is not None:
        try:
            return tuple(shlex.split(command))
        except ValueError as exc:
            raise ConfigurationError(f"--celery {command!r} cannot be read: {exc}.") from exc
    beside = Path(sys.executable).with_name("celery")
    return (str(beside),) if beside.exists() else ("celery",)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"--environment takes KEY=VALUE, not {text!r}.")
    return name, value


def _write(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise click.BadParameter(
            f"{output} cannot be written: {exc.strerror}.", param_hint="--output"
        ) from exc
