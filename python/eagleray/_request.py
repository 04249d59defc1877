"""The request that the running code serves, by task and by thread. None outside of one, and outside of replicas."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eagleray import _core

current: ContextVar[_core.Request | None] = ContextVar("eagleray_request", default=None)

given: ContextVar[Any] = ContextVar("eagleray_given_request", default=None)
"""What a program has set to stand for a request where none is: `eagleray.serve.context._serve_request_context`."""
