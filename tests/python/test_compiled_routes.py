"""Compiled FastAPI routes answer as FastAPI does: each request goes both ways, and all that can be seen is compared."""

import asyncio
import contextvars
import datetime
import enum
import json
import warnings
from typing import Annotated, Any

import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    Security,
    UploadFile,
)
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from fastapi.security import APIKeyHeader, HTTPBearer, OAuth2PasswordBearer, SecurityScopes
from pydantic import BaseModel, Field, field_validator

from both_paths import Sent, check, json_request

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    name: str
    price: float = Field(gt=0)
    tags: list[str] = []
    when: datetime.datetime | None = None

    @field_validator("name")
    @classmethod
    def _is_no_bad_name(cls, value: str) -> str:
        if value == "bad":
            raise ValueError("a bad name")
        return value


class Filter(BaseModel):
    model_config = {"extra": "forbid"}
    limit: int = 10
    colors: list[Color] = []


class Out(BaseModel):
    name: str
    price: float = 1.0
    secret: str | None = None


class Broken(Exception):
    pass


def plain(calls: list[Any]) -> FastAPI:
    app = FastAPI()

    @app.get("/dict")
    async def get_dict():
        calls.append("dict")
        return {
            "name": "bolt",
            "none": None,
            "yes": True,
            "list": [1, 2.5, 'é\n\u2028"\\\x01\x7f'],
            "nested": {"a": ()},
        }

    @app.get("/odd/{kind}")
    async def odd(kind: str) -> Any:
        calls.append(kind)
        return {
            "nan": {"x": float("nan")},
            "sa": {"_sa_state": 1, "kept": 2},
            "enum": {Color.RED: Color.BLUE},
            "keys": {7: 2, None: 3, True: 4, 2.5: 5},
            "set": {1},
            "model": Item(name="a", price=2),
            "date": datetime.date(2020, 1, 2),
            "surrogate": "\ud800",
            "deep": json.loads("[" * 80 + "]" * 80),
            "huge": 2**70,
            "floats": [1e300, 1e-7, -0.0, 5e-324, 1e16, 123456789.123456789],
            "bytes": b"\xff",
            "object": object(),
            "none": None,
            "text": "plain",
            "subclass": type("Mine", (dict,), {})(a=1),
        }[kind]

    @app.get("/items/{item_id}")
    def read(
        item_id: int,
        q: str | None = None,
        n: Annotated[int, Query(ge=1, le=3)] = 2,
        color: Color = Color.RED,
        many: Annotated[list[int], Query()] = [7],  # noqa: B006
        alias: Annotated[str, Query(alias="the-alias")] = "x",
    ):
        calls.append((item_id, q, n, color, many, alias))
        return [item_id, q, n, color, many, alias]

    @app.get("/filter")
    async def by_model(filter_query: Annotated[Filter, Query()]):
        return filter_query

    @app.get("/heads")
    async def heads(
        x_token: Annotated[str, Header()],
        user_agent: Annotated[str | None, Header()] = None,
        x_many: Annotated[list[str] | None, Header()] = None,
        session: Annotated[int, Cookie()] = 0,
    ):
        return {"token": x_token, "agent": user_agent, "many": x_many, "session": session}

    @app.post("/items", status_code=201)
    async def create(item: Item) -> Item:
        calls.append(item.name)
        return item

    @app.put("/two")
    async def two(item: Item, other: Annotated[Item, Body()], number: Annotated[int, Body(gt=3)] = 4):
        return {"item": item, "other": other, "number": number}

    @app.post("/any")
    async def anything(value: Annotated[Any, Body()] = None):
        calls.append(value)
        return value

    @app.post("/out", response_model=Out, response_model_exclude_unset=True)
    def out(item: Item):
        return {"name": item.name, "extra": 1}

    @app.get("/bad-out", response_model=Out)
    async def bad_out():
        return {"price": "no"}

    @app.delete("/gone", status_code=204)
    async def gone():
        calls.append("gone")

    @app.get("/reset", status_code=205)
    async def reset():
        return None

    @app.get("/html", response_class=HTMLResponse)
    async def html():
        return "<p>"

    @app.get("/moved", response_class=RedirectResponse, status_code=302)
    async def moved():
        return "/dict"

    @app.get("/response/{kind}")
    async def response(kind: str):
        return {
            "plain": PlainTextResponse("text", 418, {"x-mine": "1", "Content-Type": "text/odd"}),
            "json": JSONResponse({"a": 1}, background=None),
            "bare": Response(status_code=304),
            "bytes": Response(b"\x00", media_type="application/octet-stream"),
        }[kind]

    @app.get("/stream")
    async def stream():
        async def parts():
            yield b"a"
            yield b"b"

        return StreamingResponse(parts())

    @app.get("/set")
    async def sets(response: Response, background: BackgroundTasks, code: int = 0):
        response.headers["x-set"] = "1"
        response.set_cookie("a", "b")
        if code:
            response.status_code = code
        background.add_task(calls.append, "after")
        return {"set": True}

    @app.api_route("/both", methods=["GET", "HEAD", "POST"])
    async def both_methods(request: Request):
        return {"method": request.method, "url": str(request.url), "route": request.scope["route"].path}

    return app


GOOD = {"name": "n", "price": 2.5, "tags": ["a"], "when": "2020-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "sent",
    [
        Sent("GET", "/dict"),
        *(
            Sent("GET", f"/odd/{kind}")
            for kind in (
                "nan",
                "sa",
                "enum",
                "keys",
                "set",
                "model",
                "date",
                "surrogate",
                "deep",
                "huge",
                "floats",
                "bytes",
                "object",
                "none",
                "text",
                "subclass",
                "missing",
            )
        ),
        Sent("GET", "/items/5"),
        Sent("GET", "/items/x"),
        Sent("GET", "/items/5", "q=a&q=b&n=3&color=blue&many=1&many=2&the-alias=%20z"),
        Sent("GET", "/items/5", "n=9&color=green&many=x&q="),
        Sent("GET", "/items/5", "n=&many="),
        Sent("GET", "/items/%FF"),
        Sent("GET", "/filter", "limit=3&colors=red&colors=blue"),
        Sent("GET", "/filter", "limit=x&other=1"),
        Sent("GET", "/heads"),
        Sent("GET", "/heads", headers=[("X-Token", "t"), ("User-Agent", "u"), ("X-Many", "1"), ("x-many", "2")]),
        Sent("GET", "/heads", headers=[("x-token", ""), ("cookie", 'session=3; a="b"')]),
        Sent("GET", "/heads", headers=[("x-token", "a"), ("x-token", "b"), ("cookie", "session=no")]),
        json_request("POST", "/items", GOOD),
        json_request("POST", "/items", GOOD, piece=7),
        json_request("POST", "/items", {"name": "bad", "price": -1}),
        json_request("POST", "/items", {}),
        json_request("POST", "/items", []),
        json_request("POST", "/items", None),
        json_request("POST", "/items", b""),
        json_request("POST", "/items", b"{"),
        json_request("POST", "/items", b'{"name": "\xff"}'),
        json_request("POST", "/items", b"\xff\xfe{\x00}\x00"),
        json_request("POST", "/items", b"[" * 100_000),
        json_request("POST", "/items", b'{"name":"a","price":NaN}'),
        json_request("POST", "/items", b'{"name":"a","price":1,"price":2}'),
        Sent("POST", "/items", body=b'{"name":"a","price":1}'),
        Sent("POST", "/items", headers=[("content-type", "text/plain")], body=b'{"name":"a","price":1}'),
        Sent("POST", "/items", headers=[("content-type", "application/x+json; a=b")], body=b'{"name":"a","price":1}'),
        Sent("POST", "/items", headers=[("content-type", "")], body=b"{}"),
        json_request("PUT", "/two", {"item": GOOD, "other": GOOD}),
        json_request("PUT", "/two", {"item": GOOD, "number": 1}),
        json_request("PUT", "/two", [1]),
        json_request("PUT", "/two", b""),
        json_request("POST", "/any", [1, {"a": None}]),
        json_request("POST", "/any", b"null"),
        Sent("POST", "/any", headers=[("content-type", "text/plain")], body=b"text"),
        json_request("POST", "/out", GOOD),
        Sent("GET", "/bad-out"),
        Sent("DELETE", "/gone"),
        Sent("GET", "/reset"),
        Sent("GET", "/html"),
        Sent("GET", "/moved"),
        *(Sent("GET", f"/response/{kind}") for kind in ("plain", "json", "bare", "bytes")),
        Sent("GET", "/stream"),
        Sent("GET", "/set"),
        Sent("GET", "/set", "code=299"),
        Sent("GET", "/set", "code=204"),
        Sent("GET", "/both", "a=1"),
        Sent("HEAD", "/both"),
    ],
    ids=lambda sent: f"{sent.method} {sent.path}?{sent.query} {sent.body[:20]!r}",
)
def test_one_request(sent):
    check(plain, sent)


@pytest.mark.parametrize(
    "sent",
    [
        Sent("GET", "/nope"),
        Sent("POST", "/dict"),
        Sent("HEAD", "/dict"),
        Sent("GET", "/dict/"),
        Sent("GET", "/dict\n"),
        Sent("GET", "/openapi.json"),
    ],
    ids=lambda sent: f"{sent.method} {sent.path!r}",
)
def test_what_no_route_takes_goes_the_usual_way(sent):
    check(plain, sent, compiled=False)


def dependent(calls: list[Any]) -> FastAPI:
    async def of_the_app(q: int = 1):
        calls.append(("app", q))
        return q

    def sync_one(x_fail: Annotated[str, Header()] = ""):
        calls.append("sync")
        if x_fail == "sync":
            raise Broken("sync")
        return "sync"

    async def entered(request: Request, first: Annotated[str, Depends(sync_one)]):
        variable.set("entered")
        calls.append("enter")
        if request.headers.get("x-fail") == "enter":
            raise HTTPException(403, "no entry", {"x-why": "enter"})
        try:
            yield first + "!"
        except Exception as error:
            calls.append(("leaves with", type(error).__name__))
            if request.headers.get("x-fail") == "swallow":
                return
            raise
        finally:
            calls.append("leave")
        if request.headers.get("x-fail") == "leave":
            raise Broken("leave")

    def entered_sync(x_fail: Annotated[str, Header()] = ""):
        calls.append("enter sync")
        yield 5
        calls.append("leave sync")
        if x_fail == "leave sync":
            raise Broken("leave sync")

    def no_cache():
        calls.append("counted")
        return len(calls)

    class Callable_:
        def __init__(self, word: str) -> None:
            self.word = word

        async def __call__(self, request: Request) -> str:
            return self.word + request.url.path

    app = FastAPI(dependencies=[Depends(of_the_app)])

    @app.exception_handler(Broken)
    async def on_broken(request: Request, error: Broken):
        calls.append(("handled", str(error), request.url.path))
        return JSONResponse({"broken": str(error)}, 599)

    @app.exception_handler(410)
    def on_gone(request: Request, error: HTTPException):
        return PlainTextResponse("gone for good", 410)

    @app.exception_handler(LookupError)
    async def on_lookup(request: Request, error: LookupError):
        raise Broken("in the handler")

    @app.get("/deps")
    async def deps(
        a: Annotated[str, Depends(entered)],
        b: Annotated[int, Depends(entered_sync, scope="function")],
        c: Annotated[int, Depends(no_cache, use_cache=False)],
        d: Annotated[int, Depends(no_cache, use_cache=False)],
        e: Annotated[str, Depends(sync_one)],
        f: Annotated[str, Depends(Callable_("word"))],
        background: BackgroundTasks,
        x_fail: Annotated[str, Header()] = "",
    ):
        calls.append(("endpoint", variable.get()))
        background.add_task(calls.append, "background")
        if x_fail == "http":
            raise HTTPException(404, {"detail": "nothing"})
        if x_fail == "gone":
            raise HTTPException(410)
        if x_fail in ("swallow", "broken"):
            raise Broken("endpoint")
        if x_fail == "lookup":
            raise KeyError("k")
        if x_fail == "unhandled":
            raise ZeroDivisionError("unhandled")
        if x_fail == "task":
            background.add_task(lambda: 1 / 0)
        if x_fail == "broken task":

            def fail():
                raise Broken("task")

            background.add_task(fail)
        return [a, b, c, d, e, f]

    @app.get("/bare")
    async def bare(one: Annotated[str, Depends(sync_one)], x_fail: Annotated[str, Header()] = ""):
        calls.append("bare")
        if x_fail == "unhandled":
            raise ZeroDivisionError("unhandled")
        if x_fail == "broken":
            raise Broken("bare")
        if x_fail == "header":
            return Response("x", headers={"content-length": "7"})
        return one

    @app.post("/reads")
    async def reads(item: Item, request: Request):
        calls.append(await request.body())
        calls.append(await request.json())
        calls.append(sorted(key for key in request.scope if key != "headers"))
        request.state.seen = 1
        return {"params": request.path_params, "state": request.state.seen}

    @app.post("/left")
    async def left(request: Request):
        return [await request.is_disconnected(), (await request.body()).decode()]

    return app


@pytest.mark.parametrize("path", ["/deps", "/bare"])
@pytest.mark.parametrize(
    "fail",
    [
        "",
        "sync",
        "enter",
        "leave",
        "leave sync",
        "http",
        "gone",
        "swallow",
        "broken",
        "lookup",
        "unhandled",
        "task",
        "broken task",
        "header",
    ],
)
def test_a_failure_at_each_step(path, fail):
    check(dependent, Sent("GET", path, headers=[("x-fail", fail)]))


def test_an_error_of_parameters_keeps_dependencies_from_being_called():
    seen = check(dependent, Sent("GET", "/deps", "q=x"))
    assert ("app", 1) not in seen.calls


def test_the_request_of_an_endpoint_is_fastapis():
    check(dependent, json_request("POST", "/reads", GOOD))
    check(dependent, json_request("POST", "/reads", GOOD, piece=5))
    check(dependent, Sent("POST", "/left", body=b"abc", piece=1))


def secured(calls: list[Any]) -> FastAPI:
    app = FastAPI()
    bearer, key = HTTPBearer(), APIKeyHeader(name="x-key", auto_error=False)
    oauth = OAuth2PasswordBearer(tokenUrl="token", scopes={"a": "A"})

    async def user(scopes: SecurityScopes, token: Annotated[str, Depends(oauth)]):
        calls.append(scopes.scopes)
        return token

    @app.get("/bearer")
    async def by_bearer(credentials: Annotated[Any, Depends(bearer)], api_key: Annotated[str, Security(key)]):
        return {"scheme": credentials.scheme, "key": api_key}

    @app.get("/oauth")
    async def by_oauth(token: Annotated[str, Security(user, scopes=["a"])], other: Annotated[str, Security(user)]):
        return [token, other]

    return app


@pytest.mark.parametrize(
    "headers", [(), [("authorization", "Bearer t"), ("x-key", "k")], [("authorization", "Basic t")]]
)
@pytest.mark.parametrize("path", ["/bearer", "/oauth"])
def test_security_schemes(path, headers):
    check(secured, Sent("GET", path, headers=headers))


def routed(calls: list[Any]) -> FastAPI:
    inner, outer = (
        APIRouter(prefix="/inner", tags=["t"]),
        APIRouter(dependencies=[Depends(lambda: calls.append("outer"))]),
    )

    @inner.get("/{name}/x", response_model=Out)
    async def named(name: str, request: Request):
        calls.append(sorted(request.scope["fastapi"]))
        calls.append(request.url_for("named", name="z").path)
        return {"name": name}

    @inner.post("/fixed")
    async def fixed(item: Item):
        return item

    app = FastAPI()

    @app.get("/a/{rest:path}")
    async def rest(rest: str):
        return rest

    @app.get("/a/fixed")
    async def never():
        return "never"

    outer.include_router(inner, prefix="/mid")
    app.include_router(outer, prefix="/v1")
    app.include_router(outer, prefix="/v2", dependencies=[Depends(lambda: calls.append("v2"))])

    @app.get("/after")
    async def after(request: Request):
        calls.append(request.scope.get("fastapi"))
        return "after"

    return app


@pytest.mark.parametrize(
    "sent",
    [
        Sent("GET", "/v1/mid/inner/n/x"),
        Sent("GET", "/v2/mid/inner/n/x"),
        json_request("POST", "/v2/mid/inner/fixed", GOOD),
        json_request("POST", "/v1/mid/inner/fixed", {}),
        Sent("GET", "/a/fixed"),
        Sent("GET", "/a/b/c"),
        Sent("GET", "/after"),
    ],
    ids=lambda sent: sent.path,
)
def test_included_routers(sent):
    check(routed, sent)


def with_forms(calls: list[Any]) -> FastAPI:
    class Login(BaseModel):
        name: str
        age: int = 3

    app = FastAPI()

    @app.post("/form")
    async def form(name: Annotated[str, Form()], tags: Annotated[list[str], Form()] = []):  # noqa: B006
        return [name, tags]

    @app.post("/login")
    def login(data: Annotated[Login, Form()]):
        return data

    @app.post("/file")
    async def file(one: UploadFile, two: Annotated[bytes | None, File()] = None):
        calls.append(one.filename)
        return [one.size, (await one.read()).decode(), two]

    return app


MULTIPART = (
    b'--b\r\ncontent-disposition: form-data; name="one"; filename="f.txt"\r\n\r\nabc\r\n'
    b'--b\r\ncontent-disposition: form-data; name="two"\r\n\r\nd\r\n--b--\r\n'
)


@pytest.mark.parametrize("body", [b"name=a&tags=b&tags=c", b"", b"name=", b"age=x&name=a&other=1", b"%"])
@pytest.mark.parametrize("path", ["/form", "/login"])
def test_forms(path, body):
    check(with_forms, Sent("POST", path, headers=[("content-type", "application/x-www-form-urlencoded")], body=body))


@pytest.mark.parametrize("body", [MULTIPART, MULTIPART[:60], b""])
@pytest.mark.parametrize("path", ["/file", "/form"])
def test_files(path, body):
    check(with_forms, Sent("POST", path, headers=[("content-type", "multipart/form-data; boundary=b")], body=body))


def debugging(calls: list[Any]) -> FastAPI:
    app = FastAPI()

    @app.exception_handler(500)
    async def on_error(request: Request, error: Exception):
        calls.append(str(error))
        return PlainTextResponse("mine", 500)

    @app.get("/fails")
    async def fails():
        raise ZeroDivisionError("no")

    return app


def test_a_handler_of_all_errors_answers_and_the_error_is_raised_on():
    seen = check(debugging, Sent("GET", "/fails"))
    assert seen.raised.startswith("ZeroDivisionError")


class Outermost:
    """Middleware that keeps what it is around under another name."""

    def __init__(self, app: Any) -> None:
        self.hidden = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.hidden(scope, receive, send)


def layered(calls: list[Any]) -> FastAPI:
    app = dependent(calls)
    app.add_middleware(GZipMiddleware, minimum_size=10)
    app.add_middleware(CORSMiddleware, allow_origins=["http://o"], allow_credentials=True, allow_headers=["x-fail"])

    @app.middleware("http")
    async def through(request: Request, call_next: Any) -> Any:
        calls.append(("before", request.headers.get("x-fail")))
        response = await call_next(request)
        calls.append(("after", response.status_code))
        response.headers["x-seen"] = "1"
        return response

    return app


@pytest.mark.parametrize("path", ["/deps", "/bare"])
@pytest.mark.parametrize(
    "fail", ["", "http", "swallow", "broken", "lookup", "unhandled", "leave", "header", "broken task"]
)
def test_routes_below_middleware(path, fail):
    headers = [("x-fail", fail), ("origin", "http://o"), ("accept-encoding", "gzip")]
    check(layered, Sent("GET", path, headers=headers))


def test_bodies_below_middleware():
    check(layered, json_request("POST", "/reads", GOOD))
    check(layered, json_request("POST", "/reads", GOOD, piece=3))
    check(layered, json_request("POST", "/reads", {}, piece=1))
    check(layered, Sent("POST", "/left", body=b"abc", piece=1))


def test_middleware_that_does_not_tell_what_it_is_around():
    def make(calls: list[Any]) -> FastAPI:
        app = plain(calls)
        app.add_middleware(Outermost)
        return app

    check(make, Sent("GET", "/dict"), compiled=False)


def test_overrides_and_later_routes_are_seen():
    def overridden(calls: list[Any]) -> FastAPI:
        app = FastAPI()

        def dependency():
            return 1

        @app.get("/")
        async def get(value: Annotated[int, Depends(dependency)]):
            return value

        app.dependency_overrides[dependency] = lambda: 2
        return app

    check(overridden, Sent("GET", "/"), compiled=False)


def test_a_client_that_leaves_ends_both_alike():
    """The task is cancelled while the endpoint waits: dependencies are left in the same order."""

    def make(calls: list[Any]) -> FastAPI:
        app = FastAPI()

        async def entered():
            try:
                yield
            except BaseException as error:
                calls.append(type(error).__name__)
                raise
            finally:
                calls.append("left")

        @app.get("/")
        async def get(_: Annotated[None, Depends(entered)]):
            calls.append("waits")
            await asyncio.sleep(3600)

        return app

    async def run(*, compile_it: bool) -> list[Any]:
        from both_paths import _one

        calls: list[Any] = []

        def keep(made: list[Any]) -> FastAPI:
            nonlocal calls
            calls = made
            return make(made)

        task = asyncio.create_task(_one(keep, Sent("GET", "/"), compile_it=compile_it))
        while "waits" not in calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return calls

    assert (
        asyncio.run(run(compile_it=True)) == asyncio.run(run(compile_it=False)) == ["waits", "CancelledError", "left"]
    )


def test_warnings_of_serializers_are_the_same():
    def make(calls: list[Any]) -> FastAPI:
        app = FastAPI()

        class Wrong(BaseModel):
            number: int

        @app.get("/")
        async def get() -> Wrong:
            return Wrong.model_construct(number="text")

        return app

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(make, Sent("GET", "/"))
    assert len(caught) == 2
    assert str(caught[0].message) == str(caught[1].message)


def test_a_router_of_the_users_own_class_finds_its_routes_itself():
    def make(calls: list[Any]) -> FastAPI:
        class Mine(APIRouter):
            def matches(self, scope: Any) -> Any:
                calls.append("matches")
                return super().matches(scope)

        router = Mine()

        @router.get("/mine")
        async def get():
            return 1

        app = FastAPI()
        app.include_router(router)
        return app

    check(make, Sent("GET", "/mine"), compiled=False)


def test_an_override_that_an_earlier_dependency_sets_is_heeded():
    def make(calls: list[Any]) -> FastAPI:
        app = FastAPI()

        def second():
            return "own"

        async def first():
            app.dependency_overrides[second] = lambda: "other"

        @app.get("/")
        async def get(_: Annotated[None, Depends(first)], value: Annotated[str, Depends(second)]):
            return value

        return app

    assert check(make, Sent("GET", "/")).messages[1][0] == b'"other"'
