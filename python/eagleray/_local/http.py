"""One HTTP request in this process: the stand-in for the native request, and its client's end.

`HttpRequest` is what `_replica.http`, `_replica.asgi` and `_replica.answer` work with, so requests, conversions of
results and errors are those of production. `Answer` is where a client reads: `PIECES` pieces of a body wait in it, and
user code waits for room.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from eagleray._local.exchange import Request

PIECES = 16
_GONE, _ROOM, _WAIT = 0, 1, 2
_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_PLAIN = (b"text/plain", b"text/plain; charset=utf-8", b"application/json")
_TEXT = [(b"content-type", _PLAIN[1])]

Headers = list[tuple[bytes, bytes]]


def checked(headers: Iterable[tuple[bytes, bytes]]) -> tuple[Headers, int | None]:
    """Headers as they are sent, and what they promise as the length of the body.

    Raises:
        TypeError, ValueError: one of them cannot be sent.
    """
    kept: Headers = []
    length: int | None = None
    for given, value in headers:
        if type(given) is not bytes or type(value) is not bytes:
            raise TypeError(f"header names and values are bytes, got {value if type(given) is bytes else given!r}")
        name = given.lower()
        if not _NAME.fullmatch(name):
            raise ValueError(f"invalid header name {name!r}")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"invalid value of header {name!r}: {value!r}")
        if name == b"content-length":
            if not value.isdigit() or length not in (None, int(value)):
                raise ValueError(f"invalid content-length {value!r}")
            length = int(value)
        kept.append((name, value))
    return kept, length


class Answer:
    """The client's end: waits for the head, then takes the body piece by piece."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._broken = False
        self._room: list[Callable[[], None]] = []

    def wait(self) -> None:
        """Until the head is there."""
        with self._changed:
            self._changed.wait_for(lambda: self.status or self._ended)

    def pieces(self) -> Iterator[bytes]:
        """The body.

        Raises:
            ConnectionError: it broke off before its end, as user code raised.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self._ended)
                if not self._pieces:
                    break
                piece = self._pieces.popleft()
                self._tell()
            yield piece
        if self._broken:
            raise ConnectionError("the answer broke off before its end: user code raised; its traceback is in the log")

    # --- the answering end's ----------------------------------------------------------------------------------------

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The head; the second one of a request changes nothing."""
        with self._changed:
            if not self.status:
                self.status, self.headers = status, [(bytes(name), bytes(value)) for name, value in headers]
                self._tell()

    def put(self, piece: bytes) -> int:
        """Part of the body: 0 nobody takes it, 1 there is room for more, 2 wait first."""
        with self._changed:
            if self._ended:
                return _GONE
            if piece:
                self._pieces.append(piece)
                self._tell()
            return _ROOM if self.has_room() else _WAIT

    def end(self, *, broken: bool = False) -> None:
        """The end, which may come too early."""
        with self._changed:
            self._broken = self._broken or (broken and not self._ended)
            self._ended = True
            self._tell()

    def ended(self) -> bool:
        """Whether nothing more can be put."""
        return self._ended

    def has_room(self) -> bool:
        """Whether `put` would not have to wait."""
        return self._ended or len(self._pieces) < PIECES

    def wait_for_room(self) -> bool:
        """For a thread. False: nobody takes any more."""
        with self._changed:
            self._changed.wait_for(self.has_room)
            return not self._ended

    def on_room(self, tell: Callable[[], None]) -> None:
        """Calls `tell`, on some thread, once there is room."""
        with self._changed:
            if not self.has_room():
                self._room.append(tell)
                return
        tell()

    def _tell(self) -> None:
        self._changed.notify_all()
        if self.has_room():
            waiting, self._room = self._room, []
            for tell in waiting:
                tell()


class HttpRequest(Request):
    """One request, as user code's side sees it."""

    def __init__(
        self,
        method: str,
        path: bytes,
        query: bytes,
        headers: Headers,
        body: bytes,
        *,
        root_path: str,
        request_id: str,
        multiplexed_model_id: str = "",
        session_id: str = "",
        timeout_s: float | None = None,
    ) -> None:
        super().__init__(request_id, multiplexed_model_id, None if timeout_s is None else time.monotonic() + timeout_s)
        self.answer = Answer()
        self.session_id = session_id
        self.route = root_path or "/"
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": root_path,
            "headers": headers,
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 0),
        }
        self._body: bytes | None = body
        # Of the answer: it has no body, and else what is left of a length that it promises.
        self._bodyless = False
        self._promised: int | None = None
        self._leaving: asyncio.Future[Any] | None = None

    def leave(self) -> None:
        """The client leaves: async code is cancelled, and what it sends goes nowhere."""
        if not self.finished and not self.answer.ended():
            self.answer.end()
            self.cancel()

    def late(self) -> None:
        """The time limit has passed."""
        if not self.finished and not self.answer.ended():
            if not self.answered:
                self._respond(408, _TEXT, b"408: the time limit of the request has passed")
            self.answer.end(broken=True)
            self.cancel()

    def _cancel_task(self) -> None:
        if self._leaving is not None and not self._leaving.done():
            self._leaving.set_result({"type": "http.disconnect"})
        super()._cancel_task()

    # --- what user code's side calls --------------------------------------------------------------------------------

    def begin(self) -> dict[str, Any] | None:
        """Claims the request; its scope, or None if nobody wants it any more."""
        return dict(self._scope) if self.claim() else None

    def scope(self) -> dict[str, Any]:
        """The ASGI scope."""
        return dict(self._scope)

    def call(self) -> None:
        """It is no call through a handle."""

    def body(self) -> bytes | None:
        """The whole body, once."""
        body, self._body = self._body, None
        return body

    def receive(self) -> Any:
        """ASGI's `receive`: an awaitable, which is a future if it has to wait."""
        future = asyncio.get_running_loop().create_future()
        body = self.body()
        if body is not None:
            future.set_result({"type": "http.request", "body": body, "more_body": False})
        elif self.cancelled:
            future.set_result({"type": "http.disconnect"})
        else:
            self._leaving = future
        return future

    def respond(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, done: bool = True) -> None:
        """A whole answer."""
        kept, length = checked(headers)
        if not self._has_no_body(status) and length not in (None, len(body)):
            raise _wrong_length(length or 0, len(body))
        self._respond(status, kept, body)
        if done:
            self.done()

    def _respond(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        self.start(status, headers)
        self.send(body, True)

    def _has_no_body(self, status: int) -> bool:
        if type(status) is not int:
            raise TypeError(f"a status is int, got {status!r}")
        if not (200 <= status <= 999 or (status == 101 and self.is_websocket)):
            raise ValueError(f"{status} is no status of an answer")
        return self._scope.get("method") == "HEAD" or status in (101, 204, 304)

    def respond_plain(self, kind: int, body: str | bytes) -> None:
        """A whole answer with status 200 and one of three content types."""
        self.respond(200, [(b"content-type", _PLAIN[kind])], body.encode() if isinstance(body, str) else body)

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> int:
        """The head."""
        kept, length = checked(headers)
        bodyless = self._has_no_body(status)
        if self.answered:
            return _GONE
        self._bodyless, self._promised = bodyless, None if bodyless else length
        self.answered = True
        self.answer.start(status, kept)
        return _ROOM

    def send(self, data: bytes, end: bool = False) -> int:
        """Part of the body."""
        if self._bodyless:
            data = b""
        elif self._promised is not None:
            if len(data) > self._promised or (end and len(data) != self._promised):
                raise _wrong_length(self._promised, len(data))
            self._promised -= len(data)
        room = self.answer.put(data)
        if end:
            self.answer.end()
        return room

    def abort(self) -> None:
        """The answer breaks off."""
        self.answer.end(broken=True)
        self.done()

    async def writable(self) -> None:
        """Until there is room."""
        loop = asyncio.get_running_loop()
        room = asyncio.Event()

        def tell() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(room.set)

        self.answer.on_room(tell)
        await room.wait()

    def wait_writable(self) -> bool:
        """The same for a thread. False: nobody takes any more."""
        return self.answer.wait_for_room()


def _wrong_length(promised: int, there: int) -> ValueError:
    return ValueError(f"content-length promises {promised} bytes more of the body, and {there} are there")
