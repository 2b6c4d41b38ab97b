from __future__ import annotations

from types import SimpleNamespace

import pytest

from celery_nodekit.beat.watch import UnreadQueueWatch
from celery_nodekit.signals import queue_unread


class Workers:
    """Stands for ``app.control``; answers are given one after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def inspect(self, timeout):
        answer = self.answers.pop(0)
        return SimpleNamespace(active_queues=lambda: answer)


def watch(*answers, queues=("node1-crontab", "node2-crontab"), interval=60):
    app = SimpleNamespace(control=Workers(*answers))
    return UnreadQueueWatch(app, queues, interval=interval, sender="me")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, ["node1-crontab", "node2-crontab"]),
        ({}, ["node1-crontab", "node2-crontab"]),
        ({"w1": [{"name": "node2-crontab"}], "w2": None}, ["node1-crontab"]),
        ({"w1": [{"name": "node1-crontab"}], "w2": [{"name": "node2-crontab"}]}, []),
    ],
)
def test_queues_that_no_worker_names_are_unread(answer, expected):
    assert watch(answer).unread() == expected


def test_what_changed_is_said_once(caplog):
    seen = []

    def listen(sender, queues, **kw):
        seen.append(queues)

    queue_unread.connect(listen)
    caplog.set_level("INFO")
    looker = watch()
    for unread in (["node1-crontab"], ["node1-crontab"], [], []):
        looker._report(unread)
    queue_unread.disconnect(listen)
    assert seen == [["node1-crontab"], []]
    assert [record.action for record in caplog.records] == ["queue_unread", "queue_read"]
    assert "node1-crontab" in caplog.records[0].message


def test_a_long_list_is_counted_in_the_log_and_whole_in_the_signal(caplog):
    queues = [f"n{i:03}" for i in range(200)]
    watch()._report(queues)
    (record,) = caplog.records
    assert "n009 and 190 more" in record.message
    assert record.queues == queues


@pytest.mark.parametrize(("queues", "interval"), [((), 60), (("q",), 0)])
def test_there_is_no_thread_where_there_is_nothing_to_do(queues, interval):
    looker = watch(queues=queues, interval=interval)
    looker.start()
    assert looker._thread is None
    looker.stop()
