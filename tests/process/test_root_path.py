"""FastAPI's own `root_path` and a route prefix: a proxy in front takes the one off, Eagleray knows the other."""

import json
from collections.abc import Iterator

import pytest

from machine import Machine, Script
from websocket import WebSocket

HEAD = """
import warnings
from fastapi import FastAPI, Request, WebSocket
from eagleray import serve

warnings.simplefilter("ignore")  # FastAPI would have the server's root path used
"""
SHOP = """
api, mounted = FastAPI(root_path={own!r}), FastAPI()

@mounted.get("/inner")
async def inner():
    return "inner"

api.mount("/mounted", mounted)

@serve.deployment
@serve.ingress(api)
class {name}:
    @api.get("/items/{{key}}")
    async def item(self, key: int, request: Request):
        here = str(request.url_for("item", key=key))
        return [request.scope["root_path"], request.scope["path"], request.scope["raw_path"].decode(), here]

    @api.get("/v1/items")
    async def versioned(self, request: Request):
        return request.scope["root_path"]

    @api.websocket("/socket")
    async def socket(self, socket: WebSocket):
        await socket.accept()
        await socket.send_text(str(socket.url_for("item", key=1)))
        await socket.close()
"""
SHOPS = {"Other": ("/app", "/api"), "Same": ("/same", "/same"), "Longer": ("/api/v1", "/api"), "Root": ("/", "/api")}


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    machine = Machine(tmp_path_factory.mktemp("root_path"))
    program = HEAD + "".join(SHOP.format(name=name, own=own) for name, (_, own) in SHOPS.items())
    runs = (f"serve.run({name}.bind(), name={name!r}, route_prefix={prefix!r})" for name, (prefix, _) in SHOPS.items())
    try:
        yield machine.serve(program, run="; ".join(runs))
    finally:
        for script in machine.scripts:
            print(script.output)
        survivors = machine.close()
    assert not survivors


def servers(apps: Script, path: str) -> list[str]:
    return [one["url"] for one in apps.get(path).json()["servers"]]


def test_what_it_says_of_itself_is_the_root_path_and_then_the_prefix(apps: Script) -> None:
    answer = apps.get("/app/items/3")
    assert answer.status == 200, answer.text
    public = "/api/app/items/3"
    assert answer.json() == ["/api/app", public, public, apps.address + public]
    assert servers(apps, "/app/openapi.json") == ["/api/app"]
    for page in ("docs", "redoc"):
        assert "'/api/app/openapi.json'" in apps.get(f"/app/{page}").text.replace('"', "'")
    moved = apps.get("/app/items/3/")
    assert (moved.status, moved.headers["location"]) == (307, apps.address + public)
    assert apps.get("/app/mounted/inner").json() == "inner"
    with WebSocket(apps.address + "/app/socket") as socket:
        assert socket.receive() == apps.address + "/api/app/items/1"
    assert apps.get("/app/nothing").status == 404


def test_escapes_stay_in_the_raw_path(apps: Script) -> None:
    assert json.loads(apps.get("/app/items/%33").text)[1:3] == ["/api/app/items/3", "/api/app/items/%33"]


@pytest.mark.contract("4.4/root_path")
def test_a_prefix_that_begins_with_it_has_it_already(apps: Script) -> None:
    here = apps.address + "/same/items/3"
    assert apps.get("/same/items/3").json() == ["/same", "/same/items/3", "/same/items/3", here]
    assert servers(apps, "/same/openapi.json") == ["/same"]
    # As with Ray Serve: FastAPI's takes the place of the prefix, and the routes begin with what is left of that.
    assert apps.get("/api/v1/items").json() == "/api"
    assert apps.get("/api/v1/items/3").status == 404


def test_without_a_prefix_it_is_as_in_fastapi(apps: Script) -> None:
    assert apps.get("/items/3").json() == ["/api", "/items/3", "/items/3", apps.address + "/api/items/3"]
    assert apps.get("/api/items/3").json()[:2] == ["/api", "/api/items/3"]
    assert servers(apps, "/openapi.json") == ["/api"]
    assert "/api/openapi.json" in apps.get("/docs").text
