"""Calls through handles: arguments, results and items are values (`eagleray._values`), exceptions are what `errors`
makes of them.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator
from types import AsyncGeneratorType, FunctionType, GeneratorType
from typing import TYPE_CHECKING, Any

from eagleray import _formats, _values
from eagleray._closing import is_closed
from eagleray._request import current
from eagleray._user_code import children, errors, log
from eagleray._user_code.call_lines import CANCELLED, ERROR, OK, CallLines, clock
from eagleray._user_code.deployed import UserCode, is_async, is_async_generator
from eagleray._user_code.pool import to_its_end

if TYPE_CHECKING:
    from eagleray import _core

_GONE, _WAIT = 0, 2
_GENERATORS = (GeneratorType, AsyncGeneratorType)


class Calls:
    """Runs calls for one deployment; each leaves one of `lines`, if there are such."""

    def __init__(self, user_code: UserCode, lines: CallLines | None = None) -> None:
        self._user_code = user_code
        self._note = _no_line if lines is None else lines.note

    async def on_loop(self, request: _core.Request) -> None:
        """What a task runs: an async method, or a sync one that was not known when the replica began."""
        if not request.claim():
            return
        current.set(request)
        began, name, outcome = clock(), "", OK
        try:
            name, stream = _call_of(request)
            if name:
                body = request.value()
                if body is None:
                    body = await _body(request)
                args, kwargs = _values.load(body, request.regions)
                del body
                answer = self._answer
            else:
                name, stream, args, kwargs = await _dispatched(request)
                answer = self._answer_dispatched
            method, on_loop = self._method(name, stream)
            if type(kwargs) is not dict:
                method = _formats.answering(method, kwargs, name)
            if on_loop:
                result = method(*args, **kwargs)
                # Before the answer goes: what came in shared memory is released ahead of it, and is there to be used
                # again when the caller has the answer.
                del args, kwargs
                if type(result) not in _GENERATORS:
                    result = await result
            else:
                call = to_its_end(method, *args, **kwargs)
                del args, kwargs
                result = await call
                if inspect.isawaitable(result):
                    # Of a plain function around an async one.
                    result = await result
            if stream or answer != self._answer or type(result) in _GENERATORS:
                await answer(request, result, name, stream)
            else:
                request.respond_value(_dump(request, result, "result", name))
        except BaseException as error:
            if isinstance(error, GeneratorExit) and is_closed(request.task):
                request.done()
                raise
            outcome = _failed(request, error)
        self._note(request, name, outcome, began)

    def in_thread(self, request: _core.Request) -> Any:
        """What a pool thread runs. Returns a coroutine when the loop has to do the rest."""
        current.set(request)
        began, name, outcome = clock(), "", OK
        try:
            name, stream = _call_of(request)
            method, _ = self._method(name, stream)
            args, kwargs = _values.load(request.value() or b"", request.regions)
            if type(kwargs) is not dict:
                method = _formats.answering(method, kwargs, name)
            result = method(*args, **kwargs)
            del args, kwargs  # as in `on_loop`
            if inspect.isawaitable(result) or inspect.isasyncgen(result):
                return self._rest(request, result, name, stream, began)
            _check_stream(name, stream, generator=inspect.isgenerator(result))
            if stream:
                _stream_items(request, result, name)
            else:
                request.respond_value(_dump(request, result, "result", name))
        except BaseException as error:
            outcome = _failed(request, error)
        self._note(request, name, outcome, began)
        return None

    def _method(self, name: str, stream: bool) -> tuple[Any, bool]:
        """The method, and whether it is async; refused before anything of it runs where that is possible."""
        method = self._user_code.method(name)
        function = getattr(method, "__func__", method)
        on_loop, generator = _kind_of_function(function) if type(function) is FunctionType else _kind_of(method)
        if generator and not stream:
            _check_stream(name, stream, generator=True)
        return method, on_loop

    async def _rest(self, request: _core.Request, result: Any, name: str, stream: bool, began: float) -> None:
        outcome = OK
        try:
            if inspect.isawaitable(result):
                result = await result
            await self._answer(request, result, name, stream)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and is_closed(request.task):
                request.done()
                raise
            outcome = _failed(request, error)
        self._note(request, name, outcome, began)

    async def _answer(self, request: _core.Request, result: Any, name: str, stream: bool) -> None:
        generator = inspect.isgenerator(result)
        _check_stream(name, stream, generator=generator or inspect.isasyncgen(result))
        if not stream:
            request.respond_value(_dump(request, result, "result", name))
        elif generator:
            await to_its_end(_stream_items, request, result, name)
        else:
            await _stream_async_items(request, result, name)

    async def _answer_dispatched(self, request: _core.Request, result: Any, name: str, stream: bool) -> None:
        """As items, since the first of them, the identity, has been sent."""
        if stream:
            await self._answer(request, result, name, stream)
            return
        _check_stream(name, stream, generator=inspect.isgenerator(result) or inspect.isasyncgen(result))
        request.send_item(_dump(request, result, "result", name))
        request.end_items()


def _kind_of(method: Any) -> tuple[bool, bool]:
    """Whether it is async, and whether it is a generator of either kind."""
    return is_async(method), inspect.isgeneratorfunction(method) or is_async_generator(method)


# Of plain functions, which are what they are.
_kind_of_function = functools.lru_cache(maxsize=256)(_kind_of)


def _call_of(request: _core.Request) -> tuple[str, bool]:
    call = request.call()
    assert call is not None
    return call


async def _dispatched(request: _core.Request) -> tuple[str, bool, list[Any], dict[str, Any]]:
    """Says who this replica is, then waits for the call that the slot was reserved for."""
    from eagleray.serve.context import get_replica_context

    context = get_replica_context()
    identity = {"replica_id": context.replica_id.unique_id, "replica_metadata": context._replica_metadata}
    request.send_item(_values.dump(identity))
    (name, stream, *args), kwargs = _values.load(await _body(request), request.regions)
    return name, stream, args, kwargs


async def _body(request: _core.Request) -> Any:
    body = request.value()
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
    return request.whole(b"".join(parts))


def _check_stream(name: str, stream: bool, *, generator: bool) -> None:
    if generator and not stream:
        raise TypeError(
            f"{name} is a generator, and was called without stream=True: call it with "
            f"handle.options(method_name={name!r}, stream=True), and iterate over what that returns"
        )
    if stream and not generator:
        raise TypeError(
            f"{name} is no generator, and was called with stream=True: call it without, and await what that returns"
        )


def _stream_items(request: _core.Request, items: Any, name: str) -> None:
    try:
        for item in items:
            room = request.send_item(_dump(request, item, "item", name))
            if room == _GONE or (room == _WAIT and not request.wait_writable()):
                break
    finally:
        items.close()
    request.end_items()


async def _stream_async_items(request: _core.Request, items: AsyncGenerator[Any], name: str) -> None:
    try:
        async for item in items:
            room = request.send_item(_dump(request, item, "item", name))
            if room == _WAIT:
                await request.writable()
            elif room == _GONE:
                break
    finally:
        await items.aclose()
    request.end_items()


def _dump(request: _core.Request, value: Any, what: str, name: str) -> Any:
    try:
        return _values.dump_value(value, request.share)
    except Exception as error:
        from eagleray.serve.exceptions import RayServeException

        if isinstance(error, RayServeException):
            raise
        raise TypeError(f"the {what} of {name} ({type(value).__name__}) cannot be pickled: {error}") from None


def _failed(request: _core.Request, error: BaseException) -> str:
    """Answers with an error, if anybody waits for one; returns how the call ended."""
    children.end_if_came_back(error)
    if request.cancelled:
        request.done()
        return CANCELLED
    request.note_failure(type(error).__name__)
    log.failure("call failed: user code raised", error)
    request.respond_value(errors.dump(error), True)
    return ERROR


def _no_line(request: _core.Request, method: str, outcome: str, began: float) -> None:
    """Local testing mode has no log."""
