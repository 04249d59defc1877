"""The FastAPI application that test_fastapi_features serves, as a user would write it."""

APP = '''
import asyncio, contextlib, hashlib, threading, time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from fastapi import (
    APIRouter, BackgroundTasks, Body, Cookie, Depends, FastAPI, File, Form, Header, HTTPException, Path as InPath,
    Query, Request, Response, UploadFile, WebSocket, WebSocketException,
)
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse,
)
from fastapi.requests import HTTPConnection
from fastapi.security import HTTPBearer, HTTPAuthorizationCredentials
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from eagleray import serve
from eagleray.serve.context import get_request_context

events = []
gates = {}

def gate(name):
    return gates.setdefault(name, asyncio.Event())

@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.opened = 1
    yield {"shared": {"hits": 0}}
    Path("closed").write_text(str(app.state.opened))

def deny_all():
    raise HTTPException(403, "for nobody")

app = FastAPI(title="features", version="3", lifespan=lifespan, openapi_tags=[{"name": "items"}])
router = APIRouter(prefix="/router", tags=["items"])
denied = APIRouter(prefix="/denied", dependencies=[Depends(deny_all)])

# --- middleware, the innermost first ---

class Marks:
    """Pure ASGI."""

    def __init__(self, app, word):
        self.app, self.word = app, word

    async def __call__(self, scope, receive, send):
        async def marked(message):
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-marks", self.word.encode()))
            await send(message)
        await self.app(scope, receive, marked)

class Times(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        request.state.began = "in the middleware"
        response = await call_next(request)
        response.headers["x-times"] = "yes"
        return response

app.add_middleware(Marks, word="mine")
app.add_middleware(Times)
app.add_middleware(GZipMiddleware, minimum_size=100)
app.add_middleware(CORSMiddleware, allow_origins=["https://shop.test"], allow_methods=["PUT"])

@app.middleware("http")
async def catches(request: Request, call_next):
    if "stop" in request.query_params:
        return PlainTextResponse("stopped", 418)
    return await call_next(request)

# --- errors ---

class OutOfStock(Exception):
    pass

@app.exception_handler(OutOfStock)
async def out_of_stock(request: Request, error: OutOfStock):
    return JSONResponse({"sold out": str(error), "path": request.url.path}, 409, {"x-handled": "yes"})

@app.exception_handler(RequestValidationError)
def invalid(request: Request, error: RequestValidationError):
    return JSONResponse({"invalid": [".".join(map(str, one["loc"])) for one in error.errors()]}, 422)

@app.exception_handler(404)
async def missing(request: Request, error):
    return JSONResponse({"missing": request.url.path}, 404)

@app.exception_handler(ZeroDivisionError)
async def divided(request: Request, error):
    raise RuntimeError("a handler that fails")

# --- dependencies ---

class Paging:
    def __init__(self, offset: int = 0, limit: Annotated[int, Query(le=100)] = 10):
        self.offset, self.limit = offset, limit

class Checker:
    def __init__(self, word):
        self.word = word

    def __call__(self, q: str = ""):
        return self.word in q

@dataclass
class Settings:
    request: Request
    agent: Annotated[str, Header(alias="user-agent")]

async def hit(connection: HTTPConnection):
    connection.state.shared["hits"] += 1
    return connection.state.shared["hits"]

async def opened(request: Request):
    events.append("open")
    try:
        yield {"began": request.state.began}
    except OutOfStock:
        events.append("rolled back")
        raise
    finally:
        events.append("close")

def sync_session(outer: Annotated[dict, Depends(opened)]):
    events.append("open sync")
    yield threading.current_thread() is threading.main_thread()
    events.append("close sync")

def later(tasks: BackgroundTasks):
    tasks.add_task(events.append, "task of a dependency")

bearer = HTTPBearer()

def key_holder(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]):
    if credentials.credentials != "open":
        raise HTTPException(401, "wrong key", {"www-authenticate": "Bearer"})
    return "ann"

# --- models ---

class Item(BaseModel):
    name: str
    price: float = Field(1.0, gt=0)
    secret: str = "s"
    kind: Literal["a", "b"] = "a"

class Shown(BaseModel):
    model_config = {"from_attributes": True}
    name: str
    price: float
    tags: list[str] = Field(default_factory=list, alias="labels")

def rss():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0])

async def socket_session():
    events.append("socket open")
    yield "session"
    events.append("socket close")

async def socket_key(socket: WebSocket, key: Annotated[str | None, Query()] = None):
    if key != "open":
        raise WebSocketException(1008, "no key")
    return key

app.include_router(router)
app.include_router(denied)
app.mount("/static", StaticFiles(directory="files", html=True), name="static")

@serve.deployment(max_ongoing_requests=20)
@serve.ingress(app)
class Shop:
    def __init__(self):
        self.items = {}

    @app.get("/events")
    async def all_events(self):
        # One by one: background tasks append from threads, perhaps at this moment.
        found = [events.pop(0) for _ in range(len(events))]
        return found

    # dependencies

    @app.get("/paging")
    async def paging(self, paging: Annotated[Paging, Depends()], checked: Annotated[bool, Depends(Checker("bar"))]):
        return [paging.offset, paging.limit, checked]

    @app.get("/settings")
    async def settings(self, settings: Annotated[Settings, Depends(Settings)]):
        return [settings.agent, settings.request.url.path]

    @app.get("/counted")
    async def counted(self, a: Annotated[int, Depends(hit)], b: Annotated[int, Depends(hit)],
                      c: Annotated[int, Depends(hit, use_cache=False)]):
        return [b - a, c - a]

    @app.get("/session")
    async def session(self, in_main: Annotated[bool, Depends(sync_session)], outer: Annotated[dict, Depends(opened)]):
        events.append("endpoint")
        return [in_main, outer]

    @app.get("/session-fails", dependencies=[Depends(opened)])
    async def session_fails(self):
        raise OutOfStock("pears")

    @app.get("/session-stream")
    async def session_stream(self, outer: Annotated[dict, Depends(opened)]):
        async def pieces():
            for number in range(3):
                events.append(f"piece {number}")
                yield str(number)
        return StreamingResponse(pieces())

    @app.get("/tasks", dependencies=[Depends(later)])
    def tasks(self, tasks: BackgroundTasks):
        tasks.add_task(self.note, "task of the endpoint")
        return "now"

    def note(self, word):
        events.append(word)

    @app.get("/user")
    async def user(self, user: Annotated[str, Depends(key_holder)]):
        return user

    @denied.get("/never")
    async def never(self):
        raise AssertionError

    # errors

    @app.get("/sold-out/{name}")
    async def sold_out(self, name: str):
        raise OutOfStock(name)

    @app.get("/divide")
    def divide(self):
        return 1 / 0

    @app.get("/stream-fails")
    async def stream_fails(self):
        async def pieces():
            yield "part"
            raise OutOfStock("late")
        return StreamingResponse(pieces())

    # parameters and models

    @app.put("/items/{key}", status_code=201, response_model=Shown, response_model_exclude_unset=True)
    async def put(self, key: Annotated[int, InPath(ge=1)], item: Item, shout: bool = False,
                  token: Annotated[str, Cookie()] = "none"):
        self.items[key] = item
        return Item(name=item.name.upper() if shout else item.name, price=item.price)

    @app.get("/items", response_model=list[Shown])
    async def list_items(self):
        return [{"name": "x", "price": 1, "labels": ["new"], "secret": "s"}, Item(name="y", price=2)]

    @app.get("/item", response_model=Item, response_model_exclude={"secret"})
    async def item(self):
        return {"name": "x"}

    @app.get("/unlike", response_model=Shown)
    async def unlike(self):
        return {"name": "x"}

    @app.post("/form")
    def form(self, word: Annotated[str, Form()], numbers: Annotated[list[int], Form()]):
        return [word, numbers]

    @app.delete("/items/{key}", status_code=204)
    async def delete(self, key: int):
        self.items.pop(key, None)

    @app.api_route("/any", methods=["GET", "HEAD", "REPORT"])
    async def any_method(self, request: Request):
        return Response(request.method, headers={"x-method": request.method})

    # answers

    @app.get("/html", response_class=HTMLResponse)
    def html(self):
        return "<p>hello</p>"

    @app.get("/moved")
    async def moved(self, request: Request):
        return RedirectResponse(request.url_for("html"))

    @app.get("/urls")
    async def urls(self, request: Request):
        return [str(request.base_url), str(request.url_for("put", key=3)), str(request.url_for("static", path="a.txt")),
                request.scope["root_path"], request.scope["path"]]

    @app.get("/cookies")
    async def cookies(self, response: Response):
        response.set_cookie("a", "1")
        response.set_cookie("b", "2", httponly=True)
        return "set"

    @app.get("/file")
    async def file(self):
        return FileResponse("data.bin", filename="d\\u00e4ta.bin")

    @app.head("/file")
    async def head_of_file(self):
        return FileResponse("data.bin")

    @app.get("/sync-stream")
    def sync_stream(self):
        def pieces():
            try:
                for number in range(1000):
                    yield f"{number} {threading.current_thread() is threading.main_thread()}\\n"
            finally:
                events.append("sync stream ended")
        return StreamingResponse(pieces(), media_type="text/plain")

    @app.get("/endless")
    async def endless(self):
        async def pieces():
            events.append("endless began")
            try:
                while True:
                    yield "x" * 1000
                    await asyncio.sleep(0.001)
            finally:
                events.append("endless ended")
        return StreamingResponse(pieces())

    @app.get("/gated")
    async def gated(self):
        async def pieces():
            yield "first"
            await gate("gated").wait()
            yield "second"
        return StreamingResponse(pieces(), media_type="text/event-stream")

    @app.get("/go/{name}")
    async def go(self, name: str):
        gate(name).set()

    @app.get("/long")
    async def long(self):
        return {"text": "long " * 1000}

    # uploads

    @app.post("/upload")
    async def upload(self, file: UploadFile, word: Annotated[str, Form()]):
        digest, size = hashlib.sha256(), 0
        while piece := await file.read(1 << 20):
            digest.update(piece)
            size += len(piece)
        return {"name": file.filename, "size": size, "sha": digest.hexdigest(), "word": word, "rss": rss()}

    @app.post("/sync-upload")
    def sync_upload(self, file: UploadFile):
        digest = hashlib.file_digest(file.file, "sha256").hexdigest()
        return {"name": file.filename, "size": file.size, "sha": digest, "rss": rss()}

    @app.get("/rss")
    async def rss(self):
        return rss()

    # WebSockets

    @app.websocket("/talk/{room}")
    async def talk(self, socket: WebSocket, room: int, paging: Annotated[Paging, Depends()],
                   hits: Annotated[int, Depends(hit)], outer: Annotated[str, Depends(socket_session)]):
        await socket.accept()
        await socket.send_json([room, paging.limit, hits > 0, outer, app is socket.app])
        await socket.send_text(await socket.receive_text())

    @router.websocket("/guarded")
    async def guarded(self, socket: WebSocket, key: Annotated[str, Depends(socket_key)]):
        await socket.accept()
        await socket.send_text(key)

    @app.websocket("/late-error")
    async def late_error(self, socket: WebSocket):
        await socket.accept()
        raise WebSocketException(4003, "changed my mind")

    @router.get("/one", name="one of the router")
    def one(self, request: Request):
        return [request.url.path, get_request_context().route, threading.current_thread() is threading.main_thread()]
'''
