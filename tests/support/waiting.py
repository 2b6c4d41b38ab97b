"""Wait for a condition, never for a length of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["wait_until"]

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    timeout: float = 10.0,
    message: str | Callable[[], str] = "The condition did not come true",
    *,
    interval: float = 0.02,
) -> T:
    """Call ``condition`` until what it returns is true, and return that.

    Args:
        condition: Called at least once, and once more at the deadline. An error it raises ends the
            wait.
        timeout: Seconds.
        message: Says what was waited for; a callable is asked only when the wait fails.
        interval: Seconds between two calls.

    Raises:
        AssertionError: the deadline passed; the text holds the message and the last value.
    """
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        value = condition()
        if value:
            return value
        if late:
            text = message if isinstance(message, str) else message()
            raise AssertionError(f"{text} (waited {timeout:g} s, last value {value!r})")
        time.sleep(min(interval, max(0.0, deadline - time.monotonic())))
