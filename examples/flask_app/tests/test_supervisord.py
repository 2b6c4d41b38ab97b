from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGURATION = Path(__file__).parents[1] / "supervisord"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("supervisord")
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    subprocess.run([CONFIGURATION / "render.sh", directory], env=environment, check=True)
    return directory


@pytest.mark.parametrize("node", ["node1", "node2", "node3"])
def test_the_configuration_here_is_what_the_command_prints(rendered: Path, node: str) -> None:
    expected = (rendered / f"{node}.conf").read_text()

    assert (CONFIGURATION / f"{node}.conf").read_text() == expected


def test_beat_runs_on_one_node_only(rendered: Path) -> None:
    with_beat = [
        path.stem
        for path in rendered.iterdir()
        if "[program:" + path.stem + "-beat]" in path.read_text()
    ]

    assert with_beat == ["node1"]
