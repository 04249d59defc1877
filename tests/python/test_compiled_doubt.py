"""Where it is not certain that nobody can tell, FastAPI routes are not compiled."""

import functools

from fastapi import FastAPI


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/dict")
    async def get_dict():
        return {}

    app.middleware_stack = app.build_middleware_stack()
    return app


def test_a_route_that_is_added_later_turns_the_table_off():
    from eagleray._user_code.compiled import serve

    app = application()
    compiled = serve.compile_routes(app)
    scope = {"method": "GET", "path": "/dict", "root_path": ""}
    assert compiled.find(scope) is not None
    app.add_api_route("/later", lambda: 1)
    assert compiled.find(scope) is None
    assert compiled.why_not(scope) == "changed after the start"


def test_a_route_in_the_place_of_another_turns_the_table_off():
    from eagleray._user_code.compiled import serve

    app = application()
    compiled = serve.compile_routes(app)
    scope = {"method": "GET", "path": "/dict", "root_path": ""}
    assert compiled.find(scope) is not None
    before = app.router.routes[-1]
    app.get("/dict", status_code=201)(before.endpoint)
    later = app.router.routes.pop()
    assert later == before, "Starlette compares paths, endpoints and methods"
    app.router.routes[-1] = later
    app.router._routes_version = compiled._watched[0][3]
    assert compiled.find(scope) is None
    assert compiled.why_not(scope) == "changed after the start"


def test_routes_that_are_no_list_are_not_compiled():
    from eagleray._user_code.compiled import serve

    app = application()
    app.router.routes = tuple(app.router.routes)
    compiled = serve.compile_routes(app)
    assert compiled.plans == []
    assert compiled.reason == "own router class"


def test_an_unknown_fastapi_is_called_as_asgi(monkeypatch):
    from eagleray._user_code.compiled import serve
    from eagleray._user_code.compiled.framework import _hashes

    monkeypatch.setattr(_hashes, "FILES", frozenset())
    app = application()
    assert serve.compile_routes(app).plans, "each function is known by itself"
    monkeypatch.setitem(_hashes.PASSED, "solve_dependencies", [])
    app = application()
    compiled = serve.compile_routes(app)
    assert compiled.plans == []
    assert "solve_dependencies" in compiled.reason


def test_a_function_that_was_replaced_is_noticed(monkeypatch):
    from fastapi.dependencies import utils

    from eagleray._user_code.compiled import framework

    assert framework.differences() == []

    async def solve_dependencies(**_):
        return None

    monkeypatch.setattr(utils, "solve_dependencies", solve_dependencies)
    assert framework.differences() == ["solve_dependencies"]


def test_a_wrapper_that_shows_the_source_of_what_it_is_around_is_noticed(monkeypatch):
    from fastapi import routing

    from eagleray._user_code.compiled import framework

    own = routing.serialize_response

    @functools.wraps(own)
    async def around(**given):
        return await own(**given)

    monkeypatch.setattr(routing, "serialize_response", around)
    assert framework.differences() == ["serialize_response"]


def test_a_proxy_that_shows_the_code_of_what_it_is_around_is_noticed(monkeypatch):
    from fastapi import routing

    from eagleray._user_code.compiled import framework

    class Proxy:
        """As packages make them that measure."""

        def __init__(self, around):
            self.__wrapped__ = around
            self.__code__ = around.__code__

        def __call__(self, *args, **kwargs):
            return self.__wrapped__(*args, **kwargs)

    monkeypatch.setattr(routing, "serialize_response", Proxy(routing.serialize_response))
    assert framework.differences() == ["serialize_response"]


def test_middleware_that_is_built_anew_after_the_start_is_called():
    from eagleray._user_code.compiled import serve

    app = application()
    compiled = serve.compile_routes(app)
    scope = {"method": "GET", "path": "/dict", "root_path": ""}
    assert compiled.find(scope) is not None
    app.middleware_stack = app.build_middleware_stack()
    assert compiled.find(scope) is None
    assert compiled.why_not(scope) == "changed after the start"


def test_a_path_gets_to_the_route_that_the_router_would_take():
    from eagleray._user_code.compiled import serve

    app = FastAPI()

    async def get():
        return {}

    paths = ("/a/{x}", "/{y}/b", "/a.c/{x}", "/a{z}", "/a/{x}/b", "/files/{rest:path}", "/a", "/{y}", "//{x}")
    for path in paths:
        app.get(path)(get)
    app.middleware_stack = app.build_middleware_stack()
    compiled = serve.compile_routes(app)
    assert len(compiled.plans) == len(paths)
    asked = (
        "/a/1",
        "/x/b",
        "/a/b",
        "/a.c/1",
        "/axc/1",
        "/az",
        "/a/1/b",
        "/files/",
        "/files/a/b",
        "/a",
        "/q",
        "//1",
        "/",
        "",
    )
    for path in asked:
        scope = {"type": "http", "method": "GET", "path": path, "root_path": ""}
        full = next((route for route in app.routes if route.matches(dict(scope))[0].value == 2), None)
        found = compiled.find(scope)
        assert (None if found is None else found[0].original) is (
            full if full in app.routes[-len(paths) :] else None
        ), path


def test_the_status_is_told_what_is_compiled():
    from eagleray._user_code import compiled

    app, told = application(), []

    @app.get("/stream")
    async def stream():
        yield 1

    app.middleware_stack = app.build_middleware_stack()
    assert compiled.of_application(app, told.append) is not None
    assert compiled.of_application(app, told.append, is_on=False) is None
    app.root_path = "/x"
    assert compiled.of_application(app, told.append) is None
    assert compiled.of_application(object(), told.append) is None
    assert told == [
        (1, 1, "", [("/stream", "streams its answer")]),
        (0, 0, "switched off", []),
        (0, 0, "root path set", []),
    ]
