"""`CapacityQueueRouter`: importable, not available yet."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = ["CapacityQueueRouter"]

CapacityQueueRouter = _later.class_(
    __name__, "CapacityQueueRouter", "requests go by power of two choices over known load"
)
