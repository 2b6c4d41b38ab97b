"""``celery nodekit ...``: parses, calls the rooms, prints.

Celery imports this module on every ``celery`` call, so it imports click and nothing else; a
command's own module is imported when that command, or its help, is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

__all__ = ["LazyGroup", "nodekit"]

#: Where each command is.
_COMMANDS = {"config": "celery_nodekit.cli.config:config"}


class LazyGroup(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, without importing any."""
        return sorted({*super().list_commands(ctx), *_COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; ``None`` when there is none of that name."""
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def nodekit(**_preload: Any) -> None:
    """Run a deployment of several nodes."""
