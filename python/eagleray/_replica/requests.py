"""The requests that plain handlers get: Starlette's, with what the replica has already given at once, and the rest made
when somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from eagleray._json import loads

if TYPE_CHECKING:
    from starlette.datastructures import FormData

    from eagleray import _core


# What starlette's constructor looks at of a scope.
_KIND = {"type": "http"}


class _Scope:
    """Makes a request's `scope` at the first look: many handlers look at the body only."""

    def __get__(self, instance: Any, owner: type | None = None) -> dict[str, Any]:
        # Found before this descriptor from now on.
        made = instance.__dict__["scope"] = instance._native.scope()
        return made  # type: ignore[no-any-return]


class AsyncRequest(Request):
    """A starlette `Request` that takes a body which has come whole in one piece; without a generator, that is."""

    scope = _Scope()

    def __init__(self, request: _core.Request) -> None:
        super().__init__(_KIND, request.receive)
        del self.scope
        self._native = request

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


class SyncRequest(Request):
    """A starlette `Request` for code that cannot await."""

    scope = _Scope()

    def __init__(self, request: _core.Request) -> None:
        super().__init__(_KIND)
        del self.scope
        self._native = request
        self._body = request.body() or b""

    def body(self) -> bytes:  # type: ignore[override]
        """The whole body."""
        return self._body

    def json(self) -> Any:
        """The body as JSON."""
        if not hasattr(self, "_json"):
            self._json = loads(self._body)
        return self._json

    def stream(self) -> Iterator[bytes]:  # type: ignore[override]
        """The body in one piece, then the end."""
        if self._body:
            yield self._body
        yield b""

    def form(self, **limits: Any) -> FormData:  # type: ignore[override]
        """The form in the body, fields and files."""
        import asyncio

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": self._body, "more_body": False}

        async def parse() -> FormData:
            return await Request(self.scope, receive).form(**limits)

        return asyncio.run(parse())

    def is_disconnected(self) -> bool:  # type: ignore[override]
        """Always False: a thread is not interrupted."""
        return False

    def close(self) -> None:  # type: ignore[override]
        """Nothing is held open."""
