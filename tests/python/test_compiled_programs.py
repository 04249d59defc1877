"""What programs do with FastAPI beyond its routes, on compiled routes as on FastAPI's own."""

import functools
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request, Response
from fastapi.routing import request_response

from both_paths import Sent, check


def traces(scope: Any) -> Any:
    """What routing has left in a scope, as metrics and logs want it."""
    keys = sorted(key for key in scope if "stack" not in key and "cleanup" not in key)
    return keys, getattr(scope.get("route"), "path", None), scope.get("path_params")


def measured(calls: list[Any]) -> FastAPI:
    """With middleware that looks, once the answer comes, at which route it was."""
    app, inner = FastAPI(), APIRouter(prefix="/inner")

    @app.middleware("http")
    async def after(request: Request, call_next: Any) -> Any:
        answer = await call_next(request)
        calls.append(traces(request.scope))
        return answer

    class Measure:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def noted(message: Any) -> None:
                calls.append(traces(scope))
                await send(message)

            await self.app(scope, receive, noted)

    app.add_middleware(Measure)

    async def plain() -> Any:
        return {"a": 1}

    def with_parameter(number: int) -> Any:
        return number

    def failing() -> None:
        raise HTTPException(418)

    for router in (app, inner):
        router.get("/plain")(plain)
        router.get("/numbers/{number}")(with_parameter)
        router.get("/failing")(failing)
    app.include_router(inner)
    return app


@pytest.mark.parametrize("prefix", ["", "/inner"])
@pytest.mark.parametrize("path", ["/plain", "/numbers/3", "/numbers/x", "/failing"])
def test_middleware_sees_which_route_it_was(prefix, path):
    seen = check(measured, Sent("GET", prefix + path))
    assert seen.calls


OVERRIDES = ("generator", "sync generator", "below", "early below")


@pytest.mark.parametrize("fails", ["", "endpoint", "handled in it"])
@pytest.mark.parametrize("by", OVERRIDES)
@pytest.mark.parametrize("path", ["/", "/entered"])
def test_an_override_that_an_earlier_dependency_sets_may_have_a_yield(path, by, fails):
    def make(calls: list[Any]) -> FastAPI:
        app = FastAPI()

        async def entered() -> Any:
            calls.append("entered")
            try:
                yield "other"
            except ValueError:
                calls.append("failed")
                if fails == "handled in it":
                    raise HTTPException(409) from None
                raise
            finally:
                calls.append("left")

        def entered_in_thread() -> Any:
            calls.append("entered")
            yield "other"
            calls.append("left")

        def below(value: Annotated[str, Depends(entered)]) -> str:
            return value

        def early_below(value: Annotated[str, Depends(entered, scope="function")]) -> str:
            return value

        def own() -> str:
            return "own"

        async def first() -> None:
            other = (entered, entered_in_thread, below, early_below)[OVERRIDES.index(by)]
            app.dependency_overrides[own] = other

        async def earlier() -> Any:
            yield 1
            calls.append("left earlier")

        class Noted(Response):
            async def __call__(self, *given: Any) -> None:
                calls.append("sent")
                await super().__call__(*given)

        async def get(_: Annotated[None, Depends(first)], value: Annotated[str, Depends(own)]) -> Any:
            if fails:
                raise ValueError
            return Noted(value)

        app.get("/")(get)
        app.get("/entered", dependencies=[Depends(earlier)])(get)
        return app

    seen = check(make, Sent("GET", path))
    assert "entered" in seen.calls
    if not fails:
        assert seen.messages[1][0] == b"other"
        assert (seen.calls.index("left") < seen.calls.index("sent")) == (by == "early below")


@pytest.mark.parametrize("path", ["/", "/looks", "/overridden"])
def test_an_error_that_is_swallowed_before_the_answer(path):
    def make(calls: list[Any]) -> FastAPI:
        app = FastAPI()

        async def swallows() -> Any:
            try:
                yield
            except HTTPException:
                calls.append("swallowed")

        async def get() -> Any:
            raise HTTPException(409)

        def looks(request: Request) -> None:
            pass

        def nothing() -> None:
            pass

        async def overrides() -> None:
            app.dependency_overrides[nothing] = early

        def early(_: Annotated[None, Depends(swallows, scope="function")]) -> None:
            pass

        app.get("/", dependencies=[Depends(swallows, scope="function")])(get)
        app.get("/looks", dependencies=[Depends(looks), Depends(swallows, scope="function")])(get)
        app.get("/overridden", dependencies=[Depends(overrides), Depends(nothing)])(get)
        return app

    seen = check(make, Sent("GET", path))
    assert seen.calls == ["swallowed"]
    assert seen.raised.startswith("UnboundLocalError")


@pytest.mark.parametrize("where", ["application", "router"])
def test_limits_of_forms_are_heeded(where):
    limits = {"form_limits": {"max_fields": 1}}

    def make(calls: list[Any]) -> FastAPI:
        app = FastAPI(**(limits if where == "application" else {}))
        router = APIRouter(**(limits if where == "router" else {}))

        @router.post("/form")
        async def form(first: Annotated[str, Form()], second: Annotated[str, Form()]) -> str:
            return first + second

        app.include_router(router)
        return app

    headers = [("content-type", "application/x-www-form-urlencoded")]
    seen = check(make, Sent("POST", "/form", headers=headers, body=b"first=1&second=2"), compiled=False)
    assert seen.messages[0][0] == 400


def around(function: Any, calls: list[Any]) -> Any:
    """The function with another around it that has its name."""

    @functools.wraps(function)
    async def noted(*given: Any) -> Any:
        calls.append("around")
        return await function(*given)

    return noted


def wrap_answering(route: Any, calls: list[Any]) -> None:
    route.app = around(route.app, calls)


def wrap_handler(route: Any, calls: list[Any]) -> None:
    route.app = request_response(around(route.get_route_handler(), calls))


def wrap_handle(route: Any, calls: list[Any]) -> None:
    route.handle = around(route.handle, calls)


def note_matches(route: Any, calls: list[Any]) -> None:
    own = route.matches

    def matches(scope: Any) -> Any:
        calls.append("matches")
        return own(scope)

    route.matches = matches


def change_status(route: Any, calls: list[Any]) -> None:
    route.status_code = 202


def change_answer(route: Any, calls: list[Any]) -> None:
    route.response_model_exclude_none = True


@pytest.mark.parametrize(
    "change", [wrap_answering, wrap_handler, wrap_handle, note_matches, change_status, change_answer]
)
def test_a_route_that_was_changed_by_hand_answers_as_it_does_then(change):
    def make(calls: list[Any]) -> FastAPI:
        app = FastAPI()

        @app.get("/")
        async def get() -> dict[str, Any]:
            return {"a": None}

        change(app.routes[-1], calls)
        return app

    check(make, Sent("GET", "/"), compiled=False)
