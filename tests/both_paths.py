"""Sends one request to a FastAPI application twice, compiled and as ASGI, and tells whether anybody could see which.

The application is made anew for each path by a function that gets a list: what user code appends to it is compared too.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastapi import routing

from eagleray._user_code.compiled import serve


class Sent(NamedTuple):
    """A request."""

    method: str
    path: str
    query: str = ""
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    # The body comes in pieces of this size, and not at once.
    piece: int = 0
    # Whether it says to which host it goes, but for what is in the headers.
    host: bool = True


class Seen(NamedTuple):
    """What came of it."""

    messages: list[Any]
    raised: str
    calls: list[Any]
    compiled: bool


def json_request(method: str, path: str, value: Any, **more: Any) -> Sent:
    """A request with a JSON body."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Sent(method, path, headers=[("content-type", "application/json")], body=body, **more)


def _scope(sent: Sent) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": sent.method,
        "scheme": "http",
        "path": sent.path,
        "raw_path": sent.path.encode(),
        "query_string": sent.query.encode("latin-1"),
        "root_path": "",
        "headers": [
            *([(b"host", b"here")] if sent.host else []),
            *((n.lower().encode(), v.encode("latin-1")) for n, v in sent.headers),
        ],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        "extensions": {},
    }


class Exchange:
    """A server that writes down what it is to send."""

    def __init__(self, sent: Sent) -> None:
        self.messages: list[Any] = []
        self._sent = sent
        size = sent.piece or max(len(sent.body), 1)
        self._pieces = [sent.body[at : at + size] for at in range(0, len(sent.body), size)] or [b""]
        self._left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if not self._pieces:
            await self._left.wait()
            return {"type": "http.disconnect"}
        piece = self._pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self.messages.append((message["status"], headers))
            return
        self.messages.append((bytes(message.get("body", b"")), bool(message.get("more_body", False))))
        if not message.get("more_body", False):
            self._left.set()

    def whole_body(self) -> bytes | None:
        if self._sent.piece or not self._pieces:
            return None
        self._pieces.clear()
        return self._sent.body

    async def answer(self, status: int, headers: Any, body: Any) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class _Path:
    """An application that answers on one of the paths."""

    def __init__(self, make: Callable[[list[Any]], Any], *, compile_it: bool) -> None:
        self.calls: list[Any] = []
        self._app = make(self.calls)
        self._app.middleware_stack = self._app.build_middleware_stack()
        self._compiled = serve.compile_routes(self._app) if compile_it else None
        self._is_below = self._compiled is not None and bool(self._compiled.plans) and not self._compiled.is_whole
        if self._is_below:
            serve.Below.put(self._compiled, self._app)

    async def one(self, sent: Sent) -> Seen:
        """What comes of a request."""
        self.calls.clear()
        exchange, scope, raised = Exchange(sent), _scope(sent), ""
        found = None if self._compiled is None else self._compiled.find(scope)
        try:
            if self._compiled is None or found is None or self._is_below:
                await self._app(scope, exchange.receive, exchange.send)
            else:
                await self._compiled.run(*found, scope, exchange)
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
        return Seen(exchange.messages, raised, list(self.calls), found is not None)


async def _one(make: Callable[[list[Any]], Any], sent: Sent, *, compile_it: bool) -> Seen:
    return await _Path(make, compile_it=compile_it).one(sent)


def both(make: Callable[[list[Any]], Any], sent: Sent) -> tuple[Seen, Seen]:
    """What came of it as ASGI, and compiled."""
    return both_of_all(make, [sent])[0]


def both_of_all(make: Callable[[list[Any]], Any], sent: Sequence[Sent]) -> list[tuple[Seen, Seen]]:
    """The same for several requests, one after the other, to one application."""

    async def run() -> list[tuple[Seen, Seen]]:
        # FastAPI remembers where an endpoint is by its address, which one that is collected may have had before.
        routing._endpoint_context_cache.clear()
        asgi, compiled = (_Path(make, compile_it=compile_it) for compile_it in (False, True))
        return [(await asgi.one(one), await compiled.one(one)) for one in sent]

    return asyncio.run(run())


def check(make: Callable[[list[Any]], Any], sent: Sent, *, compiled: bool = True) -> Seen:
    """Fails unless both paths do the same, and unless the request took the path that is expected of it."""
    asgi, other = both(make, sent)
    assert other.compiled == compiled
    assert other.messages == asgi.messages
    assert other.raised == asgi.raised
    assert other.calls == asgi.calls
    return other
