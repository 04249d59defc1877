"""Routes below CORS and the check of hosts, which compiled routes take the place of: each request goes both ways."""

import itertools
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse

from both_paths import Sent, both_of_all, check
from eagleray._user_code.compiled import framework, serve


class Broken(Exception):
    """It has a handler."""


ONCE = JSONResponse({"made": "once"}, headers={"vary": "accept", "access-control-allow-origin": "http://mine"})


def routes(calls: list[Any], app: FastAPI) -> None:
    async def session():
        calls.append("enter")
        yield 1
        calls.append("leave")

    @app.get("/dict")
    async def get_dict(one: Annotated[int, Depends(session)], number: int = 1) -> dict[str, int]:
        return {"number": number + one}

    @app.get("/sync")
    def sync():
        return "sync"

    @app.get("/response")
    async def response():
        return ONCE

    @app.get("/headers")
    async def headers(response: Response, background: BackgroundTasks):
        response.headers.append("Vary", "accept")
        response.headers.append("Vary", "cookie")
        response.headers["Access-Control-Allow-Credentials"] = "maybe"
        response.headers["access-control-expose-headers"] = "x-mine"
        response.set_cookie("a", "b")
        background.add_task(calls.append, "task")
        return 1

    @app.get("/several")
    async def several():
        made = PlainTextResponse("several")
        for value in ("*", "http://a", "http://b"):
            made.raw_headers.append((b"access-control-allow-origin", value.encode()))
        made.raw_headers.append((b"Vary", b"not in small letters"))
        return made

    @app.get("/stream")
    async def stream():
        async def pieces():
            yield "a"
            yield "b"

        return StreamingResponse(pieces(), headers={"vary": "accept"})

    @app.get("/stream-fails")
    async def stream_fails():
        async def pieces():
            yield "a"
            raise ZeroDivisionError("in the middle")

        return StreamingResponse(pieces())

    @app.get("/file")
    async def file():
        return FileResponse(__file__, stat_result=None, headers={"etag": "e", "last-modified": "l"})

    @app.get("/fails/{how}")
    async def fails(how: str, one: Annotated[int, Depends(session)]):
        if how == "http":
            raise HTTPException(418, "no", {"Vary": "why"})
        raise {"broken": Broken("b"), "unhandled": ZeroDivisionError("z")}[how]

    @app.get("/task-fails")
    async def task_fails(background: BackgroundTasks):
        def task():
            raise Broken("too late")

        background.add_task(task)
        return 1

    @app.get("/changes")
    async def changes(request: Request):
        request.scope["headers"].insert(0, (b"origin", b"http://b.example"))
        return 1

    @app.get("/replaces")
    async def replaces(request: Request):
        request.scope["headers"] = [(b"origin", b"http://b.example")]
        return 1

    @app.api_route("/options", methods=["OPTIONS", "HEAD"])
    async def options():
        return "mine"

    @app.exception_handler(Broken)
    async def on_broken(request: Request, error: Broken) -> Any:
        calls.append(str(error))
        return JSONResponse({"broken": str(error)}, 599, {"vary": "handler"})


PATHS = (
    *("/dict", "/dict?number=x", "/sync", "/response", "/headers", "/several", "/stream", "/stream-fails", "/file"),
    *("/fails/http", "/fails/broken", "/fails/unhandled", "/fails/odd", "/task-fails", "/changes", "/replaces"),
)
ORIGINS = (
    *((), ("http://a.example",), ("http://b.example",), ("null",), ("",), ("HTTP://A.example",)),
    *(("http://\xe9",), ("http://b.example", "http://a.example")),
)
CORS: tuple[dict[str, Any], ...] = (
    {},
    {"allow_origins": ["*"]},
    {"allow_origins": ["*"], "allow_credentials": True},
    {"allow_origins": ["http://a.example", "http://\xe9"], "expose_headers": ["x-a", "X-B"]},
    {"allow_origins": ("http://a.example",), "allow_credentials": True, "expose_headers": ["x-a"]},
    {"allow_origin_regex": "https?://[ab]\\.example", "allow_credentials": True},
    {"allow_origins": {"http://b.example"}, "allow_origin_regex": "null", "allow_private_network": True},
    {"allow_origins": ["*"], "allow_methods": ["*"], "allow_headers": ["*"], "max_age": 5, "expose_headers": ["*"]},
)


def test_answers_below_cors():
    compared = 0
    for options in CORS:

        def make(calls: list[Any], options: Any = options) -> FastAPI:
            app = FastAPI()
            routes(calls, app)
            app.add_middleware(CORSMiddleware, **options)
            return app

        sent = [
            Sent("GET", path.partition("?")[0], path.partition("?")[2], [("origin", one) for one in origins])
            for path, origins in itertools.product(PATHS, ORIGINS)
        ]
        for one, (asgi, compiled) in zip(sent, both_of_all(make, sent), strict=True):
            assert compiled[:3] == asgi[:3], (options, one)
            assert compiled.compiled
            assert asgi.messages
            compared += 1
    assert compared == len(CORS) * len(PATHS) * len(ORIGINS)


def test_the_layer_answers_preflights():
    asked = ({}, {"access-control-request-method": "GET"}, {"access-control-request-method": "BREW"})
    more = ({}, {"access-control-request-headers": "x-a, Accept"}, {"access-control-request-private-network": "true"})
    for options in CORS:

        def make(calls: list[Any], options: Any = options) -> FastAPI:
            app = FastAPI()
            routes(calls, app)
            app.add_middleware(CORSMiddleware, **options)
            return app

        sent = [
            Sent(method, path, headers=[*(("origin", one) for one in origins), *first.items(), *second.items()])
            for method, path, origins, first, second in itertools.product(
                ("OPTIONS", "HEAD"), ("/options", "/dict"), ORIGINS, asked, more
            )
        ]
        for one, (asgi, compiled) in zip(sent, both_of_all(make, sent), strict=True):
            assert compiled[:3] == asgi[:3], (options, one)
            assert compiled.compiled == ((one.method, one.path) == ("HEAD", "/options"))


def test_what_is_changed_after_the_start_counts():
    def make(calls: list[Any]) -> FastAPI:
        app, origins = FastAPI(), ["http://a.example"]
        app.add_middleware(CORSMiddleware, allow_origins=origins)

        def layer() -> Any:
            found = app.middleware_stack
            while type(found) is not CORSMiddleware:
                found = found.app
            return found

        @app.get("/first")
        async def first():
            origins.append("http://b.example")

        @app.get("/second")
        async def second():
            layer().simple_headers["x-more"] = "more"

        @app.get("/third")
        async def third():
            layer().allow_all_origins = True

        @app.get("/fourth")
        async def fourth():
            layer().allow_credentials = True

        return app

    headers = [("origin", "http://b.example")]
    sent = [Sent("GET", path, headers=headers) for path in ("/first", "/second", "/third", "/fourth", "/fourth")]
    answers = both_of_all(make, sent)
    for asgi, compiled in answers:
        assert compiled[:3] == asgi[:3]
        assert compiled.compiled
    first, second, third, fourth, _ = (asgi.messages[0] for asgi, _ in answers)
    assert first != second != third != fourth


HOSTS = ("a.example", "A.example:80", "b.example", "x.b.example", "example", "", "[::1]", "a.example:x", "\xe9", "c..")


def test_hosts_are_checked():
    allowed = (["*"], ["a.example"], ["*.b.example", "www.example"], ["[::1]", "*"], ["[::1]"], [])
    passed = set()
    for hosts, is_outer in itertools.product(allowed, (True, False)):

        def make(calls: list[Any], hosts: Any = hosts, is_outer: bool = is_outer) -> FastAPI:
            app = FastAPI()
            routes(calls, app)
            if is_outer:
                app.add_middleware(CORSMiddleware, allow_origins=["http://a.example"])
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
            if not is_outer:
                app.add_middleware(CORSMiddleware, allow_origins=["http://a.example"])
            return app

        sent = [
            Sent("GET", path, headers=[("host", host), ("origin", "http://a.example")], host=False)
            for path, host in itertools.product(("/dict", "/fails/broken", "/fails/unhandled"), HOSTS)
        ]
        sent.append(Sent("GET", "/dict", host=False))
        for one, (asgi, compiled) in zip(sent, both_of_all(make, sent), strict=True):
            assert compiled[:3] == asgi[:3], (hosts, one)
            passed.add(compiled.compiled)
            assert compiled.compiled or asgi.messages[0][0] in (307, 400)
    assert passed == {True, False}


class OwnCors(CORSMiddleware):
    pass


class OwnOrigins(list[str]):
    pass


@pytest.mark.parametrize(
    "layers",
    [
        [(OwnCors, {"allow_origins": ["*"]})],
        [(CORSMiddleware, {"allow_origins": OwnOrigins(["*"])})],
        [(CORSMiddleware, {"allow_origins": ["*"]}), (CORSMiddleware, {"allow_origins": ["http://a.example"]})],
    ],
)
def test_other_layers_are_called(layers):
    def make(calls: list[Any]) -> FastAPI:
        app = FastAPI()
        routes(calls, app)
        for layer, options in layers:
            app.add_middleware(layer, **options)
        return app

    app = make([])
    app.middleware_stack = app.build_middleware_stack()
    assert not serve.compile_routes(app).is_whole
    for path in ("/dict", "/fails/unhandled", "/headers"):
        check(make, Sent("GET", path, headers=[("origin", "http://a.example")]))


def test_a_layer_with_a_function_of_the_users_is_called(monkeypatch):
    def compiled() -> Any:
        app = FastAPI()
        routes([], app)
        app.add_middleware(CORSMiddleware, allow_origins=["*"])
        app.middleware_stack = app.build_middleware_stack()
        return serve.compile_routes(app)

    assert compiled().is_whole
    monkeypatch.setattr(CORSMiddleware, "is_allowed_origin", lambda self, origin: True)
    found = compiled()
    assert found.plans, "the routes below it are"
    assert not found.is_whole
    assert framework.differences() == []
