"""Consumers of task queues: importable, not available yet."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = ["instantiate_adapter_from_config", "task_consumer", "task_handler"]

task_consumer = _later.function(__name__, "task_consumer")
task_handler = _later.function(__name__, "task_handler")
instantiate_adapter_from_config = _later.function(__name__, "instantiate_adapter_from_config")
