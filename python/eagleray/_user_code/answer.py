"""From what user code returns to what is sent.

`simple` answers at once, on whatever thread, what needs no waiting: that is nearly everything. The rest (streams,
files, background tasks, subclasses that send on their own) is answered on the loop by `complete`, or for a plain
generator of a sync handler by the thread that runs it, with `stream`.

A bare generator is a streamed answer. Its first item says what the answer is: text or bytes, sent as they are, or
else one line of JSON for each item.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from eagleray._closing import is_closed
from eagleray._user_code.asgi import Exchange
from eagleray._user_code.encode import encode
from eagleray._user_code.pool import to_its_end

if TYPE_CHECKING:
    from eagleray import _core

_BYTES, _TEXT, _JSON = 0, 1, 2
_GONE, _WAIT = 0, 2
_own_call = Response.__call__
# Content types of bare generators.
_RAW, _TEXT_TYPE, _LINES = b"text/plain", b"text/plain; charset=utf-8", b"application/x-ndjson"


def simple(request: _core.Request, result: Any) -> bool:
    """Answers with `result` unless that may have to wait; False: it may."""
    kind = type(result)
    if kind is str:
        request.respond_plain(_TEXT, result)
    elif kind is dict or kind is list:
        request.respond_plain(_JSON, encode(result))
    elif result is None:
        request.respond_plain(_BYTES, b"")
    elif isinstance(result, Response):
        if kind.__call__ is not _own_call or result.background is not None:
            return False
        request.respond(result.status_code, result.raw_headers, _bytes(result.body))
    elif isinstance(result, (bytes, bytearray, memoryview)):
        request.respond_plain(_BYTES, _bytes(result))
    elif isinstance(result, str) and not hasattr(result, "value"):
        request.respond_plain(_TEXT, str(result))
    elif is_stream(result) or inspect.isawaitable(result):
        return False
    else:
        request.respond_plain(_JSON, encode(result))
    return True


def is_stream(result: Any) -> bool:
    """A bare generator of either kind."""
    return inspect.isgenerator(result) or inspect.isasyncgen(result)


async def complete(request: _core.Request, result: Any, scope: dict[str, Any]) -> None:
    """Answers with `result`, on the loop; the slot is free when background tasks are done."""
    if inspect.isawaitable(result):
        result = await result
    if inspect.isasyncgen(result):
        await _stream_async(request, result, scope["method"] == "HEAD")
    elif inspect.isgenerator(result):
        await to_its_end(stream, request, result, scope["method"] == "HEAD")
    elif isinstance(result, Response):
        exchange = Exchange(request)
        try:
            await result(scope, exchange.receive, exchange.send)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and is_closed(request.task):
                raise
            exchange.failed(error)
        else:
            exchange.returned()
    elif not simple(request, result):
        raise ValueError(f"a value of type {type(result).__name__} cannot be an answer")


def stream(request: _core.Request, chunks: Iterator[Any], head_only: bool) -> None:
    """Answers with a generator, on this thread."""
    send = _Chunks(request)
    try:
        for chunk in chunks:
            room = send(chunk)
            if head_only or room == _GONE or (room == _WAIT and not request.wait_writable()):
                break
        send.end()
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    request.done()


async def _stream_async(request: _core.Request, chunks: AsyncIterator[Any], head_only: bool) -> None:
    send = _Chunks(request)
    try:
        async for chunk in chunks:
            room = send(chunk)
            if head_only or room == _GONE:
                break
            if room == _WAIT:
                await request.writable()
        send.end()
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
    request.done()


class _Chunks:
    """Items of a bare generator as body bytes.

    The head leaves with the first item, so a generator that raises before it still gets a 500.
    """

    def __init__(self, request: _core.Request) -> None:
        self._request = request
        self._content_type = b""

    def __call__(self, chunk: Any) -> int:
        if not self._content_type:
            self._start(_content_type(chunk))
        if self._content_type is _LINES:
            data = encode(chunk).encode() + b"\n"
        elif isinstance(chunk, str):
            data = chunk.encode()
        elif isinstance(chunk, (bytes, bytearray, memoryview)):
            data = bytes(chunk)
        else:
            raise TypeError(
                f"a generator whose first item was text or bytes yielded a value of type {type(chunk).__name__}; yield "
                "text or bytes only, or values only, which become lines of JSON"
            )
        return self._request.send(data)

    def _start(self, content_type: bytes) -> None:
        self._content_type = content_type
        self._request.start(200, [(b"content-type", content_type)])

    def end(self) -> None:
        if not self._content_type:
            self._start(_RAW)
        self._request.send(b"", True)


def _content_type(chunk: Any) -> bytes:
    if isinstance(chunk, str):
        return _TEXT_TYPE
    return _RAW if isinstance(chunk, (bytes, bytearray, memoryview)) else _LINES


def _bytes(body: Any) -> bytes:
    return body if type(body) is bytes else bytes(body)
