from __future__ import annotations

import pytest

from celery_nodekit.reliability import PRESET, preset_for


def test_every_setting_has_a_reason():
    assert all(preset.reason.endswith(".") for preset in PRESET)


@pytest.mark.parametrize("scheme", ["redis", "amqp", "memory"])
def test_messages_are_acknowledged_after_the_work_on_every_broker(scheme):
    preset = preset_for(scheme, {})
    assert preset["task_acks_late"] is True
    assert preset["task_reject_on_worker_lost"] is True


def test_transport_options_are_those_of_the_broker():
    assert "socket_timeout" in preset_for("rediss", {})["broker_transport_options"]
    assert preset_for("pyamqp", {})["broker_transport_options"] == {"confirm_publish": True}
    assert "broker_transport_options" not in preset_for("memory", {})


def test_the_apps_own_transport_options_win_key_by_key():
    own = {"socket_timeout": 3, "visibility_timeout": 99}
    options = preset_for("redis", own)["broker_transport_options"]
    assert options["socket_timeout"] == 3
    assert options["visibility_timeout"] == 99
    assert options["socket_keepalive"] is True
    assert own == {"socket_timeout": 3, "visibility_timeout": 99}


def test_celery_knows_every_setting():
    from celery.app.defaults import DEFAULTS

    for preset in PRESET:
        assert preset.key.split(".")[0] in DEFAULTS
