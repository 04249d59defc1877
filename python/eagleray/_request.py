"""The request that the running code serves, by task and by thread. None outside of one, and outside of replicas."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eagleray import _core

current: ContextVar[_core.Request | None] = ContextVar("eagleray_request", default=None)
