"""Routing through a real app: every kind of call, on a broker in memory."""

from __future__ import annotations

import re
import warnings
from types import SimpleNamespace

import pytest
from celery import chain, chord, group
from celery.exceptions import CDeprecationWarning
from kombu import Exchange, Queue

from celery_nodekit import NodeKit
from celery_nodekit.exceptions import ConfigurationError, RoutingError, UnknownNodeError

NODES = ["node1", "node2", "node3"]


@pytest.fixture
def app(make_app):
    app = make_app(backend="cache+memory://")
    NodeKit(app, nodes=NODES)
    return app


@pytest.fixture
def task(app):
    @app.task(shared=False, name="proj.add")
    def add(x=0, y=0):
        return x + y

    return add


def queues(sent):
    return [message.queue for message in sent]


class TestNodeOption:
    def test_apply_async(self, task, sent):
        task.apply_async(node="node2")
        assert queues(sent) == ["node2"]
        assert sent[0].exchange == ""

    def test_send_task_with_and_without_registration(self, app, task, sent):
        app.send_task("proj.add", node="node2")
        app.send_task("proj.unregistered", node="node3")
        assert queues(sent) == ["node2", "node3"]

    def test_set_then_delay(self, task, sent):
        task.s(1).set(node="node2").delay()
        task.si(1).set(node="node3").apply_async(countdown=5)
        assert queues(sent) == ["node2", "node3"]

    def test_members_of_a_group(self, task, sent):
        group(task.s().set(node="node1"), task.s().set(node="node2"), task.s()).apply_async()
        assert queues(sent) == ["node1", "node2", "default"]

    def test_a_whole_group(self, task, sent):
        group(task.s(), task.s()).apply_async(node="node3")
        assert queues(sent) == ["node3", "node3"]

    def test_the_first_link_of_a_chain_goes_now_and_the_next_keeps_its_node(self, task, sent):
        chain(task.si(1).set(node="node1"), task.si(2).set(node="node2")).apply_async()
        assert queues(sent) == ["node1"]

    def test_a_chain_as_a_whole_sends_its_first_link_as_queue_does(self, task, sent):
        chain(task.si(1), task.si(2)).apply_async(node="node1")
        assert queues(sent) == ["node1"]

    def test_the_header_of_a_chord(self, task, sent):
        chord([task.s().set(node="node1"), task.s().set(node="node2")])(task.s())
        assert queues(sent) == ["node1", "node2"]

    def test_it_does_not_reach_the_message(self, task, sent):
        task.apply_async(node="node2")
        assert "node" not in sent[0].properties
        assert "node" not in sent[0].headers

    def test_none_is_no_node(self, task, sent):
        task.apply_async(node=None)
        assert queues(sent) == ["default"]
        assert "node" not in sent[0].properties

    def test_it_beats_the_queue_of_the_task(self, app, sent):
        def q(): ...

        # Celery 5.7 calls the attribute deprecated when the task is bound.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CDeprecationWarning)
            q = app.task(shared=False, name="proj.q", queue="slow", lazy=False)(q)
            app.finalize()

        q.apply_async(node="node2")
        q.apply_async()
        assert queues(sent) == ["node2", "slow"]

    def test_its_queue_beside_it_is_no_conflict(self, task, sent):
        task.apply_async(node="node2", queue="node2")
        assert queues(sent) == ["node2"]

    @pytest.mark.parametrize(
        "other",
        [
            {"queue": "slow"},
            {"queue": "node1"},
            {"queue": Queue("slow")},
            {"exchange": "media", "routing_key": "x"},
            {"routing_key": "node1"},
        ],
    )
    def test_another_destination_beside_it_is_an_error(self, task, sent, other):
        with pytest.raises(RoutingError, match="exclude each other"):
            task.apply_async(node="node2", **other)
        assert sent == []

    def test_an_unknown_node_is_an_error_at_the_caller(self, task, sent):
        with pytest.raises(UnknownNodeError, match="Known nodes: node1, node2, node3"):
            task.apply_async(node="node9")
        assert sent == []

    @pytest.mark.parametrize("node", ["all", "role=web", ["node1", "node2"], 3])
    def test_more_than_one_node_is_an_error_that_names_the_way(self, task, sent, node):
        with pytest.raises(RoutingError, match=r"for node in kit\.nodes\("):
            task.apply_async(node=node)
        assert sent == []

    def test_nodes_on_a_call_is_an_error_that_names_the_way(self, task, sent):
        with pytest.raises(RoutingError, match=r"for node in kit\.nodes\('all'\)"):
            task.apply_async(nodes="all")
        assert sent == []

    def test_the_typed_spelling_is_the_queue(self, app, task, sent):
        task.apply_async(queue=app.nodekit.queue("node2"))
        assert queues(sent) == ["node2"]
        assert app.nodekit.crontab_queue("node2") == "node2-crontab"
        with pytest.raises(UnknownNodeError):
            app.nodekit.queue("node9")


class TestRetries:
    """A retry carries the delivery_info of the message being retried."""

    @pytest.fixture
    def retried(self, task):
        def run(queue, **options):
            task.push_request(
                id="one",
                retries=0,
                is_eager=False,
                called_directly=False,
                args=(),
                kwargs={},
                delivery_info={"exchange": "", "routing_key": queue, "priority": None},
            )
            try:
                task.retry(throw=False, **options)
            finally:
                task.pop_request()

        return run

    @pytest.mark.parametrize("queue", ["node2", "node2-crontab", "default"])
    def test_a_retry_stays_in_its_queue(self, retried, sent, queue):
        retried(queue)
        assert queues(sent) == [queue]

    def test_a_retry_stays_although_a_rule_would_send_it_elsewhere(self, app, retried, sent):
        app.conf.nodekit_routes = {"proj.add": "node3"}
        retried("node2")
        assert queues(sent) == ["node2"]

    def test_a_retry_stays_although_task_routes_would_send_it_elsewhere(self, app, retried, sent):
        app.conf.update(task_routes={"proj.add": {"queue": "slow"}})
        retried("node2")
        assert queues(sent) == ["node2"]

    def test_a_retry_with_a_node_moves(self, retried, sent):
        retried("node2", node="node1")
        retried("default", node="node3")
        assert queues(sent) == ["node1", "node3"]


class TestRules:
    def test_a_task_goes_to_its_node(self, app, task, sent):
        app.conf.nodekit_routes = {"proj.*": "node3"}
        task.delay()
        app.send_task("elsewhere")
        assert queues(sent) == ["node3", "default"]

    def test_an_explicit_destination_comes_first(self, app, task, sent):
        app.conf.nodekit_routes = {"proj.*": "node3"}
        task.apply_async(queue="slow")
        task.apply_async(node="node1")
        task.apply_async(exchange="media", routing_key="x")
        assert queues(sent) == ["slow", "node1", "x"]

    def test_several_nodes_share_the_calls_by_task_id(self, app, task, sent):
        app.conf.nodekit_routes = {"proj.add": ["node1", "node3"]}
        ids = [str(i) for i in range(40)]
        for task_id in ids:
            task.apply_async(task_id=task_id)
        first = queues(sent)
        assert set(first) == {"node1", "node3"}
        for task_id in ids:
            task.apply_async(task_id=task_id)
        assert queues(sent) == first * 2
        assert {message.declared[0].name for message in sent} == {"node1", "node3"}

    def test_the_same_argument_goes_to_the_same_node(self, app, sent):
        @app.task(shared=False, name="proj.user")
        def user(user_id, other=None): ...

        app.conf.nodekit_routes = {"proj.user": {"nodes": "all", "by": "user_id"}}
        for number in range(20):
            user.delay(number)
            user.delay(user_id=number)
            app.send_task("proj.user", kwargs={"user_id": number})
        by_call = queues(sent)
        assert by_call[0::3] == by_call[1::3] == by_call[2::3]
        assert set(by_call) == {"node1", "node2", "node3"}

    @pytest.mark.parametrize("kwargs", [{}, {"other": 1}])
    def test_a_call_without_the_argument_is_an_error(self, app, sent, kwargs):
        app.conf.nodekit_routes = {"proj.user": {"nodes": "all", "by": "user_id"}}
        with pytest.raises(RoutingError, match="'user_id', which this call does not have"):
            app.send_task("proj.user", kwargs=kwargs)
        assert sent == []

    def test_an_argument_without_a_stable_text_is_an_error(self, app, sent):
        app.conf.nodekit_routes = {"proj.user": {"nodes": "all", "by": "user"}}
        with pytest.raises(ConfigurationError, match="must be a string or a number"):
            app.send_task("proj.user", kwargs={"user": {"id": 1}})

    def test_a_call_that_does_not_fit_the_task_is_an_error(self, app, sent):
        @app.task(shared=False, name="proj.user", typing=False)
        def user(user_id): ...

        app.conf.nodekit_routes = {"proj.user": {"nodes": "all", "by": "who"}}
        with pytest.raises(RoutingError, match="cannot read 'who'"):
            user.delay(1, 2, 3)

    def test_a_wrong_rule_is_an_error_at_the_caller(self, app, task, sent):
        app.conf.nodekit_routes = {"proj.add": "node9"}
        with pytest.raises(UnknownNodeError, match=r"nodekit_routes\['proj.add'\]"):
            task.delay()
        assert sent == []

    def test_labels_are_selectors_too(self, make_app, sent):
        app = make_app()
        NodeKit(app, nodes={"a": {"labels": {"role": "web"}}, "b": {"labels": {"role": "db"}}})
        app.conf.nodekit_routes = {re.compile("proj"): "role=db"}
        app.send_task("proj.x")
        assert queues(sent) == ["b"]


class TestTheAppsOwnRouting:
    @pytest.mark.parametrize(
        "routes",
        [
            {"proj.add": {"queue": "own"}},
            ([("proj.*", {"queue": "own"})],),
            [{"elsewhere": "x"}, {"proj.add": "own"}],
            (lambda name, args, kwargs, options, task=None, **kw: {"queue": "own"},),
            lambda name, args, kwargs, options, task=None, **kw: "own",
            f"{__name__}.own_route",
        ],
        ids=["dict", "list of pairs", "list of dicts", "callables", "callable", "string"],
    )
    @pytest.mark.parametrize("late", [False, True])
    def test_every_form_of_task_routes_goes_on_working(self, make_app, sent, routes, late):
        app = make_app()
        if not late:
            app.conf.task_routes = routes
        NodeKit(app, nodes=NODES)
        if late:
            app.conf.task_routes = routes
        app.send_task("proj.add")
        app.send_task("proj.add", node="node2")
        assert queues(sent) == ["own", "node2"]

    def test_task_routes_assigned_after_configuration_do_not_switch_nodes_off(
        self, app, task, sent
    ):
        task.apply_async(node="node1")
        app.conf.update(task_routes={"proj.add": {"queue": "own"}})
        task.apply_async(node="node2")
        task.apply_async()
        assert queues(sent) == ["node1", "node2", "own"]

    def test_a_route_may_still_set_a_priority_for_a_call_to_a_node(self, app, task, sent):
        app.conf.update(
            task_routes={"proj.add": {"queue": "own", "priority": 7, "exchange": "media"}}
        )
        task.apply_async(node="node2")
        task.apply_async(node="node2", priority=1)
        assert [(m.queue, m.exchange, m.properties["priority"]) for m in sent] == [
            ("node2", "", 7),
            ("node2", "", 1),
        ]

    def test_own_queues_stay_and_own_declarations_of_node_queues_win(self, make_app, sent):
        app = make_app()
        app.conf.task_queues = [
            Queue("own"),
            Queue("node2", Exchange("media", type="topic"), routing_key="node2.#"),
        ]
        NodeKit(app, nodes=NODES)
        assert sorted(app.amqp.queues.consume_from) == ["node2", "own"]
        assert app.amqp.queues["node2"].exchange.name == "media"
        assert app.amqp.queues["node1"].name == "node1"

    def test_a_worker_without_a_node_consumes_no_node_queue(self, app):
        assert list(app.amqp.queues.consume_from) == ["default"]

    @pytest.mark.parametrize("setting", ["task_default_queue_type"])
    def test_node_queues_are_quorum_queues_where_the_default_queue_is(self, make_app, setting):
        app = make_app(**{setting: "quorum"})
        NodeKit(app, nodes=NODES)
        for name in ("default", "node1", "node1-crontab"):
            assert app.amqp.queues[name].queue_arguments == {"x-queue-type": "quorum"}

    @pytest.mark.parametrize("nodes", [["default", "b"], {"a": {"crontab_queue": "default"}}])
    def test_a_node_cannot_own_the_default_queue(self, make_app, sent, nodes):
        app = make_app()
        NodeKit(app, nodes=nodes)
        with pytest.raises(ConfigurationError, match="is the default queue too"):
            app.send_task("t")
        assert sent == []

    def test_node_queues_exist_where_missing_queues_are_not_created(self, make_app, sent):
        app = make_app(task_create_missing_queues=False)
        NodeKit(app, nodes=NODES)
        app.send_task("t", node="node2")
        assert queues(sent) == ["node2"]

    def test_every_queue_is_declared_durable_by_the_producer(self, task, sent):
        task.apply_async(node="node2")
        (declared,) = sent[0].declared
        assert (declared.name, declared.durable) == ("node2", True)
        assert declared.exchange.durable

    def test_a_node_added_later_has_its_queue(self, app, task, sent):
        task.apply_async(node="node1")
        app.conf.nodekit_nodes = [*NODES, "node4"]
        task.apply_async(node="node4")
        assert queues(sent) == ["node1", "node4"]

    def test_protocol_1_messages_are_chosen_by_id_too(self, make_app, sent):
        app = make_app(task_protocol=1)
        NodeKit(app, nodes=NODES, routes={"t": ["node1", "node2"]})
        for i in range(20):
            app.send_task("t", task_id=str(i))
        assert set(queues(sent)) == {"node1", "node2"}


def own_route(name, args, kwargs, options, task=None, **kw):
    return {"queue": "own"}


def test_the_first_route_of_a_producer_leaves_other_calls_alone(app):
    options = {"queue": SimpleNamespace(name="slow")}
    assert app.amqp.first_route(options, "t", (), {}, None) is None
    assert options
