from __future__ import annotations

import contextlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_nodekit.config import NodeKitConfig
from celery_nodekit.exceptions import ConfigurationError, UnknownNodeError
from celery_nodekit.topology import Topology, rendezvous

LABELLED = {
    "node1": {"labels": {"role": "web"}, "queue": "q1"},
    "node2": {"labels": {"role": "web", "disk": "ssd"}, "crontab_queue": "cron2"},
    "node3": {"labels": {"role": "db"}},
}


def topology(nodes=("node1", "node2", "node3"), **settings):
    return Topology.from_config(NodeKitConfig(nodes=nodes, **settings))


def names(nodes):
    return [node.name for node in nodes]


def test_a_list_of_names_gives_the_established_queues():
    assert [(n.name, n.queue, n.crontab_queue) for n in topology(["node1", "node2"])] == [
        ("node1", "node1", "node1-crontab"),
        ("node2", "node2", "node2-crontab"),
    ]


def test_templates_and_explicit_names_give_other_queues():
    nodes = {n.name: n for n in topology(LABELLED, node_queue="n.{node}")}
    assert nodes["node1"].queue == "q1"
    assert nodes["node1"].crontab_queue == "node1-crontab"
    assert nodes["node2"].queue == "n.node2"
    assert nodes["node2"].crontab_queue == "cron2"


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("node2", ["node2"]),
        (["node3", "node1"], ["node1", "node3"]),
        (("node1", "node1"), ["node1"]),
        ("all", ["node1", "node2", "node3"]),
        ("role=web", ["node1", "node2"]),
        (["role=db", "node2"], ["node2", "node3"]),
        (["all", "node1"], ["node1", "node2", "node3"]),
    ],
)
def test_selectors_pick_nodes_in_the_order_of_the_topology(selector, expected):
    assert names(topology(LABELLED).select(selector)) == expected


def test_a_label_with_a_number_picks_that_many_and_always_the_same_ones_for_a_key():
    nodes = topology(LABELLED)
    picked = {key: names(nodes.select("role=web:1", key=key)) for key in map(str, range(50))}
    assert all(len(chosen) == 1 for chosen in picked.values())
    assert {chosen[0] for chosen in picked.values()} == {"node1", "node2"}
    assert picked == {key: names(nodes.select("role=web:1", key=key)) for key in picked}
    assert names(nodes.select("role=web:9")) == ["node1", "node2"]
    assert names(nodes.candidates("role=web:1")) == ["node1", "node2"]


def test_an_unknown_node_is_an_error_that_names_the_known_ones():
    with pytest.raises(UnknownNodeError, match=r"'nodr2'\. Did you mean 'node2'.*node1, node2"):
        topology().select("nodr2")


def test_an_unknown_label_is_an_error_that_names_the_known_ones():
    with pytest.raises(UnknownNodeError, match=r"role=wbe.*Did you mean 'role=web'.*disk=ssd"):
        topology(LABELLED).select("role=wbe")


@pytest.mark.parametrize("selector", ["", [], [""], (), ["node1", ""]])
def test_an_empty_selection_is_an_error(selector):
    with pytest.raises(ConfigurationError, match="selects no node"):
        topology().select(selector)


@pytest.mark.parametrize("selector", [None, 3, ["node1", 2], {"node1"}, {"node1": 1}])
def test_a_selector_of_another_type_is_an_error(selector):
    with pytest.raises(ConfigurationError, match="A node selector is a name, a list"):
        topology().select(selector)


@pytest.mark.parametrize("selector", ["role=", "=web", "role=web:0", "role=web:x", "a=b=c"])
def test_a_malformed_label_is_an_error(selector):
    with pytest.raises(ConfigurationError):
        topology(LABELLED).select(selector)


def test_selecting_without_nodes_says_how_to_configure_them():
    with pytest.raises(ConfigurationError, match="set nodekit_nodes"):
        topology(()).select("all")


@pytest.mark.parametrize("name", ["all", "", "a b", "a=b", "-x", "a,b", 7, "x" * 129])
def test_a_name_that_cannot_be_a_node_is_an_error(name):
    with pytest.raises(ConfigurationError, match="cannot be the name of a node"):
        topology([name])


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (["a", "a"], "names 'a' twice"),
        ({"a": {"lables": {}}}, "unknown key 'lables'. Did you mean 'labels'"),
        ({"a": "x"}, r"nodekit_nodes\['a'\] must be a mapping"),
        ({"a": {"queue": 3}}, "must be the name of a queue"),
        ({"a": {"queue": "q"}, "b": {"queue": "q"}}, "queue 'q' is used twice, by a and b"),
        ({"a": {"queue": "q", "crontab_queue": "q"}}, "'q' is used twice, by a and a"),
        ({"a": {"queue": "b-crontab"}, "b": None}, "used twice"),
        ({"a": {"labels": ["web"]}}, r"\['labels'\] must be a mapping"),
        ({"a": {"labels": {"role": "a:b"}}}, r"\['labels'\] must be a mapping"),
    ],
)
def test_a_malformed_topology_is_an_error_that_names_the_place(nodes, expected):
    with pytest.raises(ConfigurationError, match=expected):
        topology(nodes)


def test_the_owner_of_a_queue_is_its_node():
    nodes = topology(LABELLED)
    assert nodes.queue_owner("q1").name == "node1"
    assert nodes.queue_owner("cron2").name == "node2"
    assert nodes.queue_owner("default") is None
    assert len(nodes) == 3
    assert nodes.names == ["node1", "node2", "node3"]


KEYS = [f"user{i}" for i in range(2000)]


def test_rendezvous_spreads_keys_evenly():
    counts = Counter(rendezvous(key, ["a", "b", "c", "d"])[0] for key in KEYS)
    assert all(400 < count < 600 for count in counts.values())


def test_a_new_node_takes_over_only_its_share():
    before = {key: rendezvous(key, ["a", "b", "c"])[0] for key in KEYS}
    after = {key: rendezvous(key, ["a", "b", "c", "d"])[0] for key in KEYS}
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} == {"d"}
    assert 400 < len(moved) < 600


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8, unique=True), st.text())
def test_rendezvous_does_not_depend_on_the_order(nodes, key):
    assert rendezvous(key, nodes) == rendezvous(key, list(reversed(nodes)))


@given(st.text())
def test_any_text_is_a_selector_or_one_of_our_errors(selector):
    with contextlib.suppress(ConfigurationError):
        assert topology(LABELLED).select(selector)
