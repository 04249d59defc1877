"""`@serve.ingress` in a replica: FastAPI class-based views, any ASGI application, builders, lifespan."""

from pathlib import Path

import pytest
from machine_of_one import as_json, code, serving

FASTAPI = """
import asyncio, threading
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
        assert router.get("/").status == 200
        schema = as_json(router.get("/openapi.json", root_path="/prefix"))
        assert set(schema["paths"]) >= {"/", "/inherited", "/items", "/under/routed"}
        assert "/other" not in schema["paths"]
        assert schema["servers"] == [{"url": "/prefix"}]
        assert [p["name"] for p in schema["paths"]["/sync/{number}"]["get"]["parameters"]] == ["number", "add"]
