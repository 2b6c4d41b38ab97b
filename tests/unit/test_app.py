"""How an app gets its kit: every way of configuring, in every order."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import textwrap
import weakref

import flask
import pytest
from celery import Celery, shared_task

from celery_nodekit import NodeKit
from celery_nodekit.app import NodeKit as HomeOfNodeKit
from celery_nodekit.exceptions import AlreadyInstalledError, ConfigurationError, UnknownNodeError

NODES = ["node1", "node2", "node3"]


def node_queues(app):
    return sorted(name for name in app.amqp.queues if name.startswith("node"))


def run_python(source, cwd, **env):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={"PYTHONPATH": str(cwd), "PATH": "", **env},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_name_is_the_class():
    assert NodeKit is HomeOfNodeKit


class TestWaysOfConfiguring:
    def test_keyword_arguments(self, make_app):
        app = make_app()
        NodeKit(app, nodes=NODES)
        assert app.conf.nodekit_nodes == NODES

    def test_init_app(self, make_app):
        app, kit = make_app(), NodeKit(nodes=NODES)
        kit.init_app(app)
        assert app.nodekit is kit
        assert app.conf.nodekit_nodes == NODES

    def test_arguments_of_the_app(self, make_app):
        app = make_app(nodekit_nodes=NODES)
        NodeKit(app)
        assert node_queues(app)[0] == "node1"

    def test_app_conf(self, make_app):
        app = make_app()
        NodeKit(app)
        app.conf.nodekit_nodes = NODES
        assert app.nodekit.nodes() == NODES

    def test_config_from_object_without_namespace(self, make_app):
        app = make_app()
        NodeKit(app)
        app.config_from_object({"nodekit_nodes": NODES})
        assert app.nodekit.nodes() == NODES

    def test_config_from_object_with_namespace(self, make_app):
        class Settings:
            CELERY_NODEKIT_NODES = NODES
            CELERY_NODEKIT_NODE_QUEUE = "q.{node}"
            CELERY_TASK_ACKS_LATE = False

        app = make_app()
        app.config_from_object(Settings, namespace="CELERY")
        NodeKit(app)
        assert app.nodekit.nodes() == NODES
        assert app.nodekit.queue("node1") == "q.node1"
        assert app.conf.task_acks_late is False
        assert app.conf.worker_prefetch_multiplier == 1

    def test_flask_configuration_from_the_environment(self, make_app, monkeypatch):
        monkeypatch.setenv("FLASK_CELERY__nodekit_nodes", '["node1", "node2"]')
        web = flask.Flask("web")
        web.config.from_mapping(CELERY={"task_ignore_result": True})
        web.config.from_prefixed_env()
        app = make_app()
        app.config_from_object(web.config["CELERY"])
        NodeKit(app, nodes=["elsewhere"])
        assert app.nodekit.nodes() == ["node1", "node2"]

    def test_django_settings_and_autodiscovery(self, tmp_path):
        package = tmp_path / "shop"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "tasks.py").write_text(
            "from celery import shared_task\n"
            "from site_celery import kit\n"
            "@kit.cron('*/5 * * * *', nodes='all')\n"
            "@shared_task\n"
            "def cleanup(): ...\n"
        )
        (tmp_path / "site_settings.py").write_text(
            "SECRET_KEY = 'x'\nINSTALLED_APPS = ['shop']\nUSE_TZ = True\n"
            "CELERY_BROKER_URL = 'memory://'\nCELERY_NODEKIT_NODES = ['node1', 'node2']\n"
        )
        (tmp_path / "site_celery.py").write_text(
            "from celery import Celery\nfrom celery_nodekit import NodeKit\n"
            "app = Celery('site')\nkit = NodeKit(app)\n"
            "app.config_from_object('django.conf:settings', namespace='CELERY')\n"
            "app.autodiscover_tasks()\n"
        )
        printed = run_python(
            """
            import django
            django.setup()
            from site_celery import app, kit
            app.loader.import_default_modules()
            app.finalize()
            print(kit.nodes(), list(kit.registry.beat_schedule()), app.conf.task_acks_late)
            """,
            tmp_path,
            DJANGO_SETTINGS_MODULE="site_settings",
        )
        assert printed == "['node1', 'node2'] ['shop.tasks.cleanup'] True\n"

    def test_configuration_alone(self, tmp_path):
        (tmp_path / "settings.py").write_text(
            "broker_url = 'memory://'\nimports = ['celery_nodekit.auto']\n"
            "nodekit_nodes = ['node1', 'node2']\n"
        )
        printed = run_python(
            """
            from celery import Celery
            app = Celery("proj")
            app.config_from_object("settings")
            app.loader.init_worker()
            print(app.nodekit.nodes(), app.conf.task_default_queue)
            """,
            tmp_path,
        )
        assert printed == "['node1', 'node2'] default\n"

    def test_configuration_alone_routes_from_the_first_call_of_a_producer(self, tmp_path):
        (tmp_path / "settings.py").write_text(
            "broker_url = 'memory://'\ntask_routes = ['celery_nodekit.auto.route']\n"
            "nodekit_nodes = ['node1', 'node2']\nnodekit_routes = {'proj.routed': 'node1'}\n"
        )
        printed = run_python(
            """
            import sys
            from celery import Celery
            from celery.signals import before_task_publish
            app = Celery("proj")
            app.config_from_object("settings")
            @before_task_publish.connect
            def show(sender, routing_key, **kw):
                print(sender, routing_key)
            name = sys.argv[1] if len(sys.argv) > 1 else "proj.routed"
            app.send_task("proj.routed")
            app.send_task("proj.named", node="node2")
            app.send_task("proj.other")
            try:
                app.send_task("proj.other", node="node7")
            except Exception as exc:
                print(type(exc).__name__)
            """,
            tmp_path,
        )
        assert printed.splitlines() == [
            "proj.routed node1",
            "proj.named node2",
            "proj.other default",
            "UnknownNodeError",
        ]


class TestTheUsersSettingsWin:
    def test_over_keyword_arguments_when_given_before(self, make_app):
        app = make_app()
        app.conf.nodekit_nodes = ["mine"]
        NodeKit(app, nodes=NODES)
        assert app.nodekit.nodes() == ["mine"]

    def test_over_keyword_arguments_when_given_after(self, make_app):
        app = make_app()
        NodeKit(app, nodes=NODES)
        app.config_from_object({"nodekit_nodes": ["mine"]})
        assert app.nodekit.nodes() == ["mine"]

    def test_when_assigned_after_the_app_was_configured(self, make_app):
        app = make_app()
        NodeKit(app, nodes=NODES)
        assert app.conf.task_acks_late is True
        app.conf.nodekit_nodes = ["mine"]
        app.conf.task_acks_late = False
        assert app.nodekit.nodes() == ["mine"]
        assert app.conf.task_acks_late is False

    def test_when_the_app_is_configured_a_second_time(self, make_app):
        app = make_app()
        NodeKit(app, nodes=NODES)
        assert app.nodekit.nodes() == NODES
        app.config_from_object({"nodekit_nodes": ["mine"], "worker_prefetch_multiplier": 3})
        assert app.nodekit.nodes() == ["mine"]
        assert app.conf.worker_prefetch_multiplier == 3
        assert app.conf.task_acks_late is True

    def test_when_a_kit_comes_after_configuration(self, make_app):
        app = make_app()
        app.config_from_object({"task_acks_late": False}, force=True)
        assert app.configured
        NodeKit(app, nodes=NODES)
        assert app.conf.task_acks_late is False
        assert app.conf.task_reject_on_worker_lost is True

    def test_the_old_spelling_of_a_setting_counts(self, make_app):
        app = make_app()
        app.config_from_object({"CELERY_ACKS_LATE": False, "CELERYD_PREFETCH_MULTIPLIER": 8})
        NodeKit(app, nodes=NODES)
        assert app.conf.task_acks_late is False
        assert app.conf.worker_prefetch_multiplier == 8

    @pytest.mark.parametrize("queue", ["celery", "mine"])
    def test_over_the_default_queue(self, make_app, queue):
        app = make_app(task_default_queue=queue)
        NodeKit(app, nodes=NODES)
        assert app.conf.task_default_queue == queue

    def test_over_the_scheduler(self, make_app):
        app = make_app(beat_scheduler="celery.beat:PersistentScheduler")
        NodeKit(app, nodes=NODES)
        assert app.conf.beat_scheduler == "celery.beat:PersistentScheduler"

    def test_the_scheduler_is_ours_otherwise(self, make_app):
        app = make_app()
        NodeKit(app, nodes=NODES)
        assert app.conf.beat_scheduler == "celery_nodekit.beat.scheduler:NodeFanoutScheduler"

    def test_single_transport_options_win(self, make_app):
        app = make_app(broker_transport_options={"socket_timeout": 7, "visibility_timeout": 9})
        app.conf.broker_url = "redis://nowhere"
        NodeKit(app, nodes=NODES)
        options = app.conf.broker_transport_options
        assert options["socket_timeout"] == 7
        assert options["visibility_timeout"] == 9
        assert options["socket_keepalive"] is True

    def test_the_preset_can_be_switched_off(self, make_app):
        app = make_app()
        NodeKit(app, nodes=NODES, reliability="off")
        assert app.conf.task_acks_late is False
        assert app.conf.worker_prefetch_multiplier == 4
        assert app.conf.task_default_queue == "default"


class TestLifeOfAKit:
    def test_installing_does_not_configure_the_app(self, make_app):
        app = make_app()
        NodeKit(app, nodes=NODES)
        assert not app.configured

    def test_a_kit_that_nobody_keeps_goes_on_working(self, make_app):
        app = make_app()
        NodeKit(app, nodes=NODES)
        gc.collect()
        assert app.conf.nodekit_nodes == NODES
        assert "node1" in app.amqp.queues

    def test_an_app_that_nobody_keeps_is_forgotten_with_its_kit(self):
        app = Celery("proj", broker="memory://", set_as_current=False)
        NodeKit(app, nodes=NODES)
        assert app.conf.nodekit_nodes == NODES
        app.close()
        gone = weakref.ref(app)
        del app
        gc.collect()
        assert gone() is None

    def test_a_second_kit_on_one_app_is_refused_with_the_fix(self, make_app):
        app = make_app()
        NodeKit(app, nodes=NODES)
        with pytest.raises(AlreadyInstalledError, match=r"already has a NodeKit, at app\.nodekit"):
            NodeKit(app, nodes=NODES)

    def test_one_kit_serves_several_apps(self, make_app):
        kit = NodeKit(nodes=NODES)
        first, second = make_app("first"), make_app("second")
        kit.init_app(first)
        kit.init_app(second)
        assert first.nodekit is second.nodekit is kit

    def test_several_apps_in_one_process_keep_to_themselves(self, make_app, sent):
        first, second, stock = make_app("first"), make_app("second"), make_app("stock")
        NodeKit(first, nodes=["a"])
        NodeKit(second, nodes=["b"], node_queue="second.{node}")
        first.send_task("t", node="a")
        second.send_task("t", node="b")
        stock.send_task("t")
        with pytest.raises(UnknownNodeError):
            second.send_task("t", node="a")
        assert [message.queue for message in sent] == ["a", "second.b", "celery"]
        assert stock.conf.task_acks_late is False

    def test_a_kit_without_app_says_what_is_missing(self):
        with pytest.raises(ConfigurationError, match="init_app"):
            NodeKit(nodes=NODES).nodes("all")

    def test_a_wrong_argument_is_an_error_at_once(self):
        with pytest.raises(ConfigurationError, match=r"nodekit_nods\. Did you mean 'nodes'"):
            NodeKit(nods=NODES)

    def test_a_wrong_setting_is_an_error_at_once_on_a_configured_app(self, make_app):
        app = make_app(nodekit_nodess=NODES)
        app.conf.finalize()
        with pytest.raises(ConfigurationError, match="nodekit_nodess"):
            NodeKit(app)

    def test_a_wrong_setting_is_an_error_at_the_first_call_otherwise(self, make_app):
        app = make_app()
        NodeKit(app)
        app.config_from_object({"nodekit_drain_timeout": "soon", "nodekit_nodes": NODES})
        with pytest.raises(ConfigurationError, match="nodekit_drain_timeout"):
            app.send_task("t", node="node1")

    def test_an_unpickled_app_routes_as_before(self, make_app, sent):
        app = make_app()
        NodeKit(app, nodes=NODES, routes={"proj.render": "node3"})
        assert app.conf.nodekit_nodes == NODES
        copy = pickle.loads(pickle.dumps(app))
        copy.send_task("t", node="node2")
        copy.send_task("proj.render")
        assert [message.queue for message in sent] == ["node2", "node3"]
        assert copy.conf.task_acks_late is True

    def test_a_forked_process_routes_as_before(self, tmp_path):
        printed = run_python(
            """
            import os, sys
            from celery import Celery
            from celery.signals import before_task_publish
            from celery_nodekit import NodeKit
            app = Celery("proj", broker="memory://")
            NodeKit(app, nodes=["node1", "node2"])
            app.send_task("t", node="node1")
            @before_task_publish.connect
            def show(routing_key, **kw):
                print(routing_key, flush=True)
            pid = os.fork()
            if not pid:
                app.send_task("t", node="node2")
                os._exit(0)
            sys.exit(os.waitpid(pid, 0)[1])
            """,
            tmp_path,
        )
        assert printed == "node2\n"

    def test_an_app_that_brings_its_own_amqp_class_keeps_it(self, make_app, sent):
        from celery.app.amqp import AMQP

        class OwnAMQP(AMQP):
            own = True

        app = make_app(amqp=OwnAMQP)
        NodeKit(app, nodes=NODES)
        app.send_task("t", node="node2")
        assert app.amqp.own
        assert sent[0].queue == "node2"

    def test_an_app_that_has_sent_before_is_routed_from_then_on(self, make_app, sent):
        app = make_app()
        app.send_task("t")
        NodeKit(app, nodes=NODES)
        app.send_task("t", node="node2")
        assert [message.queue for message in sent] == ["celery", "node2"]

    def test_eager_calls_ignore_the_node(self, make_app):
        app = make_app(task_always_eager=True)
        NodeKit(app, nodes=NODES)

        @app.task(shared=False)
        def add(x, y):
            return x + y

        assert add.apply_async((1, 2), node="node2").get() == 3

    def test_it_says_which_node_this_is(self, make_app, monkeypatch):
        app = make_app()
        kit = NodeKit(app, nodes=NODES)
        assert kit.node is None
        monkeypatch.setenv("NODEKIT_NODE", "node2")
        assert kit.node == "node2"

    def test_importing_the_package_loads_nothing_of_celery(self, tmp_path):
        printed = run_python(
            """
            import sys
            import celery_nodekit, celery_nodekit.cli
            print("celery" in sys.modules, "croniter" in sys.modules)
            """,
            tmp_path,
        )
        assert printed == "False False\n"

    def test_an_unknown_public_name_is_an_attribute_error(self):
        import celery_nodekit

        assert "NodeKit" in dir(celery_nodekit)
        with pytest.raises(AttributeError, match="Nodekit"):
            _ = celery_nodekit.Nodekit


class TestCronDecorator:
    def test_it_returns_the_task_unchanged(self, make_app):
        app = make_app()
        kit = NodeKit(app, nodes=NODES)

        @app.task(shared=False)
        def cleanup():
            return "done"

        decorated = kit.cron("*/5 * * * *", nodes="all")(cleanup)
        assert decorated is cleanup
        assert decorated() == "done"

    def test_over_a_shared_task_before_any_app_exists(self):
        kit = NodeKit(nodes=NODES)

        @kit.cron("0 2 * * *", nodes=["node2"], tz="Asia/Shanghai", args=(1,), priority=3)
        @shared_task(name="proj.shared_cleanup")
        def cleanup(n): ...

        app = Celery("proj", broker="memory://", set_as_current=False)
        kit.init_app(app)
        with app:
            app.finalize()
            app.set_current()
            entries = kit.registry.beat_schedule()
        assert list(entries) == ["proj.shared_cleanup"]
        entry = entries["proj.shared_cleanup"]
        assert entry["task"] == "proj.shared_cleanup"
        assert entry["args"] == (1,)
        assert entry["options"] == {"priority": 3, "nodes": ["node2"]}

    def test_two_entries_of_one_task_need_a_name(self, make_app):
        app = make_app()
        kit = NodeKit(app, nodes=NODES)

        @kit.cron("0 2 * * *")
        @kit.cron("0 3 * * *")
        @app.task(shared=False)
        def cleanup(): ...

        with pytest.raises(ConfigurationError, match=r"give one of them name="):
            kit.registry.beat_schedule()

    def test_named_entries_of_one_task_are_two(self, make_app):
        app = make_app()
        kit = NodeKit(app, nodes=NODES)

        @kit.cron("0 2 * * *", name="early")
        @kit.cron("0 3 * * *", name="late")
        @app.task(shared=False)
        def cleanup(): ...

        assert sorted(kit.registry.beat_schedule()) == ["early", "late"]

    def test_a_bad_expression_is_an_error_at_the_decorator(self, make_app):
        kit = NodeKit(make_app(), nodes=NODES)
        with pytest.raises(ConfigurationError, match="61"):
            kit.cron("61 * * * *")

    @pytest.mark.parametrize("what", ["proj.cleanup", None, lambda: None])
    def test_it_refuses_what_is_no_task_and_names_the_order(self, make_app, what):
        kit = NodeKit(make_app(), nodes=NODES)
        with pytest.raises(ConfigurationError, match=r"put it above @app\.task"):
            kit.cron("* * * * *")(what)

    def test_it_does_not_evaluate_a_lazy_task(self, make_app):
        app = make_app()
        kit = NodeKit(app, nodes=NODES)
        lazy = kit.cron("* * * * *")(app.task(shared=False, name="lazy")(lambda: None))
        assert not app.finalized
        assert not lazy.__evaluated__()
