"""From what user code returns to what is sent.

`simple` answers at once, on whatever thread, what needs no waiting: that is nearly everything. The rest (streams,
files, background tasks, subclasses that send on their own) is answered on the loop by `complete`, or for a plain
generator of a sync handler by the thread that runs it, with `stream`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from eagleray._replica import log
from eagleray._replica.encode import encode
from eagleray._replica.pool import to_its_end

if TYPE_CHECKING:
    from eagleray import _core

_BYTES, _TEXT, _JSON = 0, 1, 2
_GONE, _WAIT = 0, 2
_own_call = Response.__call__
_PLAIN_TYPE = [(b"content-type", b"text/plain; charset=utf-8")]
LATE = (408, _PLAIN_TYPE, b"408: the time limit of the request has passed")
"""Status, headers and body when the deadline passed before there was an answer."""


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
        await _stream_async(request, result)
    elif inspect.isgenerator(result):
        await to_its_end(stream, request, result)
    elif isinstance(result, Response):
        if type(result).__call__ is _own_call:
            request.respond(result.status_code, result.raw_headers, _bytes(result.body), False)
            if result.background is not None:
                await result.background()
        else:
            await result(scope, request.receive, _Send(request))
        request.done()
    elif not simple(request, result):
        raise ValueError(f"a value of type {type(result).__name__} cannot be an answer")


class _Send:
    """ASGI's `send` for a response that writes itself."""

    __slots__ = ("_request",)

    def __init__(self, request: _core.Request) -> None:
        self._request = request

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        request = self._request
        kind = message["type"]
        if kind == "http.response.start":
            room = request.start(message["status"], message.get("headers", ()))
            last = False
        elif kind == "http.response.body":
            last = not message.get("more_body", False)
            room = request.send(_bytes(message.get("body", b"")), last)
        else:
            raise ValueError(f"this replica does not send {kind!r}")
        if last:
            return
        if room == _WAIT:
            await request.writable()
        elif room == _GONE:
            raise OSError("nobody takes this answer any more")


def stream(request: _core.Request, chunks: Iterator[Any]) -> None:
    """Answers with a generator, on this thread."""
    send = _Chunks(request)
    try:
        for chunk in chunks:
            room = send(chunk)
            if room == _GONE or (room == _WAIT and not request.wait_writable()):
                break
        send.end()
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    request.done()


async def _stream_async(request: _core.Request, chunks: AsyncIterator[Any]) -> None:
    send = _Chunks(request)
    try:
        async for chunk in chunks:
            room = send(chunk)
            if room == _WAIT:
                await request.writable()
            elif room == _GONE:
                break
        send.end()
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
    request.done()


class _Chunks:
    """Items of a bare generator as body bytes.

    The head leaves with the first item, whose type chooses the content type, so a generator that raises before it
    still gets a 500.
    """

    def __init__(self, request: _core.Request) -> None:
        self._request = request
        self._started = False

    def __call__(self, chunk: Any) -> int:
        if isinstance(chunk, str):
            data, content_type = chunk.encode(), b"text/plain; charset=utf-8"
        elif isinstance(chunk, (bytes, bytearray, memoryview)):
            data, content_type = bytes(chunk), b"text/plain"
        else:
            data, content_type = encode(chunk).encode() + b"\n", b"application/x-ndjson"
        if not self._started:
            self._start(content_type)
        return self._request.send(data)

    def _start(self, content_type: bytes) -> None:
        self._started = True
        self._request.start(200, [(b"content-type", content_type)])

    def end(self) -> None:
        if not self._started:
            self._start(b"text/plain")
        self._request.send(b"", True)


def failed(request: _core.Request, error: BaseException) -> None:
    """User code raised, or its answer cannot be sent: one clear answer, the details in the log."""
    if request.cancelled:
        request.done()
        return
    try:
        status, headers, text = known_error(error)
        # The router says 408 at the same moment. A call that user code made may hear of the deadline first, and then
        # this is the answer: it must not depend on who is quicker.
        late = request.remaining_s == 0.0
        if late:
            status, headers, text = LATE
        if status == 500 or (late and not isinstance(error, TimeoutError)):
            log.failure("request failed: user code raised" if not request.answered else "the answer broke off", error)
    except Exception:
        status, headers, text = 500, _PLAIN_TYPE, b"Internal Server Error"
    if request.answered:
        request.abort()
    else:
        request.respond(status, headers, text)


def known_error(error: BaseException) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body for an error; 500 for one that is the user's own."""
    exceptions = sys.modules.get("eagleray.serve.exceptions")
    if exceptions is not None:
        if isinstance(error, exceptions.BackPressureError):
            headers = list(_PLAIN_TYPE)
            if error.retry_after_s is not None:
                headers.append((b"retry-after", str(-int(-error.retry_after_s // 1)).encode()))
            return error.status_code, headers, error.message.encode()
        if isinstance(error, exceptions.DeploymentUnavailableError):
            return 503, _PLAIN_TYPE, error.message.encode()
    return 500, _PLAIN_TYPE, b"Internal Server Error"


def _bytes(body: Any) -> bytes:
    return body if type(body) is bytes else bytes(body)
