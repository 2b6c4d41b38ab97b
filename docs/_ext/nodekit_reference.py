"""Directives that write the settings reference from the package itself.

``nodekit-settings`` lists the fields of ``NodeKitConfig``, ``nodekit-preset`` the reliability
preset. Neither takes arguments, so the pages cannot differ from the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from celery_nodekit.config import PREFIX, NodeKitConfig
from celery_nodekit.reliability import PRESET, Preset

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

__all__ = ["PresetTable", "SettingsList", "setup"]


class SettingsList(SphinxDirective):
    """``{nodekit-settings}``: every setting, its spellings, type, unit, default and meaning."""

    def run(self) -> list[nodes.Node]:
        """Return the definitions."""
        lines = [line for setting in fields(NodeKitConfig) for line in _setting_lines(setting)]
        return self.parse_text_to_nodes("\n".join(lines))


class PresetTable(SphinxDirective):
    """``{nodekit-preset}``: Celery's settings that nodekit fills in, and why."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        lines = ["| setting | value | brokers | what it is for |", "| --- | --- | --- | --- |"]
        lines += [_preset_row(preset) for preset in PRESET]
        return self.parse_text_to_nodes("\n".join(lines))


def _setting_lines(setting: Field[Any]) -> Iterator[str]:
    unit = f", in {setting.metadata['unit']}" if setting.metadata["unit"] else ""
    yield f":::{{confval}} {PREFIX}{setting.name}"
    yield f":type: {_code(setting.metadata['kind'])}{unit}"
    yield f":default: {_code(repr(_default(setting)))}"
    yield ""
    yield setting.metadata["doc"]
    yield ""
    yield f"With a namespace: {_code(f'CELERY_{PREFIX}{setting.name}'.upper())}."
    yield f"As an argument: {_code(f'NodeKit(app, {setting.name}=...)')}."
    yield ":::"
    yield ""


def _preset_row(preset: Preset) -> str:
    brokers = ", ".join(_code(scheme) for scheme in preset.schemes) or "all"
    cells = [_code(preset.key), _code(repr(preset.value)), brokers, preset.reason]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(setting: Field[Any]) -> Any:
    if setting.default_factory is not MISSING:
        return setting.default_factory()
    return setting.default


def _code(text: str) -> str:
    return f"`{text}`"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives."""
    app.add_directive("nodekit-settings", SettingsList)
    app.add_directive("nodekit-preset", PresetTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
