"""Publishing through NodeKit against stock Celery, on a broker in memory.

    python benchmarks/routing.py [--messages 3000]

Three calls: one without a node, one with ``node=``, one that a rule sends to a node.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from celery import Celery
from kombu.transport.memory import Transport

from celery_nodekit import NodeKit

ROUNDS = 9


def stock() -> Celery:
    """Return an app without a kit."""
    app = Celery("stock", broker="memory://", set_as_current=False)
    app.conf.task_ignore_result = True
    return app


def with_kit() -> Celery:
    """Return an app with three nodes and a rule."""
    app = stock()
    NodeKit(app, nodes=["node1", "node2", "node3"], routes={"bench.routed": ["node1", "node2"]})
    return app


def measure(send: Callable[[], object], messages: int) -> float:
    """Return the microseconds that one call takes."""
    began = time.perf_counter()
    for _ in range(messages):
        send()
    elapsed = time.perf_counter() - began
    Transport.global_state.clear()
    return elapsed / messages * 1e6


def main() -> None:
    """Print medians and their ratio to stock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=3000)
    messages = parser.parse_args().messages
    plain, kit = stock(), with_kit()
    calls: dict[str, Callable[[], object]] = {
        "stock": lambda: plain.send_task("bench.plain"),
        "no node": lambda: kit.send_task("bench.plain"),
        "node=": lambda: kit.send_task("bench.plain", node="node2"),
        "rule": lambda: kit.send_task("bench.routed"),
    }
    for send in calls.values():
        send()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, send in calls.items():
            times[name].append(measure(send, messages))
    base = statistics.median(times["stock"])
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"{name:8} {median:7.1f} us per call, {median / base:.2f} of stock")


if __name__ == "__main__":
    main()
