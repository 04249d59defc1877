"""The request that the running code serves, by task and by thread."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eagleray import _core

current: ContextVar[_core.Request | None] = ContextVar("eagleray_request", default=None)


def request_id() -> str:
    """The id of the request that this code serves; empty outside of one."""
    request = current.get()
    return "" if request is None else request.request_id
