"""Signals that rooms send upwards, so that metrics and your own code can listen.

Connect as to any Celery signal: ``occurrence_published.connect(handler, weak=False)``.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

__all__ = ["duplicate_node_name", "occurrence_published", "queue_unread"]

#: Beat published one occurrence of a cron entry to one node. Sent after the publish, with
#: ``sender`` the name of the entry and ``occurrence`` a
#: :class:`~celery_nodekit.beat.occurrence.Occurrence`.
occurrence_published: Signal = Signal(name="occurrence_published", providing_args=["occurrence"])

#: Beat found crontab queues that no worker consumes. Sent once when they change, with ``sender``
#: the scheduler and ``queues`` their names, sorted; an empty list says that all is well again.
queue_unread: Signal = Signal(name="queue_unread", providing_args=["queues"])

#: A worker found another live worker under its own full node name. Sent with ``sender`` that name
#: and ``count`` the number of live workers that have it.
duplicate_node_name: Signal = Signal(name="duplicate_node_name", providing_args=["count"])
