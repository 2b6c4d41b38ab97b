from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from celery_nodekit.signals import duplicate_node_name
from celery_nodekit.worker import duplicates
from celery_nodekit.worker.duplicates import count_live, watch_for_duplicate

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
