"""The fixture that takes the place of pytest-docker-tools' ``docker_client``.

``NODEKIT_TEST_DOCKER=1`` asks for real containers; then a Docker engine has to answer.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.localdocker.client import LocalDocker

__all__ = ["docker_client", "real_containers"]


def real_containers() -> bool:
    """Whether the tests were asked to use a Docker engine."""
    return os.environ.get("NODEKIT_TEST_DOCKER") == "1"


@pytest.fixture(scope="session")
def docker_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The client that all containers, networks and volumes of pytest-celery are made with."""
    if real_containers():
        client = importlib.import_module("docker").from_env()
        client.ping()
        yield client
        client.close()
        return
    local = LocalDocker(tmp_path_factory.mktemp("docker"))
    with pytest.MonkeyPatch.context() as patch:
        # Asked inside a container, it makes its callers use the containers' own ports.
        name = "pytest_docker_tools.wrappers.container.tests_inside_container"
        patch.setattr(name, lambda: False)
        yield local
    local.close()
