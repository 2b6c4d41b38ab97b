"""Copies the tests to a directory without the package's source: ``python away.py ROOT DIRECTORY``.

What runs there can only be the installed wheel.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

WANTED = ("tests", "examples", "pyproject.toml")


def main(root: Path, directory: Path) -> None:
    """Fill the directory anew."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name in WANTED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
