"""`@serve.ingress` with applications inside applications: methods are endpoints wherever a request can get to."""

from pathlib import Path

import pytest
from machine_of_one import as_json, code, serving

MOUNTED = """
from __future__ import annotations
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Host, Mount
from pydantic import BaseModel
from eagleray import serve
from eagleray.serve.exceptions import BackPressureError

app, sub, deep, wrapped, listed = FastAPI(), FastAPI(title="sub"), FastAPI(), FastAPI(), FastAPI()
hosted, of_another = FastAPI(), FastAPI()
router, inner = APIRouter(), APIRouter()

class Item(BaseModel):
    name: str

class Marks:
    def __init__(self, app):
        self.app = app
    async def __call__(self, scope, receive, send):
        async def marked(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-marked", b"yes")]
            await send(message)
        await self.app(scope, receive, marked)

class Base:
    @sub.get("/inherited")
    async def inherited(self):
        return "inherited " + self.name

class Service(Base):
    def __init__(self, name="mine"):
        self.name = name

    @app.get("/")
    async def root(self):
        return "root " + self.name

    @sub.get("/")
    async def sub_root(self, request: Request):
        return ["sub " + self.name, request.scope["root_path"], str(request.url_for("sub_root"))]

    @app.get("/same")
    @sub.get("/same")
    async def same(self):
        return "same " + self.name

    @sub.post("/items", status_code=201)
    async def items(self, item: Item) -> Item:
        return Item(name=self.name + item.name)

    @router.get("/routed")
    def routed(self):
        return "routed " + self.name

    @inner.get("/inner")
    async def innermost(self):
        return "inner " + self.name

    @deep.get("/deep")
    async def in_the_deep(self):
        return "deep " + self.name

    @wrapped.get("/wrapped")
    async def in_middleware(self):
        return "wrapped " + self.name

    @listed.get("/listed")
    async def in_a_list(self):
        return "listed " + self.name

    @hosted.get("/hosted")
    async def on_a_host(self):
        return "hosted " + self.name

    @sub.get("/full")
    async def full(self):
        raise BackPressureError(3, 2, 429, 1.5)

class Other:
    @of_another.get("/other")
    async def other(self):
        return "other"

@of_another.get("/plain")
async def plain():
    return "plain"

router.include_router(inner, prefix="/more")
sub.include_router(router, prefix="/under")
sub.mount("/deep", deep)
app.mount("/sub", sub)
app.mount("/wrapped", Marks(GZipMiddleware(wrapped)))
app.mount("/group", Starlette(routes=[Mount("/listed", app=listed, middleware=[Middleware(Marks)])]))
app.router.routes.append(Host("other.test", hosted))
app.mount("/another", of_another)

Inside = serve.ingress(app)(Service)
Around = serve.ingress(Marks(app))(Service)
Builder = serve.ingress(lambda: app)(Service)
"""

PATHS = {
    "/": "root mine",
    "/same": "same mine",
    "/sub/": ["sub mine", "/sub", "http://x/sub/"],
    "/sub/same": "same mine",
    "/sub/inherited": "inherited mine",
    "/sub/under/routed": "routed mine",
    "/sub/under/more/inner": "inner mine",
    "/sub/deep/deep": "deep mine",
    "/wrapped/wrapped": "wrapped mine",
    "/group/listed/listed": "listed mine",
    "/another/plain": "plain",
}


@pytest.mark.contract(
    "1.2/fastapi", better="methods are bound in mounted applications too, and in those that middleware wraps"
)
@pytest.mark.contract("1.2/fastapi-other-class")
@pytest.mark.contract("1.2/exception-handlers")
@pytest.mark.parametrize("name", ["Inside", "Around", "Builder"])
def test_methods_are_endpoints_of_mounted_applications(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, code(MOUNTED)[name]) as (_, router):
        for path, value in PATHS.items():
            answer = router.get(path, headers=(("host", "x"),))
            assert (answer.status, as_json(answer)) == (200, value), (path, answer.body)
            marked = name == "Around" or path.startswith(("/wrapped", "/group"))
            assert ("x-marked" in answer.headers) == marked, path
        hosted = router.get("/hosted", headers=(("host", "other.test"),))
        assert (hosted.status, as_json(hosted)) == (200, "hosted mine")
        posted = router.get(
            "/sub/items", method="POST", body=b'{"name":"d"}', headers=(("content-type", "application/json"),)
        )
        assert (posted.status, as_json(posted)) == (201, {"name": "mined"})
        assert router.get("/another/other").status == 404, "of a class that is not deployed here"
        full = router.get("/sub/full")
        assert (full.status, full.headers["retry-after"]) == (429, "2")
        schema = as_json(router.get("/prefix/sub/openapi.json", root_path="/prefix"))
        assert schema["servers"] == [{"url": "/prefix/sub"}]
        assert set(schema["paths"]) == {
            "/", "/same", "/inherited", "/items", "/full", "/under/routed", "/under/more/inner"
        }  # fmt: skip
        assert "parameters" not in schema["paths"]["/under/routed"]["get"]
        assert set(as_json(router.get("/openapi.json"))["paths"]) == {"/", "/same"}
