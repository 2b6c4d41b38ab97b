"""An explicit-state model of the Redis transport's protocol, explored exhaustively."""

from __future__ import annotations
