from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import datetime, timezone

from celery_nodekit.beat.occurrence import Occurrence

ONE = Occurrence(
    namespace="proj",
    entry="cleanup",
    fire=datetime(2026, 11, 23, 2, tzinfo=timezone.utc),
    node="node1",
)


def test_its_id_is_a_uuid_of_version_5():
    assert uuid.UUID(ONE.task_id).version == 5


def test_its_id_never_changes():
    # A beat of another release must give an occurrence the same id.
    assert ONE.task_id == "2594b14f-e8df-51cd-bf4b-689c0209569f"


def test_every_field_makes_another_id():
    others = [
        replace(ONE, namespace="other"),
        replace(ONE, entry="cleanup2"),
        replace(ONE, fire=ONE.fire.replace(microsecond=1)),
        replace(ONE, node="node2"),
        replace(ONE, entry="cleanup\0x", node="node1"),
    ]
    assert len({ONE.task_id, *(other.task_id for other in others)}) == 6


def test_its_header_is_json():
    assert json.loads(json.dumps(ONE.header())) == {
        "namespace": "proj",
        "entry": "cleanup",
        "fire": "2026-11-23T02:00:00+00:00",
        "node": "node1",
    }
