"""The reliability preset: Celery settings that keep work through stops, kills and restarts."""

from __future__ import annotations

from celery_nodekit.reliability.preset import PRESET, Preset, preset_for

__all__ = ["PRESET", "Preset", "preset_for"]
