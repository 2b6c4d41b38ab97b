"""Real workers and a real beat on one broker, and what their tasks recorded."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kombu import pools

from tests.support.brokers import Broker
from tests.support.processes import CeleryProcess
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

APPS = Path(__file__).parent / "apps"


class Deployment:
    """Nodes of one app; used as a context manager that ends everything it started."""

    def __init__(
        self, app: str, directory: Path, broker: Broker, *, backend: str | None = None, **env: str
    ) -> None:
        self.app = app
        self.directory = directory
        self.broker = broker
        self.records_path = directory / "records"
        self.records_path.touch()
        self.env = {"TEST_BROKER": broker.url, "TEST_RECORDS": str(self.records_path), **env}
        if backend:
            self.env["TEST_BACKEND"] = backend
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.__exit__(*exc_info)

    def run(self, *args: str, **env: str) -> CeleryProcess:
        """Start one ``celery`` command without waiting for it."""
        process = CeleryProcess(
            self.app, *args, cwd=self.directory, env={**self.env, **env}, path=[APPS]
        )
        return self._stack.enter_context(process)

    def worker(self, *args: str, name: str, **env: str) -> CeleryProcess:
        """Start one worker without waiting for it."""
        return self.run(
            "worker", "--pool=solo", "--without-mingle", "-n", f"{name}@test", *args, **env
        )

    def node(self, name: str) -> list[CeleryProcess]:
        """Start a node's worker and its crontab worker without waiting for them."""
        return [
            self.worker("--node", name, name=f"{name}-worker"),
            self.worker("--node", name, "--crontab", name=f"{name}-crontab"),
        ]

    def records(self) -> list[dict[str, Any]]:
        """Return what tasks recorded so far, oldest first."""
        return [json.loads(line) for line in self.records_path.read_text().splitlines()]

    def lines(self) -> list[str]:
        """Return what tasks recorded so far, as text."""
        return self.records_path.read_text().splitlines()

    def wait_for(self, count: int, timeout: float = 20.0, **fields: Any) -> list[dict[str, Any]]:
        """Wait until so many records have these fields, and return them."""

        def matching() -> list[dict[str, Any]]:
            return [r for r in self.records() if all(r.get(k) == v for k, v in fields.items())]

        wait_until(
            lambda: len(matching()) >= count,
            timeout,
            lambda: f"{count} records with {fields} expected, recorded: {self.records()[-20:]}",
        )
        return matching()

    @contextmanager
    def producer(self) -> Iterator[ModuleType]:
        """Load the app in this process, as a web backend does."""
        with _environment(self.env):
            spec = importlib.util.spec_from_file_location(self.app, APPS / f"{self.app}.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            try:
                yield module
            finally:
                _disconnect(module.app)


def _disconnect(app: Any) -> None:
    gc.collect()  # results unsubscribe while the server still lives
    pools.reset()
    backend = app.backend
    if hasattr(backend, "result_consumer"):
        backend.result_consumer.stop()
        backend.client.connection_pool.disconnect()
    app.close()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
