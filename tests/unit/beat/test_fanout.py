from __future__ import annotations

import copy
from datetime import datetime, timedelta, timezone

import pytest

from celery_nodekit import cron
from celery_nodekit.beat import fanout as module
from celery_nodekit.beat.entries import FanoutEntry
from celery_nodekit.beat.fanout import Fanout
from celery_nodekit.beat.state import Saved
from celery_nodekit.config import NodeKitConfig
from celery_nodekit.exceptions import BrokerUnreachableError
from celery_nodekit.topology import Topology

UTC = timezone.utc
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TOPOLOGY = Topology.from_config(
    NodeKitConfig(
        nodes={
            "node1": {"labels": {"role": "web"}},
            "node2": {"labels": {"role": "web"}},
            "node3": None,
        }
    )
)


def entry(name="tick", expression="* * * * *", nodes="all", fingerprint="f"):
    return FanoutEntry(
        name=name,
        task=f"proj.{name}",
        times=cron(expression, tz="UTC"),
        selector=nodes,
        candidates=tuple(TOPOLOGY.candidates(nodes)),
        args=(),
        kwargs={},
        options={"headers": {}},
        fingerprint=fingerprint,
    )


class MemoryStore:
    """Keeps positions as a file would: a copy, not the objects."""

    def __init__(self):
        self.saved = Saved({})
        self.saves = 0

    def load(self):
        return copy.deepcopy(self.saved)

    def save(self, saved):
        self.saved = copy.deepcopy(saved)
        self.saves += 1


class Bench:
    """A fan-out with a clock to set and a broker that can fail."""

    def __init__(self, *entries):
        self.entries = entries
        self.store = MemoryStore()
        self.now = NOON
        self.published = []
        self.broken = {}
        self.attempts = 0

    def start(self, *entries):
        self.entries = entries or self.entries
        self.fanout = Fanout(
            self.entries,
            topology=TOPOLOGY,
            namespace="proj",
            store=self.store,
            publish=self._publish,
            clock=lambda: self.now,
        )
        self.fanout.start()
        return self

    def _publish(self, entry, node, occurrence):
        self.attempts += 1
        error = self.broken.get(node.name) or self.broken.get("broker")
        if error is not None:
            raise error
        assert occurrence.entry == entry.name
        self.published.append((occurrence.fire, node.name, occurrence.task_id))

    def run(self, until=None, **step):
        """Tick until a time is reached, as beat would."""
        until = until or self.now + timedelta(**step)
        while self.now < until:
            wait = self.fanout.run_due()
            assert 0 <= wait <= module.MAX_WAIT
            self.now += timedelta(seconds=max(wait, 0.01))
        self.fanout.run_due()
        return self

    def fires(self, node=None):
        return [
            (fire - NOON).total_seconds() / 60
            for fire, name, _id in self.published
            if node in (None, name)
        ]


def test_every_selected_node_gets_every_occurrence():
    bench = Bench(entry(nodes=["node1", "node3"])).start().run(minutes=3)
    assert bench.fires() == [1, 1, 2, 2, 3, 3]
    assert [name for _fire, name, _id in bench.published] == ["node1", "node3"] * 3


def test_every_occurrence_has_an_id_of_its_own():
    bench = Bench(entry(), entry("other")).start().run(minutes=3)
    assert len({task_id for _f, _n, task_id in bench.published}) == 2 * 3 * 3


def test_one_of_several_nodes_is_the_same_one_for_everybody():
    first = Bench(entry(nodes="role=web:1")).start().run(minutes=30)
    second = Bench(entry(nodes="role=web:1")).start().run(minutes=30)
    assert first.published == second.published
    assert len(first.published) == 30
    assert {name for _f, name, _i in first.published} == {"node1", "node2"}


def test_a_new_entry_does_not_fire_for_the_past():
    bench = Bench(entry(expression="0 * * * *")).start().run(minutes=59)
    assert bench.published == []


def test_nothing_is_published_before_its_time():
    bench = Bench(entry(expression="5 12 * * *")).start()
    bench.run(until=NOON + timedelta(minutes=5, seconds=-1))
    assert bench.published == []
    bench.run(seconds=1)
    assert bench.fires() == [5, 5, 5]


def test_a_restart_goes_on_where_it_ended():
    bench = Bench(entry()).start().run(minutes=2)
    bench.start().run(minutes=2)
    assert bench.fires("node2") == [1, 2, 3, 4]


def test_of_what_was_missed_while_beat_was_down_the_newest_is_made_up_for():
    bench = Bench(entry()).start().run(minutes=2)
    bench.now += timedelta(minutes=10)
    bench.start().run(minutes=2)
    assert bench.fires("node1") == [1, 2, 12, 13, 14]


def test_a_short_stop_between_two_fires_misses_nothing():
    bench = Bench(entry()).start().run(minutes=2)
    bench.now += timedelta(seconds=90)
    bench.start().run(seconds=30)
    assert bench.fires("node1") == [1, 2, 3, 4]


def test_a_changed_schedule_starts_from_the_change():
    bench = Bench(entry(expression="0 11 * * *")).start().run(minutes=1)
    bench.start(entry(expression="30 11 * * *", fingerprint="g")).run(minutes=1)
    bench.now += timedelta(hours=12)
    bench.start(entry(expression="0 12 * * *", fingerprint="h")).run(minutes=1)
    assert bench.published == []


def test_a_new_node_starts_from_now():
    bench = Bench(entry(nodes=["node1"])).start().run(minutes=2)
    bench.now += timedelta(minutes=10)
    bench.start(entry(nodes=["node1", "node2"])).run(minutes=1)
    assert bench.fires("node1") == [1, 2, 12, 13]
    assert bench.fires("node2") == [13]


class TestFailureOfOneNode:
    def test_it_alone_is_tried_again_and_the_others_get_nothing_twice(self):
        bench = Bench(entry()).start()
        bench.broken["node2"] = RuntimeError("queue is broken")
        bench.run(minutes=1, seconds=20)
        assert [name for _f, name, _i in bench.published] == ["node1", "node3"]
        del bench.broken["node2"]
        bench.run(seconds=20)
        assert [name for _f, name, _i in bench.published] == ["node1", "node3", "node2"]
        assert bench.fires() == [1, 1, 1]

    def test_it_gets_all_it_missed_in_order(self):
        bench = Bench(entry()).start()
        bench.broken["node2"] = RuntimeError("queue is broken")
        bench.run(minutes=4)
        del bench.broken["node2"]
        bench.run(minutes=1)
        assert bench.fires("node1") == bench.fires("node2") == [1, 2, 3, 4, 5]

    def test_it_is_tried_less_and_less_often(self):
        bench = Bench(entry(expression="1 12 * * *")).start()
        bench.broken["node2"] = RuntimeError("queue is broken")
        bench.run(minutes=10)
        assert 35 <= bench.attempts <= 45

    def test_it_is_logged_with_entry_and_queue(self, caplog):
        bench = Bench(entry()).start()
        bench.broken["node2"] = RuntimeError("queue is broken")
        bench.run(minutes=1)
        (record,) = [r for r in caplog.records if r.action == "occurrence_failed"]
        assert "tick" in record.message
        assert "node2-crontab" in record.message
        assert "queue is broken" in record.message

    def test_what_it_is_owed_survives_a_restart(self):
        bench = Bench(entry()).start()
        bench.broken["node2"] = RuntimeError("queue is broken")
        bench.run(minutes=1)
        del bench.broken["node2"]
        bench.start().run(seconds=1)
        assert bench.fires("node2") == [1]
        assert bench.fires("node1") == [1]


class TestBrokerOutage:
    def test_it_delays_occurrences_and_loses_none(self):
        bench = Bench(entry()).start()
        bench.broken["broker"] = BrokerUnreachableError("refused")
        bench.run(minutes=5)
        assert bench.published == []
        bench.broken.clear()
        bench.run(minutes=1)
        for node in TOPOLOGY:
            assert bench.fires(node.name) == [1, 2, 3, 4, 5, 6]

    def test_in_the_middle_of_a_tick_nothing_is_repeated(self):
        bench = Bench(entry()).start()
        bench.broken["node2"] = BrokerUnreachableError("refused")
        bench.run(minutes=1, seconds=10)
        assert [name for _f, name, _i in bench.published] == ["node1"]
        bench.broken.clear()
        bench.run(seconds=20)
        assert [name for _f, name, _i in bench.published] == ["node1", "node2", "node3"]

    def test_only_one_publish_is_tried_at_a_time(self):
        bench = Bench(entry(), entry("other")).start()
        bench.broken["broker"] = BrokerUnreachableError("refused")
        bench.run(minutes=1)
        assert bench.attempts == 1

    def test_it_is_logged_once_per_attempt(self, caplog):
        bench = Bench(entry()).start()
        bench.broken["broker"] = BrokerUnreachableError("refused")
        bench.run(minutes=1)
        assert [r.action for r in caplog.records] == ["occurrences_wait"]


class TestRestartWhileSomethingIsOwed:
    def test_an_outage_is_made_up_for_and_the_time_without_beat_by_its_newest(self):
        bench = Bench(entry()).start().run(minutes=2)
        bench.broken["broker"] = BrokerUnreachableError("refused")
        bench.run(minutes=3)
        bench.now += timedelta(minutes=10)
        bench.start().run(seconds=1)
        assert bench.fires("node1") == [1, 2]
        bench.broken.clear()
        bench.run(minutes=1)
        assert bench.fires("node1") == [1, 2, 3, 4, 5, 15, 16]

    def test_so_is_a_node_that_failed(self):
        bench = Bench(entry()).start().run(minutes=1)
        bench.broken["node2"] = RuntimeError("queue is broken")
        bench.run(minutes=2)
        bench.now += timedelta(minutes=10)
        bench.start().run(seconds=1)
        bench.broken.clear()
        bench.start().run(seconds=30)
        assert bench.fires("node2") == [1, 2, 3, 13]
        assert bench.fires("node1") == [1, 2, 3, 13]

    def test_a_node_that_is_new_changes_nothing_for_the_others(self):
        bench = Bench(entry(nodes=["node1"])).start().run(minutes=2)
        bench.now += timedelta(minutes=10)
        bench.start(entry(nodes=["node1", "node2"])).run(minutes=1)
        assert bench.fires("node1") == [1, 2, 12, 13]


class TestWrongClock:
    def test_positions_of_a_clock_that_was_ahead_do_not_stop_an_entry(self, caplog):
        bench = Bench(entry()).start()
        bench.now += timedelta(days=30)
        bench.start().run(minutes=1)
        bench.now = NOON
        bench.published.clear()
        bench.start().run(minutes=2)
        assert bench.fires("node1") == [1, 2]
        assert "clock_was_ahead" in {r.action for r in caplog.records}

    def test_a_clock_that_is_set_back_under_a_running_beat_does_not_either(self, caplog):
        bench = Bench(entry()).start().run(minutes=1)
        bench.now += timedelta(hours=1)
        bench.run(seconds=1)
        bench.now = NOON + timedelta(minutes=1)
        bench.published.clear()
        bench.run(minutes=2)
        assert bench.fires("node1") == [2, 3]
        assert [r.action for r in caplog.records].count("clock_went_back") == 1

    @pytest.mark.parametrize("back", [timedelta(minutes=3), timedelta(hours=1)])
    def test_a_clock_that_is_set_back_right_after_a_restart_ends_every_round(self, back):
        bench = Bench(entry()).start().run(minutes=1)
        bench.now += timedelta(minutes=10)
        bench.broken["broker"] = BrokerUnreachableError("refused")
        bench.start().run(seconds=1)
        bench.broken.clear()
        bench.now -= back
        bench.run(minutes=5)
        assert bench.fires("node1")[-1] >= (bench.now - NOON).total_seconds() // 60 - 1


def test_entries_that_beat_cannot_keep_up_with_are_named_once(monkeypatch, caplog):
    monkeypatch.setattr(module, "BATCH", 3)
    bench = Bench(entry(expression="* * * * *")).start()
    bench.now += timedelta(hours=1)
    for _ in range(10):
        bench.fanout.run_due()
    (record,) = [r for r in caplog.records if r.action == "occurrences_late"]
    assert "tick most of all" in record.message


def test_a_clock_that_goes_back_repeats_nothing():
    bench = Bench(entry()).start().run(minutes=3)
    bench.now -= timedelta(minutes=3)
    bench.run(minutes=5)
    assert bench.fires("node1") == [1, 2, 3, 4, 5]


def test_many_due_occurrences_are_published_in_batches(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 10)
    bench = Bench(*(entry(f"e{i}") for i in range(20))).start()
    bench.now += timedelta(minutes=1)
    assert bench.fanout.run_due() == 0.0
    assert 10 <= len(bench.published) < 60
    bench.run(seconds=1)
    assert len(bench.published) == 60


def test_an_interrupted_run_keeps_what_it_has_published():
    bench = Bench(entry()).start()
    bench.broken["node2"] = SystemExit()
    with pytest.raises(SystemExit):
        bench.run(minutes=1)
    bench.broken.clear()
    bench.start().run(seconds=1)
    assert [name for _f, name, _i in bench.published] == ["node1", "node2", "node3"]


def test_positions_are_saved_only_when_they_changed():
    bench = Bench(entry()).start()
    before = bench.store.saves
    bench.run(seconds=30)
    assert bench.store.saves == before
    bench.run(seconds=30)
    assert bench.store.saves == before + 1


def test_a_full_disk_stops_nothing_and_is_said_once(caplog):
    bench = Bench(entry()).start()
    save, bench.store.save = bench.store.save, failing(OSError("no space left"))
    bench.run(minutes=3)
    assert bench.fires("node1") == [1, 2, 3]
    assert [r.action for r in caplog.records] == ["positions_not_saved"]
    bench.store.save = save
    bench.run(seconds=1)
    assert bench.store.saved.positions["tick"].last["node1"] == NOON + timedelta(minutes=3)


def test_a_full_disk_at_the_start_stops_nothing_either(caplog):
    bench = Bench(entry())
    bench.store.save = failing(OSError("no space left"))
    bench.start().run(minutes=1)
    assert bench.fires("node1") == [1]
    assert [r.action for r in caplog.records] == ["positions_not_saved"]


def failing(error):
    def save(positions):
        raise error

    return save


def test_without_entries_there_is_nothing_to_do():
    bench = Bench().start()
    assert bench.fanout.run_due() == module.MAX_WAIT
