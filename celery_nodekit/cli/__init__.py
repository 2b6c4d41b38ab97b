"""``celery nodekit ...``: parses, calls the rooms, prints.

Celery imports this module on every ``celery`` call, so it imports click and nothing else; each
command loads what it needs when it runs.
"""

from __future__ import annotations

from typing import Any

import click

__all__ = ["nodekit"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def nodekit(ctx: click.Context, **_preload: Any) -> None:
    """Run a deployment of several nodes."""
