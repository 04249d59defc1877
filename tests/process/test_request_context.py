"""What user code reads about its request: the route that answers, and the names by which programs read it."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from eagleray import serve, testing
from machine import Machine

SERVICE = """
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from eagleray import serve
from eagleray.serve import context
from eagleray.serve.handle import DeploymentHandle

def route():
    return context._get_serve_request_context().route

app, deep, router, outer = FastAPI(), FastAPI(), APIRouter(prefix="/in"), APIRouter()

@deep.get("/leaf/{number}")
def leaf(number: int):
    return route()

@router.get("/{name}")
async def included(name: str):
    return route()

@app.middleware("http")
async def note(request, call_next):
    before = route()
    answer = await call_next(request)
    answer.headers["x-routes"] = f"{before} {route()}"
    return answer

outer.include_router(router, prefix="/outer")
app.include_router(outer, prefix="/api")
app.mount("/deep/{tenant}", deep)

@serve.deployment
class Called:
    def route(self):
        found = context.get_request_context()
        return [found.route, found.is_http_request]

@serve.deployment(max_ongoing_requests=10)
@serve.ingress(app)
class Users:
    def __init__(self, called: DeploymentHandle):
        self.called = called

    @app.get("/users/{name}")
    async def user(self, name: str):
        found = context._serve_request_context.get()
        return {"route": found.route, "http": found.is_http_request, "app": found.app_name,
                "same": found.request_id == context.get_request_context().request_id,
                "replica": context._get_internal_replica_context().deployment,
                "called": await self.called.route.remote()}

    @app.post("/users/{name}")
    async def put(self, name: str):
        return route()

    @app.get("/files/{path:path}")
    def files(self, path: str):
        return route()

    @app.websocket("/socket/{room}")
    async def socket(self, socket: WebSocket, room: str):
        await socket.accept()
        await socket.send_text(route())
        await socket.close()

def small():
    async def answer(request):
        return JSONResponse(route())
    return Starlette(routes=[Mount("/m", routes=[Route("/{number:int}", answer)]), Route("/", answer)])

@serve.deployment
@serve.ingress(small)
class Small:
    pass

@serve.deployment
def plain(request):
    return route()
"""
PATHS = {
    "/api/outer/in/x": "/api/outer/in/{name}",
    "/deep/t/leaf/3": "/deep/{tenant}/leaf/{number}",
    "/files/a/b": "/files/{path:path}",
}
USER = {"http": True, "app": "default", "same": True, "replica": "Users"}


@pytest.mark.contract("10.3/request-context", better="a call that the request makes has the route prefix")
def test_the_route_is_the_pattern_that_answers_behind_an_application_with_routes(machine: Machine) -> None:
    script = machine.serve(
        SERVICE,
        run="""serve.run(Users.bind(Called.bind()), route_prefix="/p")
serve.run(Small.bind(), name="small", route_prefix="/small")
serve.run(plain.bind(), name="plain", route_prefix="/plain")""",
    )
    assert script.get("/p/users/ann").json() == {"route": "/p/users/{name}", **USER, "called": ["/p", False]}
    for path, pattern in PATHS.items():
        answer = script.get("/p" + path)
        # Also in middleware, which runs before the application looks for the route.
        assert (answer.json(), answer.headers["x-routes"]) == (f"/p{pattern}", f"/p{pattern} /p{pattern}")
    assert script.post("/p/users/ann").json() == "/p/users/{name}"
    # None answers: the prefix.
    assert script.get("/p/nothing").headers["x-routes"] == "/p /p"
    assert script.get("/small/m/7").json() == "/small/m/{number:int}"
    assert script.get("/small/").json() == "/small/"
    assert script.get("/plain/x").text == "/plain"


def test_the_route_is_the_same_in_local_testing_mode_and_for_a_websocket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "routes_program.py").write_text(SERVICE)
    monkeypatch.syspath_prepend(tmp_path)
    program: Any = importlib.import_module("routes_program")
    with testing.client(program.Users.bind(program.Called.bind()), route_prefix="/p") as client:
        assert client.get("/p/users/ann").json()["route"] == "/p/users/{name}"
        assert client.get("/p/deep/t/leaf/3").json() == "/p/deep/{tenant}/leaf/{number}"
        with client.websocket_connect("/p/socket/7") as session:
            assert session.receive_text() == "/p/socket/{room}"
    with testing.client(program.Users.bind(program.Called.bind())) as client:
        assert client.get("/users/ann").json()["route"] == "/users/{name}"


def test_outside_of_a_request_its_context_is_empty_or_what_the_program_sets() -> None:
    from eagleray.serve import context
    from eagleray.serve._private.common import DeploymentID
    from eagleray.serve._private.constants import SERVE_DEFAULT_APP_NAME

    assert context._get_serve_request_context() == context._RequestContext()
    assert context._serve_request_context.get() is None
    token = context._serve_request_context.set(context._RequestContext(route="/r", multiplexed_model_id="m"))
    try:
        assert context._get_serve_request_context().route == "/r"
        assert serve.get_multiplexed_model_id() == "m"
    finally:
        context._serve_request_context.reset(token)
    assert serve.get_multiplexed_model_id() == ""
    assert context._INTERNAL_REPLICA_CONTEXT is None
    assert context._get_internal_replica_context() is None
    assert DeploymentID("d").app_name == SERVE_DEFAULT_APP_NAME
