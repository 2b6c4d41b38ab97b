"""Celery settings that nodekit applies unless the app sets them, each with its reason.

``nodekit_reliability = "off"`` switches all of them off; setting one yourself overrides that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["PRESET", "Preset", "preset_for"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """One setting of the preset."""

    #: Celery's name of the setting.
    key: str
    #: The value nodekit gives it.
    value: Any
    #: What goes wrong with Celery's default.
    reason: str
    #: Broker URL schemes it is meant for; all of them when empty.
    schemes: tuple[str, ...] = ()


_REDIS = ("redis", "rediss", "redis+socket", "sentinel")
_AMQP = ("amqp", "amqps", "pyamqp", "librabbitmq")

#: The whole preset. Entries of ``broker_transport_options`` are merged key by key.
PRESET: tuple[Preset, ...] = (
    Preset(
        key="task_acks_late",
        value=True,
        reason="Celery acknowledges a message before it runs the task, so a task whose worker"
        " dies is gone. Tasks that must never run twice set acks_late=False themselves.",
    ),
    Preset(
        key="task_reject_on_worker_lost",
        value=True,
        reason="Celery acknowledges and fails a task whose pool process was killed, even with"
        " acks_late. With this it goes back to its queue. A task that kills its process every time"
        " then comes back every time; give that one reject_on_worker_lost=False.",
    ),
    Preset(
        key="worker_prefetch_multiplier",
        value=1,
        reason="With 4 a worker reserves four messages per pool process, which wait behind its"
        " long tasks while other workers are idle, and are stranded when it dies.",
    ),
    Preset(
        key="broker_connection_retry_on_startup",
        value=True,
        reason="Workers, beat and broker start in any order; a worker must wait for its broker.",
    ),
    Preset(
        key="broker_connection_max_retries",
        value=None,
        reason="Celery ends the process after 100 attempts; an outage must not need a restart.",
    ),
    Preset(
        key="broker_transport_options.socket_keepalive",
        value=True,
        reason="A connection whose other end is gone is noticed.",
        schemes=_REDIS,
    ),
    Preset(
        key="broker_transport_options.socket_connect_timeout",
        value=5.0,
        reason="Without it a connection attempt to a host that does not answer can block for"
        " minutes. Seconds.",
        schemes=_REDIS,
    ),
    Preset(
        key="broker_transport_options.socket_timeout",
        value=30.0,
        reason="Without it publishing or acknowledging over a half-open connection blocks for ever."
        " Seconds; longer than kombu's blocking read, which is 10.",
        schemes=_REDIS,
    ),
    Preset(
        key="broker_transport_options.confirm_publish",
        value=True,
        reason="RabbitMQ may drop an unconfirmed message when it fails over or refuses it.",
        schemes=_AMQP,
    ),
)


def preset_for(scheme: str, own_transport_options: dict[str, Any] | None) -> dict[str, Any]:
    """Return the preset for a broker, as settings to apply where the app has none.

    Args:
        scheme: the broker URL's scheme.
        own_transport_options: the app's ``broker_transport_options``; its keys win.
    """
    settings: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for preset in PRESET:
        if preset.schemes and scheme not in preset.schemes:
            continue
        head, _, option = preset.key.partition(".")
        if option:
            options[option] = preset.value
        else:
            settings[head] = preset.value
    if options:
        settings["broker_transport_options"] = {**options, **(own_transport_options or {})}
    return settings
