"""Autoscaling policies: importable, not asked yet. A deployment holds at its initial number of replicas until then."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = [
    "PrometheusQueryMixin",
    "PrometheusSample",
    "PrometheusScalar",
    "default_autoscaling_policy",
]

_INSTEAD = "deployments hold at initial_replicas, else min_replicas"

default_autoscaling_policy = _later.function(__name__, "default_autoscaling_policy", _INSTEAD)
PrometheusQueryMixin = _later.class_(__name__, "PrometheusQueryMixin", _INSTEAD)
PrometheusScalar = _later.class_(__name__, "PrometheusScalar", _INSTEAD)
PrometheusSample = _later.class_(__name__, "PrometheusSample", _INSTEAD)
