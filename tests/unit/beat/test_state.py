from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone

import pytest

from celery_nodekit.beat.state import Position, Saved, StateFile
from celery_nodekit.exceptions import StateFileError

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=timezone.utc)


@pytest.fixture
def state(tmp_path):
    file = StateFile(tmp_path / "schedule.json")
    file.acquire()
    yield file
    file.release()


def test_there_are_no_positions_without_a_file(state):
    assert state.load() == Saved({})


def test_positions_come_back_as_they_were(state):
    positions = {
        "a": Position("f", {"node1": NOON, "node2": NOON - timedelta(minutes=1)}),
        "b": Position("g", {}),
    }
    positions["a"].gaps.append((NOON - timedelta(hours=1), NOON))
    state.save(Saved(positions, NOON))
    loaded, owed_until = state.load()
    assert owed_until == NOON
    assert {n: (p.fingerprint, p.last, p.gaps) for n, p in loaded.items()} == {
        n: (p.fingerprint, p.last, p.gaps) for n, p in positions.items()
    }


def test_a_second_user_is_refused_with_the_first_ones_pid(state):
    with pytest.raises(StateFileError, match=rf"Another beat \(pid {os.getpid()}\).*--schedule"):
        StateFile(state.path).acquire()


def test_the_file_is_free_after_release(state):
    state.release()
    state.release()
    other = StateFile(state.path)
    other.acquire()
    other.release()


def test_a_place_that_cannot_be_written_is_an_error_that_names_the_fix(tmp_path):
    with pytest.raises(StateFileError, match=r"beat cannot write .*--schedule PATH"):
        StateFile(tmp_path / "missing" / "schedule.json").acquire()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"version": 2, "entries": {}}', '{"version": 1, "entries": {"a": 3}}'],
)
def test_an_unreadable_file_is_set_aside_and_said(state, content, caplog):
    state.path.write_text(content)
    assert state.load() == Saved({})
    (record,) = caplog.records
    assert record.action == "state_file_set_aside"
    assert not state.path.exists()
    (aside,) = state.path.parent.glob("*.unreadable-*")
    assert aside.read_text() == content


def test_a_crash_while_writing_leaves_the_old_file(state, monkeypatch):
    state.save(Saved({"a": Position("f", {"node1": NOON})}))
    monkeypatch.setattr(json, "dump", lambda *a, **kw: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        state.save(Saved({"a": Position("f", {"node1": NOON + timedelta(hours=1)})}))
    assert state.load().positions["a"].last == {"node1": NOON}
