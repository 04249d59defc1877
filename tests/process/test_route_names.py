"""Metrics and log lines of a FastAPI ingress name its routes as they are declared."""

import pytest

from control import Control
from machine import Machine, eventually
from scrape import scrape

SERVICE = """
from fastapi import APIRouter, FastAPI, HTTPException, Request
from eagleray import serve

app, router, inner = FastAPI(), APIRouter(prefix="/v1"), FastAPI()

@app.get("/items/{item_id}")
async def item(item_id: int):
    if item_id < 0:
        raise ZeroDivisionError("no such item")
    return item_id

@app.get("/sync/{name}")
def sync(name: str):
    return name

@router.get("/users/{name}")
async def user(name: str):
    return name

@app.get("/numbers/{count}")
async def numbers(count: int):
    yield count

@app.post("/later/{path:path}")
async def later(path: str):
    app.add_api_route("/added/{name}", user, methods=["GET"])

@inner.get("/deep/{name}")
async def deep(name: str):
    return name

app.include_router(router, prefix="/api")
app.mount("/mounted", inner)

MIDDLEWARE

@serve.deployment
@serve.ingress(app, compiled=COMPILED)
class Shop:
    pass

application = Shop.bind()
"""
BELOW = """
@app.middleware("http")
async def through(request: Request, call_next):
    return await call_next(request)
"""
# Each with the route that it counts under and its status.
ASKED = (
    ("/items/7", "/shop/items/{item_id}", 200),
    ("/items/8", "/shop/items/{item_id}", 200),
    ("/items/x", "/shop/items/{item_id}", 422),
    ("/items/-1", "/shop/items/{item_id}", 500),
    ("/sync/a", "/shop/sync/{name}", 200),
    ("/api/v1/users/a", "/shop/api/v1/users/{name}", 200),
    ("/numbers/3", "/shop/numbers/{count}", 200),
    ("/mounted/deep/a", "/shop", 200),
    ("/none", "/shop", 404),
    ("/items/", "/shop", 404),
)


@pytest.mark.contract("9.1/route")
@pytest.mark.parametrize("layer", ["", BELOW], ids=["plain", "below middleware"])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "as ASGI"])
def test_requests_count_by_the_route_that_took_them(machine: Machine, compiled: bool, layer: str) -> None:
    code = SERVICE.replace("COMPILED", str(compiled)).replace("MIDDLEWARE", layer)
    script = machine.serve(code, run='serve.run(application, name="shop", route_prefix="/shop")')
    address = Control(machine, owner=script.pid).address
    counted: dict[tuple[str, int], int] = {}
    for path, route, status in ASKED:
        assert script.get("/shop" + path).status == status, path
        counted[route, status] = counted.get((route, status), 0) + 1
    found = scrape(address)
    for (route, status), number in counted.items():
        labels = {"route": route, "application": "shop"}
        code = str(status)
        assert found.sum("serve_num_http_requests_total", status_code=code, method="GET", **labels) == number, route
        assert found.sum("serve_http_request_latency_ms_count", status_code=code, **labels) == number, route
    items = {"route": "/shop/items/{item_id}", "application": "shop", "deployment": "Shop"}
    assert found.sum("serve_num_http_error_requests_total", route=items["route"]) == 2
    assert found.sum("serve_num_deployment_http_error_requests_total", error_code="500", **items) == 1
    replica = "serve_deployment_processing_latency_ms_count"
    eventually(lambda: scrape(address).sum(replica, **items) == 4, "the replica counts by the same route")
    assert script.post("/shop/later/a/b").status == 200
    assert script.get("/shop/added/a").status == 200
    found = scrape(address)
    assert found.sum("serve_num_http_requests_total", route="/shop/later/{path:path}", method="POST") == 1
    before = counted["/shop", 200]
    assert found.sum("serve_num_http_requests_total", route="/shop", status_code="200") == before + 1, "it has no name"
    labels = {dict(labels)["route"] for labels in found.of("serve_num_http_requests_total", application="shop")}
    assert labels == {route for route, _ in counted} | {"/shop/later/{path:path}"}, "no path of a client is a label"
