"""Metrics of user code: importable, not available yet."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = ["Counter", "Gauge", "Histogram"]

_INSTEAD = "metrics of your own need a library of your own, such as prometheus_client, for now"

Counter = _later.class_(__name__, "Counter", _INSTEAD)
Gauge = _later.class_(__name__, "Gauge", _INSTEAD)
Histogram = _later.class_(__name__, "Histogram", _INSTEAD)
