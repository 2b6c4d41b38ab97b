"""Start of ``celery worker`` with celery-nodekit installed but unused, against not installed.

Celery loads the ``celery.commands`` and ``celery.beat_schedulers`` entry points of every installed
package. The same interpreter and site-packages serve both sides: on the "without" side the entry
points of celery-nodekit are hidden from ``importlib.metadata``, in both cases the process imports
the same wrapper.

    python benchmarks/startup.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

WRAPPER = """
import importlib.metadata, os, sys
if sys.argv.pop(1) == "without":
    whole = importlib.metadata.entry_points
    def without(**kw):
        found = whole(**kw)
        keep = [e for e in found if not e.value.startswith("celery_nodekit")]
        return importlib.metadata.EntryPoints(keep)
    importlib.metadata.entry_points = without
from celery import Celery, signals
app = Celery("bench", broker="memory://")
@signals.worker_ready.connect
def stop(sender, **kw):
    os._exit(0)
app.start(["worker", "--pool=solo", "--without-mingle", "--without-gossip", "-l", "ERROR"])
"""


def start(side: str) -> float:
    """Return the seconds from exec until the worker is ready."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WRAPPER, side],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - began


def main() -> None:
    """Print medians and their difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {"with": [], "without": []}
    for side in times:
        start(side)  # fills the page cache and writes bytecode
    for _ in range(rounds):
        for side, measured in times.items():
            measured.append(start(side))
    medians = {side: statistics.median(measured) for side, measured in times.items()}
    for side, median in medians.items():
        print(f"{side:8} {median * 1000:7.1f} ms (median of {rounds})")
    difference = (medians["with"] - medians["without"]) * 1000
    print(f"the plug-in adds {difference:.1f} ms; at most 50 are allowed")


if __name__ == "__main__":
    main()
