"""One WebSocket in this process: the stand-in for the native request, as `_replica.websocket` works with it.

Until it is accepted it is the HTTP request that it begins as, and what refuses it is an HTTP answer. From then on it is
two `Messages`, one a direction. As on a connection, either side waits while the other does not take what it sends:
`WINDOW` bytes, where a message counts for 64 more than it has, so that empty ones are bounded too.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from eagleray._local.http import _GONE, _ROOM, _TEXT, _WAIT, HttpRequest, checked

WINDOW = 256 * 1024
_OVERHEAD = 64
_SWITCHING_PROTOCOLS = 101
_BROKEN, _NO_FRAME, _RESTART = 1011, 1006, 1012


class End(NamedTuple):
    """How a direction ended."""

    code: int
    reason: str


class Messages:
    """Messages of one direction, then its end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: deque[str | bytes] = deque()
        self._held = 0
        self._end: End | None = None
        self._listeners: list[Callable[[], None]] = []

    def put(self, message: str | bytes) -> int:
        """0: nobody takes it, 1: there is room for more, 2: wait first."""
        with self._changed:
            if self._end is not None:
                return _GONE
            self._messages.append(message)
            self._held += _cost(message)
            self._tell()
            return _ROOM if self._has_room() else _WAIT

    def end(self, code: int, reason: str) -> None:
        """Nothing more is put; what was is taken first. The first end counts."""
        with self._changed:
            if self._end is None:
                self._end = End(code, reason)
            self._tell()

    def ended(self) -> End | None:
        """The end, although there may be messages before it."""
        return self._end

    def take(self) -> str | bytes | End | None:
        """The next message, or the end; None: neither is there yet."""
        with self._changed:
            if not self._messages:
                return self._end
            message = self._messages.popleft()
            self._held -= _cost(message)
            self._tell()
            return message

    def wait(self) -> str | bytes | End:
        """The same for a thread, which waits for it."""
        with self._changed:
            self._changed.wait_for(self._has_message)
            found = self.take()
            assert found is not None
            return found

    def wait_for_room(self) -> None:
        """For a thread that has put."""
        with self._changed:
            self._changed.wait_for(self._has_room)

    def on_message(self) -> asyncio.Future[None]:
        """Done once `take` finds something. Nothing is lost when it is cancelled."""
        return self._when(self._has_message)

    def on_room(self) -> asyncio.Future[None]:
        """Done once there is room, or the end."""
        return self._when(self._has_room)

    def _has_message(self) -> bool:
        return bool(self._messages) or self._end is not None

    def _has_room(self) -> bool:
        return self._end is not None or self._held < WINDOW

    def _when(self, holds: Callable[[], bool]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        def look() -> None:
            if not holds():
                self._listeners.append(look)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(resolve)

        with self._changed:
            look()
        return future

    def _tell(self) -> None:
        self._changed.notify_all()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()


def _cost(message: str | bytes) -> int:
    return _OVERHEAD + (len(message.encode()) if isinstance(message, str) else len(message))


class WebSocketRequest(HttpRequest):
    """One WebSocket, as user code's side sees it, and the client's ends of it."""

    is_websocket = True

    def __init__(self, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], **options: Any) -> None:
        super().__init__("GET", path, query, headers, b"", **options)
        offered = [value for name, value in headers if name == b"sec-websocket-protocol"]
        self.subprotocols = [one.strip().decode() for value in offered for one in value.split(b",")]
        del self._scope["method"]
        self._scope.update(type="websocket", scheme="ws", subprotocols=self.subprotocols)
        self.from_client = Messages()
        self.to_client = Messages()
        self.open = False
        self.returned = threading.Event()

    # --- the client's -----------------------------------------------------------------------------------------------

    def leave(self, code: int = _NO_FRAME, reason: str = "") -> None:
        """The client closes; user code hears of it by a message, once it has taken those before."""
        if not self.open:
            super().leave()
            return
        self.from_client.end(code, reason)
        self.to_client.end(code, reason)

    def late(self) -> None:
        """The time limit has passed. There is none for a WebSocket that is accepted."""
        if not self.open:
            super().late()

    def restart(self) -> None:
        """The replica ends, and user code with it."""
        if self.open:
            self.to_client.end(_RESTART, "the replica is shutting down")

    # --- what user code's side calls --------------------------------------------------------------------------------

    @property
    def remaining_s(self) -> float | None:
        """Seconds left to accept or refuse; None: no limit."""
        return None if self.open else super().remaining_s

    def accept(self, headers: Iterable[tuple[bytes, bytes]]) -> int:
        """Accepts it; the field for the subprotocol is among the headers."""
        kept, _ = checked(headers)
        chosen = [value.decode() for name, value in kept if name == b"sec-websocket-protocol"]
        if self.answer.ended():
            return _GONE
        # Before the client can see it: from here on it does not cancel when it leaves.
        self.open = True
        if all(subprotocol in self.subprotocols for subprotocol in chosen):
            return self.start(_SWITCHING_PROTOCOLS, kept)
        # The proxy cannot send that: for the client it is a failure, for user code a client that is gone.
        super().start(500, _TEXT)
        super().send(b"Internal Server Error", True)
        self.leave()
        return _GONE

    def receive_now(self) -> dict[str, Any] | None:
        """ASGI's next message; None: nothing yet, and `readable` says when to look again."""
        found = self.from_client.take()
        if isinstance(found, str):
            return {"type": "websocket.receive", "text": found}
        if isinstance(found, bytes):
            return {"type": "websocket.receive", "bytes": found}
        return None if found is None else {"type": "websocket.disconnect", "code": found.code, "reason": found.reason}

    def readable(self) -> asyncio.Future[None]:
        """Until there is something to receive."""
        return self.from_client.on_message()

    def send_message(self, message: str | bytes) -> int:
        """A whole message."""
        if not isinstance(message, (str, bytes)):
            raise TypeError("a message is str or bytes")
        return self.to_client.put(message)

    def send(self, data: bytes, end: bool = False) -> int:
        """Part of the answer that refuses it; of an accepted one, whether the client is there."""
        if self.open:
            return _ROOM if self.to_client.ended() is None else _GONE
        return super().send(data, end)

    def close(self, code: int, reason: str) -> None:
        """Closes an accepted WebSocket."""
        self.to_client.end(code, reason)

    def abort(self) -> None:
        """It breaks off: user code failed."""
        if self.open:
            self.to_client.end(_BROKEN, "the code of the deployment failed")
            self.done()
        else:
            super().abort()

    def writable(self) -> Any:
        """Until there is room."""
        return self.to_client.on_room() if self.open else super().writable()

    def done(self) -> None:
        """User code has returned."""
        super().done()
        self.answer.end()
        self.returned.set()
