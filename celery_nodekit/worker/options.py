"""``celery worker --node NAME [--crontab]``."""

from __future__ import annotations

from typing import Any

import click

from celery_nodekit.config import ConfigSource
from celery_nodekit.exceptions import ConfigurationError
from celery_nodekit.topology import Topology

__all__ = ["worker_options"]


def worker_options(source: ConfigSource) -> list[click.Option]:
    """Return the options that ``celery worker`` gets, for ``app.user_options["worker"]``.

    An unknown node, or ``--crontab`` without a node, ends the command with exit code 2.
    """

    def check_node(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        try:
            return Topology.from_config(source.current()).get(value).name
        except ConfigurationError as exc:
            raise click.BadParameter(str(exc), ctx=ctx, param=param) from exc

    node = click.Option(
        ("--node", "nodekit_node"),
        envvar="NODEKIT_NODE",
        callback=check_node,
        metavar="NAME",
        help="Node this worker belongs to: consume the default queue and that node's queue."
        "  Also NODEKIT_NODE.",
    )
    crontab = click.Option(
        ("--crontab/--no-crontab", "nodekit_crontab"),
        envvar="NODEKIT_CRONTAB",
        default=None,
        help="Consume only the crontab queue of --node.  Also NODEKIT_CRONTAB=1.",
    )
    return [node, crontab]
