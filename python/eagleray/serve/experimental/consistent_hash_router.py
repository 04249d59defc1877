"""`ConsistentHashRouter`: importable, not available yet."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = ["ConsistentHashRouter"]

ConsistentHashRouter = _later.class_(
    __name__, "ConsistentHashRouter", "requests go by power of two choices over known load"
)
