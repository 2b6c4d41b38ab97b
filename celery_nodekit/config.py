"""The ``nodekit_*`` settings: what they are, and the only place that reads ``app.conf``.

Every other room takes a frozen :class:`NodeKitConfig` or a :class:`ConfigSource`, so none of them
depends on how an app was configured. A setting is written ``nodekit_nodes`` on ``app.conf``,
``CELERY_NODEKIT_NODES`` in a module read with ``namespace="CELERY"``, or ``nodes`` as a keyword
argument of :class:`~celery_nodekit.NodeKit`.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from celery_nodekit.exceptions import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["PREFIX", "ConfigSource", "NodeKitConfig", "setting_names"]

#: Prefix of every setting on ``app.conf``.
PREFIX = "nodekit_"


def _setting(default: Any, *, doc: str, kind: str, unit: str = "") -> Any:
    metadata = {"doc": doc, "kind": kind, "unit": unit}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeKitConfig:
    """All settings of one app, checked.

    Raises:
        ConfigurationError: a value has the wrong type or is out of range.
    """

    nodes: Sequence[str] | Mapping[str, Mapping[str, Any] | None] = _setting(
        (),
        kind="list of names, or mapping name -> {labels, queue, crontab_queue}",
        doc="The nodes of the deployment. A mapping gives nodes labels and queue names.",
    )
    node: str | None = _setting(
        None,
        kind="name of a node",
        doc="The node this process runs on. Also NODEKIT_NODE, or `celery worker --node`.",
    )
    node_queue: str = _setting(
        "{node}", kind="template with {node}", doc="Name of the queue that one node consumes."
    )
    crontab_queue: str = _setting(
        "{node}-crontab",
        kind="template with {node}",
        doc="Name of the queue that one node's crontab worker consumes.",
    )
    routes: Mapping[str | re.Pattern[str], Any] = _setting(
        dict,
        kind="mapping task name, glob or compiled regex -> node, selector or {nodes, by}",
        doc="Tasks that belong to certain nodes.",
    )
    namespace: str | None = _setting(
        None,
        kind="non-empty string",
        doc="Name of the app in occurrence ids. Default: the name given to Celery().",
    )
    reliability: str = _setting(
        "on", kind='"on" or "off"', doc="Whether the reliability preset is applied."
    )
    drain_timeout: float = _setting(
        25.0,
        kind="number from 0 to 86400",
        unit="seconds",
        doc="How long process configuration lets a stopping worker finish what runs; after this"
        " and a margin the process manager kills it.",
    )

    queue_check_interval: float = _setting(
        60.0,
        kind="number from 0 to 86400",
        unit="seconds",
        doc="How often beat asks whether every crontab queue has a worker; 0 never asks.",
    )

    def __post_init__(self) -> None:
        """Check every value on its own; what depends on several is checked by the topology."""
        if isinstance(self.nodes, str | bytes) or not isinstance(self.nodes, Sequence | Mapping):
            raise _wrong("nodes", self.nodes, 'a list of names such as ["node1", "node2"]')
        for name in ("node", "namespace"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise _wrong(name, value, "a non-empty string")
        for name in ("node_queue", "crontab_queue"):
            _check_template(name, getattr(self, name))
        if not isinstance(self.routes, Mapping):
            raise _wrong("routes", self.routes, 'a mapping such as {"proj.render": "node2"}')
        if self.reliability not in ("on", "off"):
            raise _wrong("reliability", self.reliability, '"on" or "off"')
        for name in ("drain_timeout", "queue_check_interval"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 <= value <= 86_400:
                raise _wrong(name, value, "a number of seconds from 0 to 86400")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> NodeKitConfig:
        """Build from names without prefix.

        Raises:
            ConfigurationError: a value is wrong, or a name unknown; then the nearest is named.
        """
        known = setting_names()
        for name in values:
            if name not in known:
                raise ConfigurationError(
                    f"Unknown setting {PREFIX}{name!s}.{did_you_mean(name, known)}"
                    f" Known: {', '.join(PREFIX + k for k in sorted(known))}."
                )
        return cls(**values)


def setting_names() -> frozenset[str]:
    """Return the names of all settings, without the prefix."""
    return frozenset(f.name for f in fields(NodeKitConfig))


class ConfigSource:
    """Reads one app's settings when they are asked for, so that late assignments count.

    The result is kept until a ``nodekit_*`` value differs from the one it was built from.
    """

    def __init__(self, app: Celery) -> None:
        self.app = app
        self._raw: dict[str, Any] | None = None
        self._config: NodeKitConfig | None = None

    def current(self) -> NodeKitConfig:
        """Return the app's settings as they are now.

        Raises:
            ConfigurationError: a value is wrong, or the app has a ``nodekit_*`` name that there is
                not.
        """
        conf = self.app.conf
        given = {name: conf.get(PREFIX + name, MISSING) for name in _NAMES}
        raw = {name: value for name, value in given.items() if value is not MISSING}
        if self._config is None or raw != self._raw:
            unknown = self._given_names() - _NAMES
            self._config = NodeKitConfig.from_mapping({**dict.fromkeys(unknown), **raw})
            self._raw = copy.deepcopy(raw)
        return self._config

    def apply_defaults(self, values: Mapping[str, Any]) -> None:
        """Write Celery settings that the user has not set, in any of the ways to set them.

        ``app.add_defaults`` is no use here: what it adds comes before the user's own
        configuration source (``celery.app.base.Celery._load_config``).
        """
        conf = self.app.conf
        for key, value in values.items():
            if not self.is_set(key):
                conf[key] = value

    def is_set(self, key: str) -> bool:
        """Tell whether the user gave this setting, whatever the spelling or the source."""
        conf: Any = self.app.conf
        conf.finalize()
        # What ConfigurationView.__getitem__ looks for, in all layers but the defaults.
        names = {*conf._to_keys(key), *(convert(key) for convert in conf._keys or ())}
        return any(name in layer for layer in conf.maps[:-1] for name in names)

    def fill_in(self) -> None:
        """Give every setting its value on ``app.conf``, where reading one costs least."""
        for setting in fields(NodeKitConfig):
            default = setting.default
            if default is MISSING and setting.default_factory is not MISSING:
                default = setting.default_factory()
            self.apply_defaults({PREFIX + setting.name: default})

    def celery_setting(self, key: str) -> Any:
        """Return one of Celery's own settings."""
        return self.app.conf.get(key)

    def assign(self, key: str, value: Any) -> None:
        """Set one of Celery's or our settings for this process."""
        self.app.conf[key] = value

    def broker_scheme(self) -> str:
        """Return the scheme of the (first) broker URL, such as ``redis``."""
        url = self.app.conf.broker_url or "amqp://"
        first = url if isinstance(url, str) else next(iter(url), "amqp://")
        return first.split("://")[0]

    @property
    def namespace(self) -> str:
        """The app's name in occurrence ids; empty where neither setting nor app has one."""
        return self.current().namespace or _app_name(self.app)

    def node_from_environment(self) -> str | None:
        """Return what ``NODEKIT_NODE`` says, or ``nodekit_node``; the environment wins."""
        return os.environ.get("NODEKIT_NODE") or self.current().node

    def _given_names(self) -> frozenset[str]:
        """Return every ``nodekit_*`` name the app was given, without the prefix."""
        conf: Any = self.app.conf
        conf.finalize()
        prefixes = (PREFIX, f"{conf.prefix or ''}{PREFIX}".lower())
        names: set[str] = set()
        for key in _keys(conf.maps[:-1]):
            lowered = key.lower()
            if key.isupper() and not conf.prefix:
                _check_not_ignored(key, lowered.removeprefix("celery_"))
            else:
                names.update(lowered.removeprefix(p) for p in prefixes if lowered.startswith(p))
        return frozenset(names)


_NAMES = setting_names()


def _check_not_ignored(key: str, setting: str) -> None:
    if setting.startswith(PREFIX) and setting.removeprefix(PREFIX) in _NAMES:
        raise ConfigurationError(
            f"{key} is not read: Celery takes new upper-case names only with a namespace. Write"
            f" {setting}, or CELERY_{setting.upper()} and"
            " config_from_object(..., namespace='CELERY')."
        )


def _keys(layers: Sequence[Mapping[Any, Any]]) -> Iterator[str]:
    for layer in layers:
        # Settings objects of Celery and Django list their names by keys() or by dir().
        names = layer.keys() if hasattr(layer, "keys") else dir(layer)
        yield from (name for name in names if isinstance(name, str))


def _app_name(app: Celery) -> str:
    main: str | None = app.main
    return main if main and main != "__main__" else ""


def _check_template(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise _wrong(name, value, 'a template such as "{node}"')
    try:
        first, second = value.format(node="a"), value.format(node="b")
    except (KeyError, IndexError, ValueError) as exc:
        raise _wrong(name, value, "a template with {node} as its only field") from exc
    if first == second:
        raise _wrong(name, value, "a template with {node} in it, so that nodes differ")


def _wrong(name: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"{PREFIX}{name} must be {expected}, not {value!r}.")
