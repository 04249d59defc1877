"""Adapters of task queues: importable, not available yet."""

from __future__ import annotations

from eagleray.serve import _later
from eagleray.serve.schema import CeleryAdapterConfig, TaskProcessorAdapter, TaskProcessorConfig, TaskResult

__all__ = [
    "CeleryAdapterConfig",
    "CeleryTaskProcessorAdapter",
    "TaskProcessorAdapter",
    "TaskProcessorConfig",
    "TaskResult",
]

CeleryTaskProcessorAdapter = _later.class_(__name__, "CeleryTaskProcessorAdapter")
