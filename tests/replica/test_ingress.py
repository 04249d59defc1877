"""`@serve.ingress` in a replica: FastAPI class-based views, any ASGI application, builders, lifespan."""

from pathlib import Path

import frames
import pytest
from machine_of_one import Node, as_json, code, serving

FASTAPI = """
from __future__ import annotations
import asyncio, functools, inspect, threading
from typing import Annotated
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from eagleray import serve

app = FastAPI(title="views")
router = APIRouter()

class Item(BaseModel):
    name: str
    price: float = 1.0

def page(page: int = 1):
    return page * 10

async def session():
    events.append("open")
    yield "session"
    events.append("close")

events = []

class Base:
    @app.get("/inherited")
    async def inherited(self):
        return f"inherited by {type(self).__name__} {self.name}"

    def greeting(self):
        return "greeting of the base"

def limited(function):
    # As rate limiters write it: the request by its name, or by its place in the signature.
    place = list(inspect.signature(function).parameters).index("request")

    @functools.wraps(function)
    async def wrapper(*args, **kwargs):
        request = kwargs.get("request", args[place] if args else None)
        return [request.url.path, await function(*args, **kwargs)]

    return wrapper

def logged(function):
    @functools.wraps(function)
    def wrapper(this, *args, **kwargs):
        return [this.name, function(this, *args, **kwargs)]

    return wrapper

@serve.ingress(app)
class Service(Base):
    def __init__(self, name):
        self.name = name

    @app.get("/")
    async def root(self):
        return self.name

    @app.get("/sync/{number}")
    def sync(self, number: int, add: int = 0):
        return {"number": number + add, "main": threading.current_thread() is threading.main_thread()}

    @app.post("/items", status_code=201)
    async def item(self, item: Item) -> Item:
        return Item(name=self.name + item.name, price=item.price)

    @app.get("/limited/{number}")
    @limited
    async def limited(self, request: Request, number: int):
        return [self.name, number]

    @app.get("/logged")
    @logged
    def logged(self, number: int):
        return number

    @app.get("/depends")
    async def depends(self, start: Annotated[int, Depends(page)], using: str = Depends(session)):
        return [start, using, self.name]

    @app.get("/events")
    async def all_events(self):
        return events

    @router.get("/routed")
    def routed(self):
        return "routed " + self.name

    @app.get("/teapot")
    async def teapot(self):
        raise HTTPException(418, "short and stout", {"x-mine": "1"})

    @app.get("/super")
    async def supers(self):
        return super().greeting()

    @app.put("/file")
    async def file(self, file: UploadFile, request: Request):
        return [file.filename, len(await file.read()), dict(await request.form())["word"]]

    @app.get("/fails")
    async def fails(self):
        raise ValueError("a secret")

    @app.get("/stream")
    async def stream(self):
        async def pieces():
            for number in range(3):
                yield f"{number}"
        return StreamingResponse(pieces(), media_type="text/plain")

app.include_router(router, prefix="/under")

@app.get("/plain")
async def plain(request: Request):
    return request.app.title

# Not deployed, on the same application.
class Other:
    @app.get("/other")
    async def other(self):
        return "other"
Service = serve.ingress(app)(Service.__mro__[1])
"""


@pytest.mark.contract("1.2/fastapi")
@pytest.mark.contract("1.2/fastapi-inherited")
@pytest.mark.contract("1.2/fastapi-other-class")
@pytest.mark.contract("4.4/fastapi-handlers")
def test_fastapi_endpoints_are_methods_of_the_instance(tmp_path: Path) -> None:
    with serving(tmp_path, code(FASTAPI)["Service"], "mine") as (node, router):
        expected = {
            "/": "mine",
            "/inherited": "inherited by Service mine",
            "/sync/3?add=4": {"number": 7, "main": False},
            "/under/routed": "routed mine",
            "/limited/3": ["/limited/3", ["mine", 3]],
            "/logged?number=4": ["mine", 4],
            "/depends?page=2": [20, "session", "mine"],
            "/events": ["open", "close"],
            "/plain": "views",
            "/super": "greeting of the base",
        }
        for path, value in expected.items():
            answer = router.get(path)
            assert (answer.status, as_json(answer)) == (200, value), (path, answer.body)
        assert as_json(router.get("/sync/no"))["detail"][0]["loc"] == ["path", "number"]
        posted = router.get(
            "/items", method="POST", body=b'{"name":"d"}', headers=(("content-type", "application/json"),)
        )
        assert (posted.status, as_json(posted)) == (201, {"name": "mined", "price": 1.0})
        teapot = router.get("/teapot")
        assert (teapot.status, as_json(teapot), teapot.headers["x-mine"]) == (418, {"detail": "short and stout"}, "1")
        assert router.get("/other").status == 404
        assert router.get("/nothing").status == 404
        assert router.get("/", method="DELETE").status == 405
        assert router.get("/stream").body == b"012"
        fails = router.get("/fails")
        assert (fails.status, fails.body) == (500, b"Internal Server Error")
        assert "a secret" in node.log
        assert "request failed: user code raised" in node.log
        assert router.get("/").status == 200
        schema = as_json(router.get("/openapi.json", root_path="/prefix"))
        assert set(schema["paths"]) >= {"/", "/inherited", "/items", "/under/routed"}
        assert "/other" not in schema["paths"]
        assert schema["servers"] == [{"url": "/prefix"}]
        assert [p["name"] for p in schema["paths"]["/sync/{number}"]["get"]["parameters"]] == ["number", "add"]


LIFE = """
import asyncio, contextlib
from fastapi import APIRouter, BackgroundTasks, FastAPI, Request
from fastapi.responses import PlainTextResponse
from starlette.applications import Starlette
from starlette.routing import Route
from eagleray import serve
from eagleray.serve.exceptions import BackPressureError, DeploymentUnavailableError

def note(word):
    print(word, file=__import__("sys").stderr, flush=True)

@contextlib.asynccontextmanager
async def lifespan(app):
    note("1 startup")
    yield {"from_lifespan": "yes"}
    note("1 shutdown")

def fastapi():
    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def root(request: Request):
        return request.state.from_lifespan

    @app.get("/full")
    async def full():
        raise BackPressureError(3, 2, 429, 1.5)

    @app.get("/gone")
    def gone():
        raise DeploymentUnavailableError("x")

    return app

async def slow_builder():
    await asyncio.sleep(0)
    return fastapi()

class User:
    def __init__(self, word="made"):
        note("0 constructor")
        self.word = word
    def check_health(self):
        note("2 health")
    def __del__(self):
        note("3 destructor")

class AsyncUser:
    async def __init__(self):
        await asyncio.sleep(0)
        note("0 constructor")
    async def __del__(self):
        await asyncio.sleep(0)
        note("3 destructor")

class Hook(User):
    def __serve_build_asgi_app__(self):
        note("built for " + self.word)
        return fastapi()

class AsyncHook(AsyncUser):
    async def __serve_build_asgi_app__(self):
        return fastapi()

Application = serve.ingress(fastapi())(User)
AsyncConstructor = serve.ingress(fastapi())(AsyncUser)
Builder = serve.ingress(fastapi)(User)
SlowBuilder = serve.ingress(slow_builder)(AsyncUser)
BuildMethod = serve.ingress()(Hook)
AsyncBuildMethod = serve.ingress()(AsyncHook)

class Derived(serve.ingress(fastapi())(User)):
    async def __init__(self):
        await super().__init__("derived")
        note("derived")
"""


@pytest.mark.contract("1.2/builder")
@pytest.mark.contract("1.2/build-method")
@pytest.mark.contract("1.2/constructors")
@pytest.mark.contract("1.2/lifespan")
@pytest.mark.contract("1.2/exception-handlers")
@pytest.mark.contract("4.1/asgi")
@pytest.mark.contract("4.2/build_asgi_app")
@pytest.mark.parametrize(
    "name",
    ["Application", "AsyncConstructor", "Builder", "SlowBuilder", "BuildMethod", "AsyncBuildMethod", "Derived"],
)
def test_constructor_then_startup_then_requests_then_shutdown(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, code(LIFE)[name]) as (node, router):
        assert as_json(router.get("/")) == "yes"
        full = router.get("/full")
        assert (full.status, full.headers["retry-after"]) == (429, "2")
        assert "refused" in full.body.decode()
        assert router.get("/gone").status == 503
        assert node.stop() == 0
        order = [line for line in node.printed if line[:1] in "0123" and line[1:2] == " "]
        assert order == [
            line
            for line in ("0 constructor", "1 startup", "2 health", "1 shutdown", "3 destructor")
            if line != "2 health" or ("Async" not in name and name != "SlowBuilder")
        ]


FAILING = """
import contextlib
from fastapi import FastAPI
from eagleray import serve

@contextlib.asynccontextmanager
async def lifespan(app):
    raise ValueError("no database")
    yield

async def refuses(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no cache"})

async def raises(scope, receive, send):
    await receive()
    raise ValueError("no queue")

class Wrong:
    def __serve_build_asgi_app__(self):
        return 3

class Fails:
    def __init__(self):
        raise ValueError("no model")

Lifespan = serve.ingress(FastAPI(lifespan=lifespan))()
Refuses = serve.ingress(refuses)()
Raises = serve.ingress(raises)()
Wrong = serve.ingress()(Wrong)
Constructor = serve.ingress(FastAPI())(Fails)
"""


@pytest.mark.contract("1.2/lifespan-failure")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Lifespan", "ValueError: no database"),
        ("Refuses", "startup of the ASGI application failed: no cache"),
        ("Raises", "startup of the ASGI application failed: ValueError: no queue"),
        ("Wrong", "must return an ASGI application, got 3"),
        ("Constructor", "no model"),
    ],
)
def test_a_start_that_fails_says_why(tmp_path: Path, name: str, why: str) -> None:
    node = Node(tmp_path)
    try:
        node.start(code(FAILING)[name])
        tag, fields = node.event()
        assert tag == 2, fields
        assert why in fields[1].decode()
        node.process.wait(20)
        assert "never awaited" not in node.log
    finally:
        node.close()


OTHERS = """
import asyncio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from fastapi import APIRouter, FastAPI
from eagleray import serve

class Raw:
    def __init__(self, word):
        self.word = word
    async def __call__(self, scope, receive, send):
        assert scope["type"] == "http"
        await PlainTextResponse(self.word)(scope, receive, send)

async def function(scope, receive, send):
    assert scope["type"] == "http"
    await PlainTextResponse("function")(scope, receive, send)

async def page(request):
    return PlainTextResponse("starlette")

router = APIRouter(prefix="/under")

class View:
    name = "view"
    @router.get("/router")
    async def endpoint(self) -> str:
        return "router " + self.name

Object = serve.ingress(Raw("object"))()
Function = serve.ingress(function)()
Page = serve.ingress(Starlette(routes=[Route("/", page)]))()
Router = serve.ingress(router)(View)
"""


@pytest.mark.contract("1.2/asgi")
@pytest.mark.contract("1.2/fastapi-router")
@pytest.mark.contract("1.2/empty-class")
@pytest.mark.contract("4.4/ingress")
@pytest.mark.contract("G/28", better="a function is a builder or an application by what it can be called with")
@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("Object", "/", b"object"),
        ("Function", "/", b"function"),
        ("Page", "/", b"starlette"),
        ("Router", "/under/router", b'"router view"'),
    ],
)
def test_any_asgi_application_is_served(tmp_path: Path, name: str, path: str, expected: bytes) -> None:
    with serving(tmp_path, code(OTHERS)[name]) as (node, router):
        answer = router.get(path)
        assert (answer.status, answer.body) == (200, expected)
        assert node.stop() == 0


BACKGROUND = """
import asyncio, time
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import JSONResponse
from eagleray import serve

app = FastAPI()
ran = []

def sync_task(word):
    time.sleep(0.01)
    ran.append(word)

async def async_task(word):
    time.sleep(0.01)
    ran.append(word)

@serve.ingress(app)
class Service:
    def __init__(self):
        self.go = asyncio.Event()

    @app.get("/")
    async def root(self, tasks: BackgroundTasks):
        tasks.add_task(sync_task, "sync")
        tasks.add_task(async_task, "async")
        tasks.add_task(self.method, "method")
        return list(ran)

    async def method(self, word):
        await asyncio.sleep(0)
        ran.append(word)

    @app.get("/fails")
    async def fails(self, tasks: BackgroundTasks):
        async def fail():
            raise ValueError("in the background")
        tasks.add_task(fail)
        return "fine"

    @app.get("/waits")
    async def waits(self, tasks: BackgroundTasks):
        tasks.add_task(self.wait)
        return "fine"

    async def wait(self):
        await self.go.wait()
        ran.append("waited")

    @app.get("/go")
    async def let_go(self):
        self.go.set()
        return list(ran)
"""


def test_background_tasks_hold_the_slot_and_not_the_answer(tmp_path: Path) -> None:
    with serving(tmp_path, code(BACKGROUND)["Service"], options={"f2": 2}) as (node, router):
        first = router.get("/")
        assert as_json(first) == []
        assert [bool(frame.flags & frames.END) for frame in first.frames] == [True, False]
        assert as_json(router.get("/")) == ["sync", "async", "method"]
        failed = router.get("/fails")
        assert (failed.status, failed.body, failed.error) == (200, b'"fine"', False)
        assert "in the background" in node.log
        assert "user code raised after its answer" in node.log
        # The answer is whole while its slot is taken; a client that leaves now stops nothing.
        waiting = router.request(frames.http_head(path="/waits"))
        frame = router.read()
        while frame.sequence != waiting.sequence:
            frame = router.read()
        assert frame.flags & frames.END
        assert not frame.flags & frames.DONE
        router.send(frames.CANCEL, waiting)
        assert as_json(router.get("/go"))[-1] == "method"
        router.answer(waiting)
        assert as_json(router.get("/go"))[-1] == "waited"
