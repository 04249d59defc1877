"""Scaling on the length of a task queue: importable, not available yet."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = ["AsyncInferenceAutoscalingPolicy"]

AsyncInferenceAutoscalingPolicy = _later.class_(__name__, "AsyncInferenceAutoscalingPolicy")
