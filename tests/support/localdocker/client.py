"""The part of ``docker.DockerClient`` that pytest-docker-tools and pytest-celery use."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import celery

from tests.support.localdocker.container import LocalContainer
from tests.support.localdocker.machines import BUILT, ContainerSpec

__all__ = ["LocalDocker"]


class LocalDocker:
    """A Docker client without an engine, see :mod:`tests.support.localdocker`.

    Args:
        directory: Where containers and volumes keep their files.
    """

    def __init__(self, directory: Path) -> None:
        self.images = _Images()
        self.networks = _Networks()
        self.volumes = _Volumes(directory / "volumes")
        self.containers = _Containers(directory / "containers", self.volumes)

    def close(self) -> None:
        """Kill every container that still runs."""
        for container in self.containers.made:
            container.remove(force=True)


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An image by its id, which for an image that was not built is its name."""

    id: str


class _Images:
    def build(
        self,
        *,
        path: str,
        buildargs: Mapping[str, str] | None = None,
        tag: str = "",
        rm: bool = True,
    ) -> tuple[LocalImage, list[dict[str, str]]]:
        """Return the image that is this Python environment.

        Raises:
            NotImplementedError: another version of Celery was asked for.
        """
        version = (buildargs or {}).get("CELERY_VERSION") or celery.__version__
        if version != celery.__version__:
            raise NotImplementedError(f"Celery {celery.__version__} is installed, not {version}.")
        return LocalImage(BUILT), []

    def get(self, name: str) -> LocalImage:
        return LocalImage(name)

    def pull(self, repository: str, tag: str | None = None) -> LocalImage:
        return LocalImage(f"{repository}:{tag}" if tag else repository)


@dataclass(frozen=True, slots=True)
class LocalNetwork:
    """A name only: everything is on 127.0.0.1."""

    name: str

    def remove(self) -> None:
        """Do nothing."""


class _Networks:
    def create(self, name: str, labels: Mapping[str, str] | None = None) -> LocalNetwork:
        return LocalNetwork(name)


@dataclass(frozen=True, slots=True)
class LocalVolume:
    """A directory."""

    name: str
    directory: Path

    def remove(self, force: bool = False) -> None:
        """Delete the files."""
        shutil.rmtree(self.directory)


class _Volumes:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self, name: str, labels: Mapping[str, str] | None = None) -> LocalVolume:
        self.get(name).directory.mkdir(parents=True)
        return self.get(name)

    def get(self, name: str) -> LocalVolume:
        return LocalVolume(name, self._directory / name)


class _Containers:
    def __init__(self, directory: Path, volumes: _Volumes) -> None:
        self._directory = directory
        self._volumes = volumes
        self.made: list[LocalContainer] = []

    def create(
        self,
        image: str,
        command: list[str] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        volumes: Mapping[str, Mapping[str, str]] | None = None,
        ports: Mapping[str, object] | None = None,
        network: str = "none",
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> LocalContainer:
        identifier = secrets.token_hex(32)
        container = LocalContainer(
            ContainerSpec(
                image=image,
                id=identifier,
                name=name or f"local-{identifier[:12]}",
                directory=self._directory / identifier[:12],
                command=command,
                environment=environment or {},
                binds={
                    mount["bind"]: self._volumes.get(volume).directory
                    for volume, mount in (volumes or {}).items()
                },
                ports=tuple(ports or ()),
                network=network,
                labels=labels or {},
            )
        )
        self.made.append(container)
        return container

    def run(self, image: str, *, detach: bool, **options: object) -> LocalContainer:
        if not detach:
            raise NotImplementedError("Containers run in the background only.")
        container = self.create(image, **options)  # type: ignore[arg-type]
        container.start()
        return container
