"""The example application passes its own tests, with real processes on a real Redis."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.brokers import Broker

EXAMPLE = Path(__file__).parents[2] / "examples" / "flask_app"


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_the_flask_example_passes_its_own_tests(broker: Broker) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(EXAMPLE)],
        cwd=EXAMPLE,
        env={**os.environ, "EXAMPLE_REDIS_URL": broker.url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout, done.stdout
