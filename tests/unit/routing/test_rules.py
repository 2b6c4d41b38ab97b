from __future__ import annotations

import re

import pytest

from celery_nodekit.config import NodeKitConfig
from celery_nodekit.exceptions import ConfigurationError
from celery_nodekit.routing.rules import Rule, RuleTable
from celery_nodekit.topology import Topology

TOPOLOGY = Topology.from_config(
    NodeKitConfig(nodes={"node1": {"labels": {"role": "web"}}, "node2": None})
)


def table(routes):
    return RuleTable(routes, TOPOLOGY)


def test_an_exact_name_comes_before_patterns_in_any_order():
    rules = table({"proj.*": "node1", "proj.render": "node2"})
    assert rules.find("proj.render") == Rule(nodes="node2")
    assert rules.find("proj.other") == Rule(nodes="node1")
    assert rules.find("elsewhere") is None


def test_patterns_are_tried_in_the_order_given():
    rules = table({"proj.io.*": "node2", "proj.*": "node1"})
    assert rules.find("proj.io.read") == Rule(nodes="node2")


@pytest.mark.parametrize("glob", ["proj.?o", "proj.[im]o", "*.io"])
def test_globs_match_the_whole_name(glob):
    rules = table({glob: "node1"})
    assert rules.find("proj.io") == Rule(nodes="node1")
    assert rules.find("proj.io.read") is None


def test_compiled_regular_expressions_match_from_the_start_as_in_task_routes():
    rules = table({re.compile(r"proj\.(io|net)"): "node1"})
    assert rules.find("proj.io.read") == Rule(nodes="node1")
    assert rules.find("my.proj.io") is None


def test_a_rule_may_choose_by_an_argument():
    assert table({"t": {"nodes": "all", "by": "user_id"}}).find("t") == Rule(
        nodes="all", by="user_id"
    )


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ({"t": "node9"}, r"nodekit_routes\['t'\]: Unknown node 'node9'"),
        ({"t": []}, r"nodekit_routes\['t'\]: .*selects no node"),
        ({"t": "role=db"}, r"nodekit_routes\['t'\]: No node has the label role=db"),
        ({"t": 3}, r"nodekit_routes\['t'\] must be a node, a selector"),
        ({"t": {"by": "x"}}, r"nodekit_routes\['t'\] must be a node, a selector"),
        ({"t": {"node": "node1"}}, r"unknown key 'node'. Did you mean 'nodes'"),
        ({"t": {"nodes": "all", "by": 3}}, r"\['by'\] must be the name of a task argument"),
        ({3: "node1"}, r"3 must be a task name, a glob or a compiled regex"),
        ({"": "node1"}, r"'' must be a task name"),
    ],
)
def test_a_malformed_rule_is_an_error_that_names_it(routes, expected):
    with pytest.raises(ConfigurationError, match=expected):
        table(routes)
