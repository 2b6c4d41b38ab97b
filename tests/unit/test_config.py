from __future__ import annotations

import re

import pytest

from celery_nodekit.config import ConfigSource, NodeKitConfig, setting_names
from celery_nodekit.exceptions import ConfigurationError


def test_defaults_are_the_established_layout():
    config = NodeKitConfig()
    assert (config.node_queue, config.crontab_queue) == ("{node}", "{node}-crontab")
    assert config.reliability == "on"
    assert config.drain_timeout == 25.0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("nodes", "node1", r"nodekit_nodes must be a list of names"),
        ("nodes", 3, r"nodekit_nodes must be a list of names"),
        ("node", "", r"nodekit_node must be a non-empty string"),
        ("node", 7, r"nodekit_node must be a non-empty string"),
        ("namespace", "", r"nodekit_namespace must be a non-empty string"),
        ("node_queue", "fixed", r"nodekit_node_queue must be a template with \{node\}"),
        ("node_queue", "{host}", r"nodekit_node_queue must be a template with \{node\}"),
        ("node_queue", "{", r"nodekit_node_queue must be a template"),
        ("crontab_queue", None, r"nodekit_crontab_queue must be a template"),
        ("routes", ["proj.render"], r"nodekit_routes must be a mapping"),
        ("reliability", "maybe", r'nodekit_reliability must be "on" or "off"'),
        ("reliability", True, r'nodekit_reliability must be "on" or "off"'),
        ("drain_timeout", "25", r"nodekit_drain_timeout must be a number of seconds from 0 to"),
        ("drain_timeout", -1, r"nodekit_drain_timeout must be a number of seconds from 0 to 86400"),
        ("drain_timeout", True, r"nodekit_drain_timeout must be a number"),
        ("queue_check_interval", 1e9, r"nodekit_queue_check_interval must be a number"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_setting_and_range(name, value, expected):
    with pytest.raises(ConfigurationError, match=expected) as caught:
        NodeKitConfig(**{name: value})
    assert repr(value) in str(caught.value)


def test_an_unknown_name_is_an_error_that_names_the_nearest():
    with pytest.raises(ConfigurationError, match=r"nodekit_node_queu\. Did you mean 'node_queue'"):
        NodeKitConfig.from_mapping({"node_queu": "x"})


def test_a_configuration_error_is_a_value_error_too():
    assert issubclass(ConfigurationError, ValueError)


def test_every_setting_says_what_it_means():
    for name in setting_names():
        metadata = NodeKitConfig.__dataclass_fields__[name].metadata
        assert metadata["doc"].endswith(".")
        assert metadata["kind"]


@pytest.mark.parametrize("nodes", [["a", "b"], ("a", "b"), {"a": None, "b": {}}])
def test_nodes_are_a_list_or_a_mapping(nodes):
    assert list(NodeKitConfig(nodes=nodes).nodes) == ["a", "b"]


class TestSource:
    def test_later_assignments_count(self, make_app):
        app = make_app()
        source = ConfigSource(app)
        assert source.current().nodes == ()
        app.conf.nodekit_nodes = ["node1"]
        assert source.current().nodes == ["node1"]
        app.conf.nodekit_nodes.append("node2")
        assert source.current().nodes == ["node1", "node2"]

    def test_an_unchanged_app_is_not_read_again(self, make_app):
        source = ConfigSource(make_app(nodekit_nodes=["node1"]))
        assert source.current() is source.current()

    @pytest.mark.parametrize("key", ["nodekit_noodes", "nodekit_nodes_"])
    def test_a_misspelt_setting_is_an_error(self, make_app, key):
        app = make_app()
        app.conf[key] = ["node1"]
        with pytest.raises(ConfigurationError, match=re.escape(key) + ".*Did you mean 'nodes'"):
            ConfigSource(app).current()

    def test_a_misspelt_setting_in_a_namespace_is_an_error(self, make_app):
        app = make_app()
        app.config_from_object({"CELERY_NODEKIT_NOODES": ["node1"]}, namespace="CELERY")
        with pytest.raises(ConfigurationError, match="nodekit_noodes"):
            ConfigSource(app).current()

    @pytest.mark.parametrize("name", ["NODEKIT_NODES", "CELERY_NODEKIT_NODES"])
    def test_an_upper_case_name_that_celery_does_not_read_is_an_error(self, make_app, name):
        app = make_app()
        app.config_from_object({name: ["node1"]})
        with pytest.raises(ConfigurationError, match=rf"^{name} is not read.*nodekit_nodes, or"):
            ConfigSource(app).current()

    def test_an_unrelated_upper_case_name_is_left_alone(self, make_app):
        app = make_app()
        app.config_from_object(
            {"NODEKIT_DASHBOARD_URL": "x", "NODES": 3, "nodekit_nodes": ["node1"]}
        )
        assert ConfigSource(app).current().nodes == ["node1"]

    def test_the_environment_names_the_node(self, make_app, monkeypatch):
        source = ConfigSource(make_app(nodekit_nodes=["a", "b"], nodekit_node="a"))
        assert source.node_from_environment() == "a"
        monkeypatch.setenv("NODEKIT_NODE", "b")
        assert source.node_from_environment() == "b"

    @pytest.mark.parametrize(
        ("main", "setting", "expected"),
        [
            ("proj", None, "proj"),
            ("proj", "other", "other"),
            ("__main__", None, ""),
            (None, None, ""),
        ],
    )
    def test_the_namespace_is_the_name_of_the_app(self, make_app, main, setting, expected):
        app = make_app(main)
        if setting:
            app.conf.nodekit_namespace = setting
        assert ConfigSource(app).namespace == expected

    @pytest.mark.parametrize(
        ("url", "scheme"),
        [
            ("redis://h/0", "redis"),
            ("amqp://a;amqp://b", "amqp"),
            (["sentinel://a", "x://b"], "sentinel"),
            (None, "amqp"),
        ],
    )
    def test_the_brokers_scheme_is_that_of_its_first_url(self, make_app, url, scheme):
        app = make_app()
        app.conf.broker_url = url
        assert ConfigSource(app).broker_scheme() == scheme
