"""What batches and caches of models of a replica count for `/metrics`. Nothing is counted anywhere else.

The native registry declares these metrics, each with the same tags. The node chooses whether the replica's is shown.
"""

from __future__ import annotations

from eagleray import _metrics, _runtime


class BatchMetrics:
    """Of one batch function."""

    def __init__(self, deployment: str, replica: str, application: str, function: str) -> None:
        labels = (deployment, replica, application, function)
        self._wait = _metrics.own("serve_batch_wait_time_ms", *labels)
        self._execution = _metrics.own("serve_batch_execution_time_ms", *labels)
        self._utilization = _metrics.own("serve_batch_utilization_percent", *labels)
        self._size = _metrics.own("serve_actual_batch_size", *labels)
        self._batches = _metrics.own("serve_batches_processed", *labels)
        self._waiting = _metrics.own("serve_batch_queue_length", *labels)

    def begun(self, waited_s: float, size: int, most: int, left: int) -> None:
        """A batch of so many items has begun, which may have `most`; `left` go on waiting."""
        self._wait.record(waited_s * 1e3)
        self._size.record(size)
        self._utilization.record(100 * size / most)
        self._waiting.record(left)

    def ended(self, seconds: float) -> None:
        """User code has run a batch."""
        self._execution.record(seconds * 1e3)
        self._batches.record(1)


class ModelMetrics:
    """Of all models of a replica."""

    def __init__(self, deployment: str, replica: str, application: str) -> None:
        labels = (deployment, replica, application)
        self._load = _metrics.own("serve_multiplexed_model_load_latency_ms", *labels)
        self._unload = _metrics.own("serve_multiplexed_model_unload_latency_ms", *labels)
        self._held = _metrics.own("serve_num_multiplexed_models", *labels)
        self._asked = _metrics.own("serve_multiplexed_get_model_requests_counter", *labels)
        self._loads = _metrics.own("serve_multiplexed_models_load_counter", *labels)
        self._unloads = _metrics.own("serve_multiplexed_models_unload_counter", *labels)

    def asked(self) -> None:
        """User code wants a model."""
        self._asked.record(1)

    def loaded(self, seconds: float) -> None:
        """One was loaded."""
        self._load.record(seconds * 1e3)
        self._loads.record(1)

    def unloaded(self, seconds: float) -> None:
        """One was given up."""
        self._unload.record(seconds * 1e3)
        self._unloads.record(1)

    def hold(self, count: int) -> None:
        """So many are held now."""
        self._held.record(count)


def _labels() -> tuple[str, str, str] | None:
    here = _runtime.replica
    context = None if here is None else here.context
    return None if context is None else (context.deployment, context.replica_id.unique_id, context.app_name)


def of_batches(function: str) -> BatchMetrics | None:
    """Of a batch function in this replica; None: this process is none."""
    labels = _labels()
    return None if labels is None else BatchMetrics(*labels, function)


def of_models() -> ModelMetrics | None:
    """Of the models in this replica; None: this process is none."""
    labels = _labels()
    return None if labels is None else ModelMetrics(*labels)
