from __future__ import annotations

import pytest

from tests.support.brokers import Broker, broker_names, isolated


@pytest.fixture(scope="module", params=broker_names())
def shared_broker(request: pytest.FixtureRequest) -> Broker:
    """A broker that was empty when the module began; the module runs once with each kind."""
    name: str = request.param
    return isolated(name, request.getfixturevalue(f"{name}_server"))
