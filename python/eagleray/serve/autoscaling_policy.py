"""Autoscaling policies: importable, not asked yet. The default one is what the controller does by itself."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = [
    "PrometheusQueryMixin",
    "PrometheusSample",
    "PrometheusScalar",
    "default_autoscaling_policy",
]

_INSTEAD = "leave it out, and the number of replicas follows target_ongoing_requests"

default_autoscaling_policy = _later.function(__name__, "default_autoscaling_policy", _INSTEAD)
PrometheusQueryMixin = _later.class_(__name__, "PrometheusQueryMixin", _INSTEAD)
PrometheusScalar = _later.class_(__name__, "PrometheusScalar", _INSTEAD)
PrometheusSample = _later.class_(__name__, "PrometheusSample", _INSTEAD)
