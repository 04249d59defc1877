"""`RoundRobinRouter`: importable, not available yet."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = ["RoundRobinRouter"]

RoundRobinRouter = _later.class_(__name__, "RoundRobinRouter", "requests go by power of two choices over known load")
