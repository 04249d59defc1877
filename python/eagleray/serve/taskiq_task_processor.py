"""The Taskiq adapter: importable, not available yet."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = ["TaskiqAdapterConfig", "TaskiqTaskProcessorAdapter"]

TaskiqAdapterConfig = _later.class_(__name__, "TaskiqAdapterConfig")
TaskiqTaskProcessorAdapter = _later.class_(__name__, "TaskiqTaskProcessorAdapter")
