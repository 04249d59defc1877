"""The request that the running code serves, by task and by thread. None outside of one, and outside of replicas."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eagleray import _core

current: ContextVar[_core.Request | None] = ContextVar("eagleray_request", default=None)


def request_id() -> str:
    """The id of the request that this code serves; empty outside of one."""
    request = current.get()
    return "" if request is None else request.request_id


given: ContextVar[Any] = ContextVar("eagleray_given_request", default=None)
"""What a program has set to stand for a request where none is: `eagleray.serve.context._serve_request_context`."""
