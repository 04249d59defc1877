"""Autoscaling policies: the default one, to be called by those of one's own, and names that come later.

The default one is what the controller does by itself, without any process for it.
"""

from __future__ import annotations

import math
from typing import Any

from eagleray.serve import _later
from eagleray.serve._autoscaling_config import AutoscalingContext

__all__ = [
    "PrometheusQueryMixin",
    "PrometheusSample",
    "PrometheusScalar",
    "default_autoscaling_policy",
    "replica_queue_length_autoscaling_policy",
]

_INSTEAD = "ask Prometheus in the policy itself, and keep what it said in policy_state"


def replica_queue_length_autoscaling_policy(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """As many replicas as bring each of them to `target_ongoing_requests`, and a first one for the first request."""
    config = context.config
    if config is None or (context.current_num_replicas == 0 and context.total_num_requests <= 0):
        return context.target_num_replicas, {}
    if context.current_num_replicas == 0:
        return max(math.ceil(config.get_upscaling_factor()), context.target_num_replicas), context.policy_state
    return context.total_num_requests / config.get_target_ongoing_requests(), {}


default_autoscaling_policy = replica_queue_length_autoscaling_policy

PrometheusQueryMixin = _later.class_(__name__, "PrometheusQueryMixin", _INSTEAD)
PrometheusScalar = _later.class_(__name__, "PrometheusScalar", _INSTEAD)
PrometheusSample = _later.class_(__name__, "PrometheusSample", _INSTEAD)
