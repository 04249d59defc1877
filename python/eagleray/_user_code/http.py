"""HTTP requests: user code in a task of its own on the loop, or in a thread of the pool."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from eagleray._closing import is_closed
from eagleray._request import current
from eagleray._user_code import answer
from eagleray._user_code.deployed import takes_argument
from eagleray._user_code.failure import failed
from eagleray._user_code.requests import AsyncRequest, SyncRequest

if TYPE_CHECKING:
    from starlette.requests import Request

    from eagleray import _core


def on_loop(call: Callable[..., Any]) -> Callable[[_core.Request], Coroutine[Any, Any, None]]:
    """What a task runs for each request to an async `call`."""
    argument, coroutine = takes_argument(call), inspect.iscoroutinefunction(call)
    simple, set_current = answer.simple, current.set

    async def run(request: _core.Request) -> None:
        if not request.claim():
            return
        set_current(request)
        try:
            seen = AsyncRequest(request) if argument else None
            result = call() if seen is None else call(seen)
            if coroutine or not answer.is_stream(result):
                result = await result
            if not simple(request, result):
                await answer.complete(request, result, _scope(seen, request))
        except BaseException as error:
            if isinstance(error, GeneratorExit) and is_closed(request.task):
                request.done()
                raise
            failed(request, error)

    return run


def in_thread(
    call: Callable[..., Any], hand_over: Callable[[Coroutine[Any, Any, None], _core.Request], None]
) -> Callable[[_core.Request], None]:
    """What a pool thread runs for each request to a sync `call`; `hand_over` passes the rest to the loop."""
    argument = takes_argument(call)
    simple, set_current = answer.simple, current.set

    async def rest(request: _core.Request, result: Any, scope: dict[str, Any]) -> None:
        try:
            await answer.complete(request, result, scope)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and is_closed(request.task):
                request.done()
                raise
            failed(request, error)

    def run(request: _core.Request) -> None:
        set_current(request)
        try:
            seen = SyncRequest(request) if argument else None
            result = call() if seen is None else call(seen)
            if simple(request, result):
                return
            scope = _scope(seen, request)
            if hasattr(result, "gi_frame"):
                answer.stream(request, result, scope["method"] == "HEAD")
                return
            hand_over(rest(request, result, scope), request)
        except BaseException as error:
            failed(request, error)

    return run


def _scope(seen: Request | None, request: _core.Request) -> dict[str, Any]:
    """The scope that user code has seen, and may have changed; a fresh one if it was given no request."""
    return request.scope() if seen is None else seen.scope  # type: ignore[return-value]


def refuse(request: _core.Request) -> None:
    """The deployment has nothing that answers HTTP."""
    if request.claim():
        request.respond(
            404,
            [(b"content-type", b"text/plain; charset=utf-8")],
            b"this deployment has no __call__, so it answers calls through handles only",
        )


def task_factory(loop: asyncio.AbstractEventLoop) -> Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]:
    """The cheapest way to make a task on `loop` that still honours a factory which user code sets."""

    def make(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if loop.get_task_factory() is None:
            return asyncio.Task(coroutine, loop=loop, name="eagleray request")
        return loop.create_task(coroutine)

    return make
