"""`ConsistentHashRouter`: importable, not available yet."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = ["ConsistentHashRouter"]

ConsistentHashRouter = _later.class_(
    __name__, "ConsistentHashRouter", "requests with one session_id or x-session-id go to one replica anyway"
)
