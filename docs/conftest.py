"""Runs the Python examples of every page, and those of the README.

Examples name brokers as an app would; they run with one in memory, because ``CELERY_BROKER_URL``
comes before what an app says.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from celery import _state
from kombu.transport.memory import Transport
from sybil import Sybil
from sybil.parsers.myst import ClearNamespaceParser, PythonCodeBlockParser

HERE = Path(__file__).parent

#: Undone after a page; pages run one after another.
_patches: list[Any] = []

_ENVIRONMENT = {"CELERY_BROKER_URL": "memory://", "CELERY_RESULT_BACKEND": "cache+memory://"}


class _DjangoSettings:
    """Stands in for ``django.conf.settings``: the capital names of the page so far."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace

    def __getattr__(self, name: str) -> Any:
        if name.isupper() and name in self._namespace:
            return self._namespace[name]
        raise AttributeError(name)

    def __dir__(self) -> list[str]:
        return [name for name in self._namespace if name.isupper()]


def _begin(namespace: dict[str, Any]) -> None:
    conf = ModuleType("django.conf")
    conf.settings = _DjangoSettings(namespace)  # type: ignore[attr-defined]
    _patches[:] = [
        mock.patch.dict(os.environ, _ENVIRONMENT),
        mock.patch.dict(sys.modules, {"django": ModuleType("django"), "django.conf": conf}),
    ]
    for patch in _patches:
        patch.start()


def _end(_namespace: dict[str, Any]) -> None:
    _state.set_default_app(None)
    _state._tls.current_app = None
    Transport.global_state.clear()
    for patch in reversed(_patches):
        patch.stop()


def _examples_of(pattern: str, directory: Path) -> Any:
    return Sybil(
        parsers=[PythonCodeBlockParser(), ClearNamespaceParser()],
        path=str(directory),
        pattern=pattern,
        setup=_begin,
        teardown=_end,
    ).pytest()


class _Readme:
    # pytest asks a conftest.py only about files below it, and a plugin about every file.
    pytest_collect_file = staticmethod(_examples_of("README.md", HERE.parent))


def pytest_configure(config: pytest.Config) -> None:
    """Let ``pytest docs README.md`` find the README's examples."""
    config.pluginmanager.register(_Readme(), "nodekit-readme")


pytest_collect_file = _examples_of("**/*.md", HERE)
