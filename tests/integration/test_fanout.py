"""A real beat and real workers: every occurrence on every selected node, and what stock does."""

from __future__ import annotations

import signal
import uuid
from datetime import datetime, timedelta, timezone

import pytest
import redis
from kombu import Connection, Queue

from tests.integration.deployment import Deployment
from tests.support.waiting import wait_until

NODES = ["node1", "node2", "node3"]


@pytest.fixture
def deployment(broker, tmp_path):
    with Deployment("nodes_app", tmp_path, broker) as deployment:
        yield deployment


def crontab_workers(deployment, *nodes):
    workers = [
        deployment.worker("--node", node, "--crontab", name=f"{node}-crontab") for node in nodes
    ]
    for worker in workers:
        worker.wait_ready()
    return workers


def ticks(deployment, node, task="proj.tick"):
    """Fire times that ran on a node, oldest first."""
    return [
        datetime.fromisoformat(r["header"]["fire"])
        for r in deployment.records()
        if r["task"] == task and r["node"] == node and r["header"]
    ]


def assert_all_ran(deployment, *nodes, repeats=False):
    """Every second from the first to the last of the first node ran on every node, once."""
    first, last = ticks(deployment, nodes[0])[0], ticks(deployment, nodes[0])[-1]
    expected = [first + timedelta(seconds=s) for s in range(int((last - first).total_seconds()))]
    assert expected
    for node in nodes:
        wait_until(lambda node=node: max(ticks(deployment, node)) >= last, 20)
        ran = sorted(fire for fire in ticks(deployment, node) if fire < last)
        assert (sorted(set(ran)) if repeats else ran) == expected


def test_each_node_runs_every_occurrence_once_and_one_that_was_down_makes_up_for_it(deployment):
    crontab_workers(deployment, "node1", "node2")
    beat = deployment.run("beat")
    beat.wait_ready()
    beat.wait_for_output("No worker answers for node3-crontab; occurrences wait there")
    for node in ("node1", "node2"):
        wait_until(lambda node=node: len(ticks(deployment, node)) >= 5, 20)
    assert ticks(deployment, "node3") == []

    crontab_workers(deployment, "node3")
    first = ticks(deployment, "node1")[0]
    wait_until(lambda: first in ticks(deployment, "node3"), 20)
    wait_until(lambda: len(ticks(deployment, "node3")) >= 8, 20)
    beat.wait_for_output("Every crontab queue has a worker")
    assert_all_ran(deployment, *NODES)
    assert beat.stop() == 0

    records = [r for r in deployment.records() if r["task"] == "proj.tick"]
    assert len({r["id"] for r in records}) == len(records)
    for record in records:
        assert uuid.UUID(record["id"]).version == 5
        assert record["header"]["node"] == record["node"]
        assert record["queue"] == f"{record['node']}-crontab"
        assert record["header"]["entry"] == "proj.tick"

    pairs = {node: ticks(deployment, node, "proj.mark") for node in NODES}
    assert pairs["node2"] == []
    assert len(pairs["node1"]) >= 2
    assert all(fire.second % 2 == 0 for fire in pairs["node1"])


def test_other_entries_are_sent_once_as_by_celerys_own_beat(deployment):
    worker = deployment.worker("--node", "node1", name="node1-worker")
    worker.wait_ready()
    deployment.run("beat").wait_ready()
    records = deployment.wait_for(2, task="proj.plain_tick")
    assert {(r["node"], r["queue"], r["header"]) for r in records} == {("node1", "node1", None)}


def test_a_publish_that_fails_for_one_node_is_mended_for_that_node_alone(deployment, broker):
    crontab_workers(deployment, "node1", "node3")
    mend = _break_queue(broker, "node2-crontab")
    beat = deployment.run("beat")
    beat.wait_for_output("Could not publish proj.tick of .* to node2-crontab")
    wait_until(lambda: len(ticks(deployment, "node1")) >= 4, 20)
    mend()
    crontab_workers(deployment, "node2")
    first = ticks(deployment, "node1")[0]
    wait_until(lambda: first in ticks(deployment, "node2"), 30)
    wait_until(lambda: len(ticks(deployment, "node2")) >= 8, 30)
    assert_all_ran(deployment, *NODES)
    assert ticks(deployment, "node2")[0] == first


def test_a_broker_outage_delays_occurrences_and_loses_none(deployment, broker):
    if not broker.is_amqp:
        with redis.Redis.from_url(broker.url) as client:
            client.config_set("appendonly", "yes")
    crontab_workers(deployment, *NODES)
    beat = deployment.run("beat")
    wait_until(lambda: len(ticks(deployment, "node3")) >= 2, 20)

    broker.server.stop()
    beat.wait_for_output("The broker cannot be reached; due occurrences wait", 30)
    enough = datetime.now(timezone.utc) + timedelta(seconds=3)
    wait_until(lambda: datetime.now(timezone.utc) > enough)
    broker.server.start()
    back = datetime.now(timezone.utc)
    for node in NODES:
        wait_until(
            lambda node=node: max(ticks(deployment, node)) > back, 60, f"{node} does not run again"
        )
    # What a worker was running when its broker went away may run again.
    assert_all_ran(deployment, *NODES, repeats=True)


def test_a_killed_beat_goes_on_where_it_ended_under_the_same_ids(deployment):
    crontab_workers(deployment, "node1")
    beat = deployment.run("beat")
    wait_until(lambda: len(ticks(deployment, "node1")) >= 3, 20)
    beat.signal(signal.SIGKILL)
    beat.wait()
    before = set(ticks(deployment, "node1"))
    beat.start()
    wait_until(lambda: len(set(ticks(deployment, "node1")) - before) >= 3, 20)
    beat.stop()
    ids = {(r["header"]["fire"], r["id"]) for r in _ran(deployment, "node1")}
    assert len({fire for fire, _id in ids}) == len(ids)


@pytest.mark.parametrize("scheduler", ["nodekit", "celery_nodekit.Scheduler"])
def test_a_beat_that_is_stopped_again_and_again_misses_nothing_while_it_runs(deployment, scheduler):
    crontab_workers(deployment, "node1")
    beat = deployment.run("beat", "-S", scheduler)
    for _ in range(4):
        beat.wait_ready()
        up = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=1)
        due = [up + timedelta(seconds=second) for second in range(3)]
        wait_until(lambda due=due: due[-1] in ticks(deployment, "node1"), 20)
        assert set(due) <= set(ticks(deployment, "node1"))
        # At a random moment: what falls due now is left to the next start.
        assert beat.stop(5) == 0
        beat.start()
    ids = {(r["header"]["fire"], r["id"]) for r in _ran(deployment, "node1")}
    assert len({fire for fire, _id in ids}) == len(ids)


def test_a_second_beat_on_the_same_files_is_refused(deployment):
    deployment.run("beat").wait_for_output("Sending due task")
    second = deployment.run("beat")
    assert second.wait() != 0
    assert "Another beat (pid" in second.output()


class TestStockCelery:
    """What the library is for: the same on Celery alone."""

    def test_beat_reaches_one_worker_and_not_each(self, broker, tmp_path):
        with Deployment("stock_app", tmp_path, broker) as deployment:
            for node in ("node1", "node2"):
                deployment.worker(name=node).wait_ready()
            deployment.run("beat").wait_ready()
            wait_until(lambda: len(deployment.lines()) >= 4, 20)
            ids = [line.split()[0] for line in deployment.lines()]
            assert len(set(ids)) == len(ids)

    def test_a_broadcast_misses_a_node_that_is_down(self, broker, tmp_path):
        with Deployment("stock_app", tmp_path, broker, TEST_BROADCAST="1") as deployment:
            deployment.worker(name="node1").wait_ready()
            late = deployment.worker(name="node2")
            late.wait_ready()
            assert late.stop() == 0
            with deployment.producer() as stock:
                missed = _broadcast_until(deployment, stock, "node1@test", 3)
                late.start()
                late.wait_ready()
                _broadcast_until(deployment, stock, "node2@test", 1)
            ran = [line.split() for line in deployment.lines()]
            assert missed <= {task_id for task_id, host in ran if host == "node1@test"}
            assert not missed & {task_id for task_id, host in ran if host == "node2@test"}


def _broadcast_until(deployment, stock, host, count):
    """Broadcast until a host ran some; a broadcast to nobody is lost. Return the ids it ran."""

    def ran():
        return {line.split()[0] for line in deployment.lines() if line.endswith(host)}

    # Without `declare` a producer on Redis drops a broadcast without an error.
    fanout = stock.app.amqp.queues["everywhere"].exchange

    def send():
        stock.tick.apply_async(queue="everywhere", declare=[fanout])
        return len(ran()) >= count

    wait_until(send, 20, interval=0.2)
    return ran()


def _ran(deployment, node):
    return [r for r in deployment.records() if r["task"] == "proj.tick" and r["node"] == node]


def _break_queue(broker, name):
    """Make one queue refuse every message; return what mends it."""
    if broker.is_amqp:
        connection = Connection(broker.url)
        queue = Queue(name, durable=False, queue_arguments={"x-max-length": 1})(connection)
        queue.declare()

        def mend():
            queue.delete()
            connection.release()

        return mend
    client = redis.Redis.from_url(broker.url)
    client.set(name, "not a list")

    def mend():
        client.delete(name)
        client.close()

    return mend
