from __future__ import annotations

import copy
from datetime import timedelta, timezone

import pytest
from celery.beat import ScheduleEntry
from celery.schedules import BaseSchedule, crontab

from celery_nodekit import cron
from celery_nodekit.beat.entries import read_entries
from celery_nodekit.config import NodeKitConfig
from celery_nodekit.exceptions import ConfigurationError
from celery_nodekit.topology import Topology

TOPOLOGY = Topology.from_config(NodeKitConfig(nodes=["node1", "node2"]))


def read(**entries):
    return read_entries(
        entries,
        topology=TOPOLOGY,
        tz=timezone.utc,
        app=None,
        is_task={"proj.a"}.__contains__,
    )


def fanout(options, schedule=None, **other):
    return read(
        e={"task": "proj.a", "schedule": schedule or cron("@daily"), "options": options, **other}
    ).fanout["e"]


def test_entries_without_nodes_are_left_to_celery():
    plain = {"task": "elsewhere.b", "schedule": 3.0, "options": {"node": "node1", "queue": "q"}}
    plan = read(e=plain)
    assert plan.plain == {"e": plain}
    assert plan.fanout == {}


def test_entries_are_mappings_or_celerys_own_objects(make_app):
    entry = ScheduleEntry(
        name="x", task="proj.a", schedule=30, options={"nodes": "node1"}, app=make_app()
    )
    assert [node.name for node in read(e=entry).fanout["e"].candidates] == ["node1"]
    with pytest.raises(ConfigurationError, match="cron entry 'e' cannot be read: TypeError"):
        read(e=3)


@pytest.mark.parametrize(
    "options",
    [{"nodes": "all"}, {"headers": {"nodekit": {"nodes": "all"}}}],
    ids=["sugar", "what stores keep"],
)
def test_nodes_are_read_from_options_or_from_the_header(options):
    entry = fanout(options, args=(1,), kwargs={"x": 2})
    assert [node.name for node in entry.candidates] == ["node1", "node2"]
    assert (entry.task, entry.args, entry.kwargs) == ("proj.a", (1,), {"x": 2})
    assert entry.options == {"headers": {}}


def test_other_options_and_headers_are_kept_and_the_users_are_not_changed():
    given = {"nodes": "node1", "priority": 3, "headers": {"x": 1, "nodekit": {"anchor": 60}}}
    before = copy.deepcopy(given)
    entry = fanout(given)
    assert entry.options == {"priority": 3, "headers": {"x": 1}}
    assert given == before


@pytest.mark.parametrize("schedule", [30, 30.0, timedelta(seconds=30), crontab(), cron("@daily")])
def test_every_form_of_schedule_is_understood(schedule):
    assert fanout({"nodes": "all"}, schedule).times.next_after


def test_a_changed_schedule_or_anchor_has_another_fingerprint():
    prints = {
        fanout({"nodes": "all"}).fingerprint,
        fanout({"nodes": "all"}, cron("@hourly")).fingerprint,
        fanout({"nodes": "all"}, 60).fingerprint,
        fanout({"headers": {"nodekit": {"nodes": "all", "anchor": 5}}}, 60).fingerprint,
    }
    assert len(prints) == 4


def test_a_hashed_expression_is_spread_by_the_name_of_the_entry():
    entries = read(
        a={"task": "proj.a", "schedule": cron("H H * * *"), "options": {"nodes": "all"}},
        b={"task": "proj.a", "schedule": cron("H H * * *"), "options": {"nodes": "all"}},
        c={"task": "proj.a", "schedule": cron("H H * * *")},
    )
    assert entries.fanout["a"].times.hash_id == "a"
    assert entries.fanout["b"].times.hash_id == "b"
    assert entries.plain["c"]["schedule"].hash_id == "c"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"options": {"nodes": "node9"}}, "Unknown node 'node9'"),
        ({"options": {"nodes": []}}, "selects no node"),
        ({"options": {"nodes": None}}, "A node selector is"),
        ({"task": "proj.b"}, "there is no task 'proj.b'"),
        ({"task": None}, "it has no 'task'"),
        ({"schedule": None}, "it has no 'schedule'"),
        ({"schedule": 0}, "longer than zero"),
        ({"schedule": BaseSchedule()}, "cannot say when it fires"),
        ({"schedule": float("nan")}, "cannot be read: ValueError"),
        ({"schedule": 1e18}, "cannot be read: OverflowError"),
        ({"options": {"node": "node9"}}, "Unknown node 'node9'"),
        ({"options": {"nodes": "all", "queue": "q"}}, "both 'nodes' and 'queue'"),
        ({"options": {"nodes": "all", "node": "node1"}}, "both 'nodes' and 'node'"),
        ({"options": {"nodes": "all", "task_id": "x"}}, "both 'nodes' and 'task_id'"),
        ({"options": {"headers": {"nodekit": {"misfire": "all"}}}}, "unknown key 'misfire'"),
        ({"options": {"headers": {"nodekit": {"anchor": 1}}}}, "lacks 'nodes'"),
        (
            {"options": {"headers": {"nodekit": {"nodes": "all", "anchor": "x"}}}},
            "'anchor' must be a number of seconds",
        ),
    ],
)
def test_a_mistake_is_an_error_that_names_entry_and_cause(change, expected):
    entry = {"task": "proj.a", "schedule": 30, "options": {"nodes": "all"}, **change}
    with pytest.raises(ConfigurationError, match=f"cron entry 'broken'.*{expected}"):
        read(broken=entry)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigurationError) as caught:
        read(
            one={"task": "proj.a", "schedule": 30, "options": {"nodes": "node9"}},
            two={"task": "nope", "schedule": 30, "options": {"nodes": "all"}},
        )
    assert "'one'" in str(caught.value)
    assert "'two'" in str(caught.value)
