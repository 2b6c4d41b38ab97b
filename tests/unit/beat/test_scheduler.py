"""The scheduler on a broker in memory, with Celery's own scheduler underneath."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import celery
import pytest
from celery.beat import Service
from celery.signals import after_task_publish
from kombu.exceptions import OperationalError

from celery_nodekit import NodeKit, Scheduler, cron
from celery_nodekit.beat import fanout as fanout_module
from celery_nodekit.beat import scheduler as module
from celery_nodekit.exceptions import ConfigurationError, StateFileError
from celery_nodekit.signals import occurrence_published

NODES = ["node1", "node2", "node3"]
UTC = timezone.utc


@pytest.fixture
def app(make_app):
    app = make_app("proj")
    kit = NodeKit(app, nodes=NODES, queue_check_interval=0)

    @kit.cron("* * * * *", nodes=["node1", "node3"], kwargs={"x": 1})
    @app.task(shared=False, name="proj.decorated")
    def decorated(x): ...

    @app.task(shared=False, name="proj.configured")
    def configured(x=0): ...

    return app


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)

    monkeypatch.setattr(module.Fanout.__init__, "__kwdefaults__", {"clock": lambda: Clock.now})
    return Clock


@pytest.fixture
def start(app, tmp_path):
    schedulers = []

    def make(**options):
        try:
            scheduler = Scheduler(app, schedule_filename=str(tmp_path / "schedule"), **options)
        except SystemExit as end:
            raise (end.__cause__ if end.code == 2 else end) from None
        schedulers.append(scheduler)
        return scheduler

    yield make
    for scheduler in schedulers:
        scheduler.close()


def test_each_selected_node_gets_a_message_with_its_own_id_and_headers(start, clock, sent):
    scheduler = start()
    clock.now += timedelta(seconds=30)
    scheduler.tick()
    assert [(m.task, m.queue) for m in sent] == [
        ("proj.decorated", "node1-crontab"),
        ("proj.decorated", "node3-crontab"),
    ]
    assert len({m.headers["id"] for m in sent}) == 2
    assert sent[0].headers["nodekit"] == {
        "namespace": "proj",
        "entry": "proj.decorated",
        "fire": "2026-11-23T12:01:00+00:00",
        "node": "node1",
    }
    assert ("celery_beat_task" in sent[0].headers) == (celery.VERSION >= (5, 7))
    assert sent[0].headers["expires"] is None


def test_entries_without_nodes_are_celerys(app, start, clock, sent):
    app.conf.beat_schedule = {
        "plain": {"task": "proj.configured", "schedule": 60, "options": {"queue": "slow"}}
    }
    scheduler = start()
    assert list(scheduler.schedule) == ["plain", "celery.backend_cleanup"]
    scheduler.schedule["plain"].last_run_at -= timedelta(minutes=2)
    scheduler.tick()
    assert [(m.task, m.queue) for m in sent] == [("proj.configured", "slow")]
    assert "nodekit" not in sent[0].headers


def test_a_decorated_entry_without_nodes_is_celerys_too(app, start, clock):
    app.nodekit.cron("@daily", name="daily")(app.tasks["proj.configured"])
    assert list(start().schedule) == ["daily", "celery.backend_cleanup"]


def test_an_entry_of_the_configuration_may_have_nodes(app, start, clock, sent):
    app.conf.beat_schedule = {
        "five": {
            "task": "proj.configured",
            "schedule": timedelta(seconds=5),
            "args": (7,),
            "options": {"nodes": "node2", "priority": 4, "headers": {"x": 1}},
        }
    }
    scheduler = start()
    clock.now += timedelta(seconds=5)
    scheduler.tick()
    (message,) = sent
    assert message.queue == "node2-crontab"
    assert message.properties["priority"] == 4
    assert message.headers["x"] == 1
    assert message.headers["argsrepr"] == "[7]"
    assert app.conf.beat_schedule["five"]["options"] == {
        "nodes": "node2",
        "priority": 4,
        "headers": {"x": 1},
    }


def test_task_routes_cannot_take_an_occurrence_elsewhere(app, start, clock, sent):
    app.conf.update(
        task_routes={"proj.*": {"queue": "own", "exchange": "media", "routing_key": "x"}}
    )
    scheduler = start()
    clock.now += timedelta(seconds=30)
    scheduler.tick()
    assert [(m.queue, m.exchange) for m in sent] == [("node1-crontab", ""), ("node3-crontab", "")]


def test_a_signal_says_what_was_published(start, clock):
    seen = []

    def listen(sender, occurrence, **kw):
        seen.append((sender, occurrence.node))

    occurrence_published.connect(listen)
    scheduler = start()
    clock.now += timedelta(seconds=30)
    scheduler.tick()
    occurrence_published.disconnect(listen)
    assert seen == [("proj.decorated", "node1"), ("proj.decorated", "node3")]


@pytest.mark.parametrize(
    "error",
    [OperationalError("gone"), ConnectionRefusedError("gone"), OSError("gone"), TimeoutError()],
)
def test_a_broker_that_is_away_is_not_asked_for_each_node(
    app, start, clock, sent, monkeypatch, caplog, error
):
    scheduler = start()
    clock.now += timedelta(seconds=30)
    monkeypatch.setattr(app, "send_task", raising(error))
    assert scheduler.tick() > 0
    assert sent == []
    assert [r.action for r in caplog.records if hasattr(r, "action")].count("occurrences_wait") == 1
    monkeypatch.undo()


def test_an_error_of_one_queue_is_that_nodes_alone(app, start, clock, sent, monkeypatch, caplog):
    scheduler = start()
    clock.now += timedelta(seconds=30)
    send, refused = app.send_task, []

    def refuse_first(*args, **kwargs):
        if kwargs["queue"] == "node1-crontab" and not refused:
            refused.append(kwargs)
            raise ValueError("refused")
        return send(*args, **kwargs)

    monkeypatch.setattr(app, "send_task", refuse_first)
    scheduler.tick()
    assert [m.queue for m in sent] == ["node3-crontab"]
    scheduler._fanout._clock = lambda: clock.now + timedelta(seconds=fanout_module.RETRY_FIRST)
    scheduler.tick()
    assert [m.queue for m in sent] == ["node3-crontab", "node1-crontab"]
    assert sent[1].headers["nodekit"]["fire"] == sent[0].headers["nodekit"]["fire"]


class TestSignalInTheMiddleOfAPublish:
    """Beat's handler calls ``close()`` and raises ``SystemExit``; then ``close()`` comes again."""

    @pytest.fixture
    def interrupted(self, app, start, clock, monkeypatch):
        scheduler = start()
        scheduler.tick()
        connection = scheduler.connection
        clock.now += timedelta(seconds=30)

        def send_task(*args, **kwargs):
            scheduler.close()
            assert connection.connected
            raise SystemExit

        monkeypatch.setattr(app, "send_task", send_task)
        with pytest.raises(SystemExit):
            scheduler.tick()
        monkeypatch.undo()
        return scheduler, connection

    def test_the_connection_is_left_alone_and_dropped_afterwards(self, interrupted):
        scheduler, connection = interrupted
        assert not connection.connected
        scheduler.close()

    def test_the_state_stays_locked_until_the_end(self, interrupted, start):
        scheduler, _connection = interrupted
        with pytest.raises(StateFileError):
            start()
        scheduler.close()
        start()


class TestStart:
    def test_two_beats_on_one_file_are_refused(self, start):
        start()
        with pytest.raises(StateFileError, match="Another beat"):
            start()

    def test_mistakes_are_errors_that_name_the_entry(self, app, start):
        app.conf.beat_schedule = {
            "typo": {"task": "proj.nope", "schedule": 5, "options": {"nodes": "all"}}
        }
        with pytest.raises(ConfigurationError, match="cron entry 'typo': there is no task"):
            start()

    def test_wrong_routes_are_errors_at_start_too(self, app, start):
        app.conf.nodekit_routes = {"proj.render": "node9"}
        with pytest.raises(ConfigurationError, match=r"nodekit_routes\['proj.render'\]"):
            start()

    def test_an_entry_in_both_places_is_an_error(self, app, start):
        app.conf.beat_schedule = {"proj.decorated": {"task": "proj.configured", "schedule": 5}}
        with pytest.raises(ConfigurationError, match=r"both have an entry called proj\.decorated"):
            start()

    @pytest.mark.parametrize("main", [None, "__main__"])
    def test_an_app_without_a_name_needs_a_namespace(self, make_app, tmp_path, main, caplog):
        app = make_app(main)
        kit = NodeKit(app, nodes=NODES)
        kit.cron("@daily", nodes="all")(app.task(shared=False, name="t")(nothing))
        with pytest.raises(SystemExit):
            Scheduler(app, schedule_filename=str(tmp_path / "schedule"))
        assert "nodekit_namespace" in caplog.text

    def test_every_mistake_is_a_line_of_the_log(self, app, start, caplog):
        wrong = {"task": "proj.nope", "schedule": 5, "options": {"nodes": "all"}}
        app.conf.beat_schedule = {"one": wrong, "two": wrong}
        with pytest.raises(ConfigurationError):
            start()
        lines = [r.message for r in caplog.records if r.action == "beat_not_started"]
        assert [line.split(":")[1] for line in lines] == [" cron entry 'one'", " cron entry 'two'"]

    def test_a_damaged_file_of_celerys_scheduler_stops_no_node(self, start, tmp_path, clock, sent):
        start().close()
        for path in tmp_path.glob("schedule*"):
            if "nodekit" not in path.name:
                path.write_bytes(b"")
        scheduler = start()
        clock.now += timedelta(seconds=30)
        scheduler.tick()
        assert len(sent) == 2

    def test_eager_tasks_are_refused(self, app, start):
        app.conf.task_always_eager = True
        with pytest.raises(ConfigurationError, match="task_always_eager"):
            start()

    def test_a_lazy_scheduler_touches_nothing(self, start, tmp_path):
        scheduler = start(lazy=True)
        assert list(tmp_path.iterdir()) == []
        assert "nodekit.json" in scheduler.info

    def test_an_app_without_a_kit_may_have_entries_with_nodes(
        self, make_app, tmp_path, clock, sent
    ):
        app = make_app(nodekit_nodes=NODES)
        app.task(shared=False, name="t")(nothing)
        app.conf.beat_schedule = {"e": {"task": "t", "schedule": 5, "options": {"nodes": "all"}}}
        scheduler = Scheduler(app, schedule_filename=str(tmp_path / "schedule"))
        clock.now += timedelta(seconds=5)
        scheduler.tick()
        scheduler.close()
        assert [m.queue for m in sent] == [f"{node}-crontab" for node in NODES]

    def test_without_entries_for_nodes_there_is_no_state_file(self, make_app, tmp_path):
        app = make_app()
        NodeKit(app, nodes=NODES)
        scheduler = Scheduler(app, schedule_filename=str(tmp_path / "schedule"))
        scheduler.tick()
        scheduler.close()
        assert list(tmp_path.glob("*nodekit*")) == []

    def test_closing_twice_is_what_beat_does_on_sigterm(self, start):
        scheduler = start()
        scheduler.close()
        scheduler.close()


class TestWhoIsTheScheduler:
    @pytest.mark.parametrize("name", ["nodekit", "celery_nodekit.Scheduler", None])
    def test_it_is_found_by_every_name(self, app, name):
        service = Service(app, scheduler_cls=name or app.conf.beat_scheduler)
        assert isinstance(service.get_scheduler(lazy=True), Scheduler)

    def test_another_scheduler_with_decorated_entries_is_an_error_in_the_log(
        self, app, tmp_path, caplog
    ):
        from celery.signals import beat_init

        service = Service(
            app,
            scheduler_cls="celery.beat:PersistentScheduler",
            schedule_filename=str(tmp_path / "schedule"),
        )
        beat_init.send(sender=service)
        service.scheduler.close()
        assert "1 entries made with @kit.cron; they will not run" in caplog.text

    def test_celerys_scheduler_cannot_publish_nodes_to_one_queue_unnoticed(
        self, app, tmp_path, caplog, sent
    ):
        from celery.beat import PersistentScheduler

        app.conf.beat_schedule = {
            "e": {"task": "proj.configured", "schedule": 5, "options": {"nodes": "all"}}
        }
        stock = PersistentScheduler(app, schedule_filename=str(tmp_path / "schedule"))
        stock.schedule["e"].last_run_at -= timedelta(minutes=2)
        stock.tick()
        stock.close()
        assert sent == []
        assert "nodes= is for cron entries" in caplog.text


def test_the_schedule_pickles_into_celerys_own_file(app, start, tmp_path):
    app.conf.beat_schedule = {"plain": {"task": "proj.configured", "schedule": cron("@daily")}}
    start().close()
    assert start().schedule["plain"].schedule == cron("@daily")


def test_publishing_sends_celerys_own_signals(start, clock):
    published = []

    def listen(sender, routing_key, **kw):
        published.append((sender, routing_key))

    after_task_publish.connect(listen)
    scheduler = start()
    clock.now += timedelta(seconds=30)
    scheduler.tick()
    after_task_publish.disconnect(listen)
    assert published == [("proj.decorated", "node1-crontab"), ("proj.decorated", "node3-crontab")]


def nothing(): ...


def raising(error):
    def send_task(*args, **kwargs):
        raise error

    return send_task
