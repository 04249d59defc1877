"""Calls through handles: arguments and results are pickles, an exception travels with its traceback."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import traceback
from typing import TYPE_CHECKING, Any

from eagleray import _values
from eagleray._replica import log
from eagleray._replica.context import current
from eagleray._replica.pool import to_its_end
from eagleray._replica.user_code import UserCode, is_async

if TYPE_CHECKING:
    from eagleray import _core

# The attribute in which an exception carries its traceback; the caller's side takes it out.
REMOTE_TRACEBACK = "__eagleray_traceback__"
_GONE, _WAIT = 0, 2


class Calls:
    """Runs calls for one deployment."""

    def __init__(self, user_code: UserCode) -> None:
        self._user_code = user_code

    async def on_loop(self, request: _core.Request) -> None:
        """What a task runs: an async method, or a sync one that was not known when the replica began."""
        if not request.claim():
            return
        current.set(request)
        try:
            name, stream = _call_of(request)
            method = self._user_code.method(name)
            args, kwargs = _values.load(await _body(request))
            if is_async(method):
                result = method(*args, **kwargs)
                if not (inspect.isasyncgen(result) or inspect.isgenerator(result)):
                    result = await result
            else:
                result = await to_its_end(method, *args, **kwargs)
            await self._answer(request, result, stream)
        except GeneratorExit:
            request.done()
            raise
        except BaseException as error:
            _failed(request, error)

    def in_thread(self, request: _core.Request) -> Any:
        """What a pool thread runs. Returns a coroutine when the loop has to do the rest."""
        current.set(request)
        try:
            name, stream = _call_of(request)
            method = self._user_code.method(name)
            args, kwargs = _values.load(request.body() or b"")
            result = method(*args, **kwargs)
            if inspect.isawaitable(result) or inspect.isasyncgen(result):
                return self._rest(request, result, stream)
            if inspect.isgenerator(result):
                _check_stream(stream, generator=True)
                _stream_items(request, result)
            else:
                _check_stream(stream, generator=False)
                request.respond_value(_values.dump(result))
        except BaseException as error:
            _failed(request, error)
        return None

    async def _rest(self, request: _core.Request, result: Any, stream: bool) -> None:
        try:
            if inspect.isawaitable(result):
                result = await result
            await self._answer(request, result, stream)
        except GeneratorExit:
            request.done()
            raise
        except BaseException as error:
            _failed(request, error)

    async def _answer(self, request: _core.Request, result: Any, stream: bool) -> None:
        generator = inspect.isasyncgen(result) or inspect.isgenerator(result)
        _check_stream(stream, generator=generator)
        if not generator:
            request.respond_value(_values.dump(result))
        elif inspect.isgenerator(result):
            await to_its_end(_stream_items, request, result)
        else:
            async for item in result:
                room = request.send_item(_values.dump(item))
                if room == _WAIT:
                    await request.writable()
                elif room == _GONE:
                    await result.aclose()
                    break
            request.end_items()


def _call_of(request: _core.Request) -> tuple[str, bool]:
    call = request.call()
    assert call is not None
    return call


async def _body(request: _core.Request) -> bytes:
    body = request.body()
    if body is not None:
        return body
    parts = []
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        parts.append(message["body"])
        more = message["more_body"]
    return b"".join(parts)


def _check_stream(stream: bool, *, generator: bool) -> None:
    if generator and not stream:
        raise TypeError("the method is a generator: call it with handle.options(stream=True)")
    if stream and not generator:
        raise TypeError("the method is no generator, so it cannot be called with stream=True")


def _stream_items(request: _core.Request, items: Any) -> None:
    for item in items:
        room = request.send_item(_values.dump(item))
        if room == _GONE or (room == _WAIT and not request.wait_writable()):
            items.close()
            break
    request.end_items()


def _failed(request: _core.Request, error: BaseException) -> None:
    if request.cancelled:
        request.done()
        return
    log.failure("call failed: user code raised", error)
    request.respond_value(_dump_error(error), True)


def _dump_error(error: BaseException) -> bytes:
    from eagleray.serve.exceptions import RayServeException

    text = "".join(traceback.format_exception(error))
    try:
        setattr(error, REMOTE_TRACEBACK, text)
        data = _values.dump(error)
        # Many an exception pickles but cannot be built again: better found here than by the caller.
        if isinstance(pickle.loads(data), BaseException):
            return data
    except BaseException:
        log.logger.warning("an exception of type %s cannot be pickled", type(error).__name__)
    replacement = RayServeException(f"{type(error).__module__}.{type(error).__qualname__}: {_text(error)}")
    setattr(replacement, REMOTE_TRACEBACK, text)
    return pickle.dumps(replacement, protocol=5)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be shown)"
