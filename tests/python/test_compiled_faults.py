"""Each step of a request fails in each way: compiled routes call the same user code in the same order as FastAPI.

A step is where user code runs, or where the server is waited for. There it raises, or it waits for ever and the client
leaves: the task of the request is cancelled, or a cancel scope around it, as middleware does it; user code lets that
through, swallows it, or raises something else, and what runs after it may be cancelled in turn.
"""

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import anyio
import pytest
from fastapi import BackgroundTasks, Body, Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import BaseModel, field_serializer, field_validator

from both_paths import Exchange, Seen, Sent, _scope, json_request
from eagleray._user_code.compiled import serve

SECONDS = 20  # that nothing here takes
TURNS = 50  # of the loop, in which a cancellation gets everywhere


class Broken(Exception):
    """It has a handler."""


class Stop(BaseException):
    """Nobody handles it."""


ERRORS = {
    "http": lambda: HTTPException(418, "no", {"x-why": "a step"}),
    "invalid": lambda: ValueError("not valid"),
    "broken": lambda: Broken("a step"),
    "unhandled": lambda: ZeroDivisionError("a step"),
    "stop": lambda: Stop("a step"),
}
LEAVING = ("leaves", "leaves, swallowed", "leaves, broken", "leaves twice", "scope", "scope, swallowed")
# Where it may wait, in the order of a request.
WAITING = (
    *("receive", "of the app", "below", "in thread", "enter", "enter early", "enter in thread", "endpoint"),
    *("leave early", "send", "task", "task in thread", "leave in thread", "leave"),
)
STEPS = (*WAITING, "validator", "output validator", "serializer")
# The endpoint raises, so that these run.
HANDLERS = ("handler", "handler in thread", "leave early", "leave in thread", "leave")
LAYERS = ("", "cors", "below middleware")
ROUTES = ("/bare", "/entered", "/whole", "/sync")


class Steps:
    """What user code does when it gets to a step."""

    def __init__(self, at: str, fault: str) -> None:
        self.calls: list[Any] = []
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on_in_thread = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._at = at
        self._fault = fault

    def _fails_at(self, name: str) -> bool:
        self.calls.append(name)
        # Cancelled once more where it is left.
        again = self._fault == "leaves twice" and name == "leave" and self.reached.is_set()
        return name == self._at or again

    async def step(self, name: str) -> None:
        if not self._fails_at(name):
            return
        if self._fault in ERRORS:
            raise ERRORS[self._fault]()
        self.reached.set()
        try:
            await self.go_on.wait()
            self.calls.append((name, "was not disturbed"))
        except BaseException as error:
            self.calls.append((name, type(error).__name__))
            self._cancelled()
            if "swallowed" not in self._fault:
                raise

    def step_in_thread(self, name: str) -> None:
        if not self._fails_at(name):
            return
        if self._fault in ERRORS:
            raise ERRORS[self._fault]()
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self.go_on_in_thread.wait(SECONDS)
        self._cancelled()

    def step_at_once(self, name: str) -> None:
        if self._fails_at(name) and self._fault in ERRORS:
            raise ERRORS[self._fault]()

    def _cancelled(self) -> None:
        if self._fault == "leaves, broken":
            raise Broken("instead of the cancellation")


def application(steps: Steps, route: str, layer: str, *, raises: bool) -> FastAPI:
    """One route, with all steps that it can have."""
    step, in_thread = steps.step, steps.step_in_thread

    class Order(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def _check(cls, value: str) -> str:
            steps.step_at_once("validator")
            return value

    class Receipt(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def _check(cls, value: str) -> str:
            steps.step_at_once("output validator")
            return value

        @field_serializer("name")
        def _write(self, value: str) -> str:
            steps.step_at_once("serializer")
            return value

    async def of_the_app() -> None:
        await step("of the app")

    async def below() -> int:
        await step("below")
        return 1

    def threaded(value: Annotated[int, Depends(below)]) -> int:
        in_thread("in thread")
        return value

    def noting(name: str, error: BaseException) -> None:
        steps.calls.append((name, "got", type(error).__name__))

    async def entered(value: Annotated[int, Depends(threaded)]) -> Any:
        await step("enter")
        try:
            yield value
        except BaseException as error:
            noting("entered", error)
            raise
        finally:
            await step("leave")

    async def early() -> Any:
        await step("enter early")
        try:
            yield 1
        except BaseException as error:
            noting("early", error)
            raise
        finally:
            await step("leave early")

    def entered_in_thread() -> Any:
        in_thread("enter in thread")
        try:
            yield 1
        except BaseException as error:
            noting("in thread", error)
            raise
        finally:
            in_thread("leave in thread")

    def looks(request: Request) -> str:
        return request.url.path

    app = FastAPI(dependencies=[Depends(of_the_app)])

    @app.exception_handler(Broken)
    async def on_broken(request: Request, error: Broken) -> Any:
        await step("handler")
        return JSONResponse({"broken": str(error)}, 599)

    @app.exception_handler(LookupError)
    def on_lookup(request: Request, error: LookupError) -> Any:
        in_thread("handler in thread")
        return JSONResponse({"looked": str(error)}, 598)

    async def task() -> None:
        await step("task")

    def answer(order: Order, background: BackgroundTasks) -> Any:
        if raises:
            raise KeyError("k") if steps._at == "handler in thread" else Broken("endpoint")
        background.add_task(task)
        background.add_task(in_thread, "task in thread")
        return {"name": order.name}

    async def bare(
        order: Annotated[Order, Body()], background: BackgroundTasks, value: Annotated[int, Depends(threaded)]
    ) -> Any:
        await step("endpoint")
        return answer(order, background)

    yields = {"a": Depends(entered), "b": Depends(early, scope="function"), "c": Depends(entered_in_thread)}

    async def with_yield(
        order: Order, background: BackgroundTasks, a: int = yields["a"], b: int = yields["b"], c: int = yields["c"]
    ) -> Any:
        await step("endpoint")
        return answer(order, background)

    def sync(
        order: Order, background: BackgroundTasks, a: int = yields["a"], b: int = yields["b"], c: int = yields["c"]
    ) -> Any:
        in_thread("endpoint")
        return answer(order, background)

    endpoint: Any = {"/bare": bare, "/entered": with_yield, "/whole": with_yield, "/sync": sync}[route]
    more = [Depends(looks)] if route == "/whole" else []
    app.post(route, response_model=Receipt, dependencies=more)(endpoint)
    if layer == "cors":
        app.add_middleware(CORSMiddleware, allow_origins=["http://o"], allow_credentials=True)
    elif layer:

        @app.middleware("http")
        async def through(request: Request, call_next: Any) -> Any:
            steps.calls.append("before")
            response = await call_next(request)
            steps.calls.append("after")
            return response

    return app


class Waiting(Exchange):
    """A server where receiving and sending are steps too."""

    def __init__(self, sent: Sent, steps: Steps) -> None:
        super().__init__(sent)
        self._steps = steps

    async def receive(self) -> dict[str, Any]:
        if len(self._pieces) == 1:
            await self._steps.step("receive")
        return await super().receive()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "http.response.body" and message.get("body"):
            await self._steps.step("send")


async def outcome(route: str, at: str, fault: str, layer: str, *, raises: bool, compile_it: bool) -> Seen:
    """What came of a request."""
    steps = Steps(at, fault)
    app = application(steps, route, layer, raises=raises)
    app.middleware_stack = app.build_middleware_stack()
    sent = json_request("POST", route, {"name": "bolt"}, piece=5)
    sent = sent._replace(headers=[*sent.headers, ("origin", "http://o")])
    exchange, scope, around = Waiting(sent, steps), _scope(sent), anyio.CancelScope()
    compiled = serve.compile_routes(app)
    found = compiled.find(scope)
    assert found is not None, compiled.summary()

    async def run() -> None:
        with around:
            if not compile_it:
                await app(scope, exchange.receive, exchange.send)
            elif compiled.is_whole:
                await compiled.run(*found, scope, exchange)
            else:
                serve.Below.put(compiled, app)
                await app(scope, exchange.receive, exchange.send)

    async def leave(task: asyncio.Task[None]) -> None:
        while not task.done():
            reached = asyncio.ensure_future(steps.reached.wait())
            await asyncio.wait([task, reached], return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
            if steps.reached.is_set():
                steps.reached.clear()
                if fault.startswith("scope"):
                    around.cancel()
                else:
                    task.cancel()
                # Below middleware what is being left is shielded; whoever has not heard of it by then goes on.
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                steps.go_on.set()
                steps.go_on_in_thread.set()

    raised = ""
    async with asyncio.timeout(SECONDS):
        task = asyncio.ensure_future(run())
        await leave(task)
        try:
            task.result()
        except BaseException as error:
            # A cancellation names the task.
            raised = type(error).__name__ + (f": {error}" if isinstance(error, Exception) else "")
    return Seen(exchange.messages, raised, steps.calls, found is not None)


def check(route: str, at: str, fault: str, layer: str, *, raises: bool = False) -> Seen:
    """Fails unless both paths do the same."""

    async def one(*, compile_it: bool) -> Seen:
        seen = await outcome(route, at, fault, layer, raises=raises, compile_it=compile_it)
        # A generator that was being entered in a thread when the client left is closed when it is collected.
        gc.collect()
        return seen

    async def both() -> tuple[Seen, Seen]:
        return await one(compile_it=False), await one(compile_it=True)

    # Which is first, the end of a thread or a cancellation at that moment, is chance on either path.
    for _ in range(5 if "thread" in at and fault not in ERRORS else 1):
        asgi, compiled = asyncio.run(both())
        if compiled == asgi:
            break
    assert compiled == asgi, (at, fault)
    return asgi


@pytest.fixture(autouse=True)
def _quick_collections() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("fault", ERRORS)
def test_a_step_that_raises(route, fault, layer):
    reached = [at for at in STEPS if at in check(route, at, fault, layer).calls]
    assert len(reached) >= (11 if route == "/bare" else len(STEPS))
    for at in HANDLERS:
        check(route, at, fault, layer, raises=True)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("fault", LEAVING)
def test_a_client_that_leaves_at_a_step(route, fault, layer):
    reached = [at for at in WAITING if at in check(route, at, fault, layer).calls]
    assert len(reached) >= (8 if route == "/bare" else len(WAITING))
    for at in HANDLERS:
        check(route, at, fault, layer, raises=True)
