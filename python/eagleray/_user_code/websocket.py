"""WebSockets to an ASGI application: `receive` and `send` over one request, and what a broken protocol costs.

Until the application accepts, a WebSocket is a request like any other: a client that leaves cancels it, its time limit
holds, and what the application answers instead is sent as HTTP. From then on the client's end is a message, the
application is never cancelled, and there is no time limit. Its slot stays taken until the application returns.

Whatever the application does wrong costs its own connection: 500 before it has accepted, closing code 1011 after.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from eagleray._closing import is_closed
from eagleray._user_code import children, failure, log
from eagleray._user_code.data import as_bytes

if TYPE_CHECKING:
    from eagleray import _core

_GONE, _WAIT = 0, 2
# How far the application is.
_CONNECTING, _OPEN, _REFUSING, _REFUSED, _CLOSED, _LEFT = range(6)
_SAID = (
    "before it was accepted",
    "after it was accepted",
    "in the middle of refusing it",
    "after it was refused",
    "after it was closed",
    "after the client has left",
)
_NORMAL, _RESTART = 1000, 1012

_open: weakref.WeakSet[WebSocket] = weakref.WeakSet()


async def serve(app: Callable[..., Any], request: _core.Request, scope: dict[str, Any]) -> None:
    """Runs `app` for a WebSocket that was begun, to its end; raises nothing but what ends the loop."""
    scope["extensions"] = {"websocket.http.response": {}}
    socket = WebSocket(request)
    try:
        await app(scope, socket.receive, socket.send)
    except BaseException as error:
        if isinstance(error, GeneratorExit) and is_closed(request.task):
            request.done()
            raise
        socket.failed(error)
    else:
        socket.returned()


def close_all() -> None:
    """The replica ends: clients are told to connect again, since what serves them is about to be gone."""
    for socket in list(_open):
        socket.end()


class WebSocket:
    """`receive` and `send` of one WebSocket."""

    __slots__ = ("__weakref__", "_close", "_connected", "_head", "_phase", "_reading", "_request", "_writing")

    def __init__(self, request: _core.Request) -> None:
        self._request = request
        self._phase = _CONNECTING
        # The application has been told that it may accept.
        self._connected = False
        # Of an HTTP answer that refuses.
        self._head: MutableMapping[str, Any] = {}
        # Code and reason, by which the application itself has closed.
        self._close: tuple[int, str] = (_NORMAL, "")
        # What a task waits for now.
        self._reading: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None

    async def receive(self) -> dict[str, Any]:
        """The next message. Cancelling it loses none."""
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        request = self._request
        while True:
            if self._phase in (_CLOSED, _REFUSED):
                # As in `asgi`: one that asks on and on takes its turn with all others.
                await asyncio.sleep(0)
                code, reason = self._close
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            if self._reading is not None and not self._reading.done():
                await asyncio.wait([self._reading])  # two calls at a time: each message goes to one
                continue
            message = request.receive_now()
            if message is None:
                self._reading = request.readable()
                await self._reading
                continue
            if message["type"] == "websocket.disconnect":
                if self._phase == _LEFT:
                    await asyncio.sleep(0)
                self._phase = _LEFT
                _open.discard(self)
            return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Takes a message; returns when there is room for more.

        Raises:
            RuntimeError: the protocol has no such message at this point.
            ValueError, TypeError: the message cannot be sent.
            OSError: the client has left.
        """
        kind = message["type"]
        phase = self._phase
        if phase == _OPEN and kind == "websocket.send":
            await self._send(message)
        elif phase == _CONNECTING and kind == "websocket.accept":
            self._accept(message)
        elif phase == _OPEN and kind == "websocket.close":
            self._end(message)
        elif phase == _CONNECTING and kind == "websocket.close":
            self._phase = _REFUSED
            self._request.respond(403, [], b"", False)
        elif phase == _CONNECTING and kind == "websocket.http.response.start":
            _check_status(message["status"])
            self._head = message
            self._phase = _REFUSING
        elif phase == _REFUSING and kind == "websocket.http.response.body":
            await self._refuse(message)
        elif phase == _LEFT and kind in ("websocket.send", "websocket.close"):
            await asyncio.sleep(0)
            raise OSError("the client of this WebSocket has left")
        else:
            raise RuntimeError(f"the ASGI application sent {kind!r} to a WebSocket {_SAID[phase]}")

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        text, data = message.get("text"), message.get("bytes")
        if text is not None and data is None:
            whole = text
        elif data is not None and text is None:
            whole = as_bytes(data)
        else:
            raise ValueError("a 'websocket.send' has either 'text' or 'bytes'")
        room = self._request.send_message(whole)
        if room == _WAIT:
            await self._room()
        elif room == _GONE:
            await asyncio.sleep(0)
            raise OSError("the client of this WebSocket has left")

    async def _room(self) -> None:
        """Returns when more may be sent; any number of tasks may wait."""
        if self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])
            return
        waiting: Any = self._request.writable()
        if isinstance(waiting, asyncio.Future):
            self._writing = waiting
        await waiting

    def _accept(self, message: MutableMapping[str, Any]) -> None:
        headers = _fields(message)
        if any(name == b"sec-websocket-protocol" for name, _ in headers):
            raise ValueError("give the subprotocol as 'subprotocol', not among the headers")
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            headers.append((b"sec-websocket-protocol", subprotocol.encode()))
        self._request.accept(headers)
        self._phase = _OPEN
        _open.add(self)

    def _end(self, message: MutableMapping[str, Any]) -> None:
        code, reason = message.get("code", _NORMAL), message.get("reason") or ""
        if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
            raise ValueError(f"{code} cannot be the code of a closing frame; use 1000, or one from 3000 to 4999")
        self._closed(code, reason)

    def _closed(self, code: int, reason: str) -> None:
        self._close = code, reason
        self._phase = _CLOSED
        _open.discard(self)
        self._request.close(code, reason)

    async def _refuse(self, message: MutableMapping[str, Any]) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        request = self._request
        if not request.answered:
            request.start(self._head["status"], _fields(self._head))
        room = request.send(as_bytes(body), not more)
        if not more:
            self._phase = _REFUSED
        elif room == _WAIT:
            await request.writable()

    def returned(self) -> None:
        """The application is done with the WebSocket."""
        if self._phase == _OPEN:
            self._closed(_NORMAL, "")
        elif self._phase in (_CONNECTING, _REFUSING):
            self.failed(RuntimeError(f"the ASGI application returned from a WebSocket {_SAID[self._phase]}"))
            return
        self._request.done()

    def failed(self, error: BaseException) -> None:
        """The application raised."""
        children.end_if_came_back(error)
        request = self._request
        _open.discard(self)
        if self._phase in (_CONNECTING, _REFUSING):
            failure.failed(request, error)
        elif self._phase == _OPEN:
            # A client that left while it sent is no failure of the application.
            if not isinstance(error, OSError) or request.send(b"") != _GONE:
                log.failure("a WebSocket broke off: user code raised", error)
            request.abort()
        else:
            if self._phase != _LEFT or not isinstance(error, OSError):
                log.failure("user code raised after the end of its WebSocket", error)
            request.done()

    def end(self) -> None:
        """Closes it for the replica, whose application goes on until it notices."""
        if self._phase == _OPEN:
            self._closed(_RESTART, "the replica is shutting down")


def _fields(message: MutableMapping[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(as_bytes(name).lower(), as_bytes(value)) for name, value in message.get("headers", ())]


def _check_status(status: int) -> None:
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is no status by which a WebSocket is refused")
