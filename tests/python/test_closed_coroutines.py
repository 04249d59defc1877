"""A GeneratorExit: an error if user code raises it, else the end of a coroutine that nobody runs any more."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eagleray import _values
from eagleray._user_code import asgi, http
from eagleray._user_code.calls import Calls
from eagleray._user_code.deployed import UserCode


class Request:
    """As far as these coroutines look at one."""

    regions = None
    cancelled = answered = False
    remaining_s = None
    request_id = ""
    task: asyncio.Task[None] | None = None

    def __init__(self) -> None:
        self.outcome: list[Any] = []

    def claim(self) -> bool:
        return True

    def begin(self) -> dict[str, Any]:
        return {"type": "http", "method": "GET"}

    def call(self) -> tuple[str, bool]:
        return "__call__", False

    def value(self) -> Any:
        return _values.dump((("request",), {}))

    def receive(self) -> None: ...

    def body(self) -> None: ...

    def respond(self, status: int, *_: Any) -> None:
        self.outcome.append(status)

    def respond_value(self, value: Any, failed: bool = False) -> None:
        self.outcome.append("error" if failed else value)

    def note_failure(self, name: str) -> None: ...

    def done(self) -> None:
        self.outcome.append("done")


async def waits(*_: Any) -> None:
    await asyncio.get_running_loop().create_future()


async def raises(*_: Any) -> None:
    raise GeneratorExit


def of_http(code: Callable[..., Awaitable[None]], request: Any) -> Any:
    return http.on_loop(code)(request)


def of_asgi(code: Callable[..., Awaitable[None]], request: Any) -> Any:
    return asgi.on_loop(code, {})(request)


def of_call(code: Callable[..., Awaitable[None]], request: Any) -> Any:
    return Calls(UserCode(code, is_function=True)).on_loop(request)


async def end(task: asyncio.Task[None]) -> None:
    """So that nothing is logged of a task that has lost its coroutine."""
    task.cancel()
    await asyncio.wait([task])
    assert isinstance(task.exception(), RuntimeError)


@pytest.mark.parametrize("kind", [of_http, of_asgi, of_call])
def test_a_coroutine_that_is_closed_gives_its_slot_back_and_answers_nothing(kind: Callable[..., Any]) -> None:
    async def main() -> None:
        request = Request()
        coroutine = kind(waits, request)
        request.task = asyncio.create_task(coroutine)
        await asyncio.sleep(0)
        coroutine.close()  # within another task that runs, as the collector may do it
        assert request.outcome == ["done"]
        await end(request.task)

    asyncio.run(main())
    request, loop = Request(), asyncio.new_event_loop()
    coroutine = kind(waits, request)
    request.task = loop.create_task(coroutine)
    loop.call_soon(loop.stop)
    loop.run_forever()
    coroutine.close()  # where no loop runs
    assert request.outcome == ["done"]
    loop.run_until_complete(end(request.task))
    loop.close()


@pytest.mark.parametrize(("kind", "outcome"), [(of_http, 500), (of_asgi, 500), (of_call, "error")])
def test_one_that_user_code_raises_is_an_error(kind: Callable[..., Any], outcome: Any) -> None:
    async def main() -> None:
        request = Request()
        request.task = asyncio.create_task(kind(raises, request))
        await request.task
        assert request.outcome == [outcome]

    asyncio.run(main())
