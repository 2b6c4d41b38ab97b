from __future__ import annotations

import pytest
from celery import Celery
from flask import Flask
from flask.testing import FlaskClient
from kombu.exceptions import OperationalError

from task_app import tasks


def ids_in(celery_app: Celery, queue: str) -> list[str]:
    """Return the ids of the tasks that wait in a queue, in order."""
    ids = []
    with celery_app.connection_for_read() as connection, connection.channel() as channel:
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            ids.append(message.headers["id"])
    return ids


def test_a_task_is_accepted_and_waits_in_the_default_queue(
    client: FlaskClient, celery_app: Celery
) -> None:
    answer = client.post("/tasks", json={"task": "add", "args": [1, 2]})

    assert answer.status_code == 202
    assert answer.json["url"] == f"/result/{answer.json['id']}"
    assert ids_in(celery_app, "default") == [answer.json["id"]]


def test_a_task_for_a_node_waits_in_the_queue_of_that_node(
    client: FlaskClient, celery_app: Celery
) -> None:
    answer = client.post("/tasks", json={"task": "where", "node": "node2"})

    assert answer.status_code == 202
    assert ids_in(celery_app, "node2") == [answer.json["id"]]


def test_a_task_with_a_route_goes_to_the_node_of_the_route(
    client: FlaskClient, celery_app: Celery
) -> None:
    answer = client.post("/tasks", json={"task": "render", "args": [0.1]})

    assert ids_in(celery_app, "node3") == [answer.json["id"]]


def test_an_unknown_node_is_refused_with_the_known_ones(client: FlaskClient) -> None:
    answer = client.post("/tasks", json={"task": "where", "node": "node9"})

    assert answer.status_code == 400
    assert "Unknown node 'node9'" in answer.json["error"]
    assert "node1, node2, node3" in answer.json["error"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"task": "rm"},
        {"task": ["add"]},
        {"task": "add", "args": 1},
        {"task": "add", "args": [1]},
        {"task": "where", "node": "all"},
        {"task": "where", "node": 2},
    ],
)
def test_a_wrong_request_is_answered_with_400(client: FlaskClient, body: object) -> None:
    answer = client.post("/tasks", json=body)

    assert answer.status_code == 400
    assert answer.json["error"]


def test_a_broker_that_is_away_is_answered_with_503(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(tasks.add, "apply_async", refuse)

    assert client.post("/tasks", json={"task": "add", "args": [1, 2]}).status_code == 503


def test_the_state_and_value_of_a_task_can_be_read(client: FlaskClient, celery_app: Celery) -> None:
    assert client.get("/result/never-sent").json["state"] == "PENDING"

    celery_app.backend.store_result("ok", 3, "SUCCESS")
    assert client.get("/result/ok").json == {"id": "ok", "state": "SUCCESS", "value": 3}

    celery_app.backend.store_result("bad", ValueError("no"), "FAILURE")
    assert client.get("/result/bad").json == {"id": "bad", "state": "FAILURE", "error": "no"}


def test_the_nodes_can_be_listed(client: FlaskClient) -> None:
    answer = client.get("/nodes").json

    assert answer["default_queue"] == "default"
    assert [node["name"] for node in answer["nodes"]] == ["node1", "node2", "node3"]
    assert answer["nodes"][2] == {
        "name": "node3",
        "labels": {"role": "batch"},
        "queue": "node3",
        "crontab_queue": "node3-crontab",
    }


def test_health_does_not_ask_the_broker(app: Flask) -> None:
    app.extensions["celery"].conf.broker_url = "redis://127.0.0.1:1"

    assert app.test_client().get("/healthz").json == {"status": "ok"}
