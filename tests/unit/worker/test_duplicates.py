from __future__ import annotations

import logging
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from amqp.exceptions import NotFound, ResourceLocked

from celery_nodekit.signals import duplicate_node_name
from celery_nodekit.worker import duplicates
from celery_nodekit.worker.duplicates import (
    count_live,
    warn_if_mailbox_is_taken,
    watch_for_duplicate,
)

PONG = {"w@host": {"ok": "pong"}}


def app_answering(replies):
    def broadcast(command, **options):
        assert (command, options["destination"]) == ("ping", ["w@host"])
        if isinstance(replies, Exception):
            raise replies
        return replies

    return SimpleNamespace(control=SimpleNamespace(broadcast=broadcast))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(duplicates, "SETTLE", 0)


@pytest.mark.parametrize(
    ("replies", "count"),
    [(None, 0), ([], 0), ([PONG], 1), ([PONG, PONG], 2), ([PONG, {"x@host": {}}], 1)],
)
def test_live_workers_of_one_name_are_counted(replies, count):
    assert count_live(app_answering(replies), "w@host") == count


def test_a_second_one_is_logged_and_signalled(caplog):
    seen = []

    def listen(sender, count, **kw):
        seen.append((sender, count))

    duplicate_node_name.connect(listen)
    watch_for_duplicate(app_answering([PONG, PONG]), "w@host").join(5)
    duplicate_node_name.disconnect(listen)
    assert seen == [("w@host", 2)]
    (record,) = caplog.records
    assert (record.action, record.levelno) == ("duplicate_node_name", logging.ERROR)
    assert "worker%(process_num)s@%%h" in record.getMessage()


@pytest.mark.parametrize("replies", [[PONG], [], OSError("gone")])
def test_otherwise_nothing_is_said(caplog, replies):
    watch_for_duplicate(app_answering(replies), "w@host").join(5)
    assert caplog.records == []


class TestMailboxOnRabbitMQ:
    """Before this worker has a mailbox of its own."""

    def look(self, declared, driver="amqp"):
        def queue_declare(passive):
            assert passive
            if isinstance(declared, Exception):
                raise declared
            return SimpleNamespace(consumer_count=declared)

        def get_queue(hostname):
            assert hostname == "w@host"
            return lambda channel: SimpleNamespace(queue_declare=queue_declare)

        connection = nullcontext(
            SimpleNamespace(
                transport=SimpleNamespace(driver_type=driver), channel=lambda: nullcontext(None)
            )
        )
        app = SimpleNamespace(
            connection_for_read=lambda connect_timeout: connection,
            control=SimpleNamespace(mailbox=SimpleNamespace(get_queue=get_queue)),
        )
        warn_if_mailbox_is_taken(app, "w@host")

    @pytest.mark.parametrize("declared", [1, ResourceLocked("in use")])
    def test_a_mailbox_that_somebody_reads_is_logged(self, caplog, declared):
        self.look(declared)
        assert [r.action for r in caplog.records] == ["duplicate_node_name"]

    @pytest.mark.parametrize("declared", [0, NotFound("no queue"), OSError("no broker")])
    def test_otherwise_nothing_is_said(self, caplog, declared):
        self.look(declared)
        assert caplog.records == []

    def test_other_brokers_are_asked_later(self, caplog):
        self.look(1, driver="redis")
        assert caplog.records == []
