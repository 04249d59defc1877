"""The requests that plain handlers get: Starlette's, with what the replica has already given at once, and the rest made
when somebody looks at it.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop as running_loop
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from eagleray._json import loads

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.types import Message

    from eagleray import _core


# How often code of a sync handler that waits for its client to leave looks whether it has.
_LOOKS_EVERY_S = 0.05

# What starlette's constructor looks at of a scope, and what it sets beside.
_KIND = {"type": "http"}
_SET = {name: value for name, value in vars(Request(_KIND)).items() if name not in ("scope", "_receive")}
# Whether all requests may have these in common: they are never changed in place.
_CAN_BE_SHARED = all(value is None or callable(value) or isinstance(value, (int, str)) for value in _SET.values())


class _Scope:
    """Makes a request's `scope` at the first look: many handlers look at the body only."""

    def __get__(self, instance: Any, owner: type | None = None) -> dict[str, Any]:
        # Found before this descriptor from now on.
        made = instance.__dict__["scope"] = instance._native.scope()
        return made  # type: ignore[no-any-return]


class _Plain(Request):
    """A starlette `Request` that costs little to make. What its constructor would set is set in the class, once."""

    scope = _Scope()

    def __init__(self, request: _core.Request) -> None:
        if not _CAN_BE_SHARED:
            super().__init__(_KIND)
            del self.scope, self._receive
        self._native = request

    def _receive(self) -> Awaitable[Message]:
        return self._native.receive()


if _CAN_BE_SHARED:
    for _name, _value in _SET.items():
        setattr(_Plain, _name, staticmethod(_value) if callable(_value) else _value)


class AsyncRequest(_Plain):
    """A starlette `Request` that takes a body which has come whole in one piece; without a generator, that is."""

    async def body(self) -> bytes:
        """The whole body."""
        return self._body if self._is_whole() else await super().body()

    async def json(self) -> Any:
        """The body as JSON."""
        if not hasattr(self, "_json"):
            self._json = loads(self._body if self._is_whole() else await super().body())
        return self._json

    def _is_whole(self) -> bool:
        """Whether `_body` is there, if need be after taking what has come."""
        if hasattr(self, "_body"):
            return True
        body = None if self._stream_consumed else self._native.body()
        if body is None:
            return False
        self._body = body
        return True


class SyncRequest(AsyncRequest):
    """A starlette `Request` whose methods give values at once, for code that cannot await.

    In a coroutine they are starlette's own, for helpers that are written so: a coroutine that the handler runs with
    `asyncio.run`, or the one that it returns because it is a plain decorator around an `async def`. Whether a loop runs
    in this thread tells which; so no value is of another type than it should be, in order to be awaitable too.
    """

    _body_received = False

    def __init__(self, request: _core.Request) -> None:
        super().__init__(request)
        self._body = request.body() or b""

    def body(self) -> Any:
        """The whole body."""
        return self._body if running_loop() is None else super().body()

    def json(self) -> Any:
        """The body as JSON."""
        if running_loop() is not None:
            return super().json()
        if not hasattr(self, "_json"):
            self._json = loads(self._body)
        return self._json

    def stream(self) -> Any:
        """The body in one piece, then the end."""
        return iter([self._body, b""] if self._body else [b""]) if running_loop() is None else super().stream()

    def form(self, **limits: Any) -> Any:
        """The form in the body, fields and files."""
        if running_loop() is not None:
            return super().form(**limits)

        async def parse() -> FormData:
            return await Request.form(self, **limits)

        return asyncio.run(parse())

    def is_disconnected(self) -> Any:
        """Always False: a thread is not interrupted. In a coroutine whether the client has left."""
        return False if running_loop() is None else self._is_left()

    def close(self) -> Any:
        """Nothing is held open but the files of a form."""
        return None if running_loop() is None else super().close()

    async def _is_left(self) -> bool:
        return self._native.cancelled

    async def _receive(self) -> Message:
        if not self._body_received:
            self._body_received = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        # On any loop, also one that the handler runs: no future of the replica's own.
        while not self._native.cancelled:  # noqa: ASYNC110
            await asyncio.sleep(_LOOKS_EVERY_S)
        return {"type": "http.disconnect"}
