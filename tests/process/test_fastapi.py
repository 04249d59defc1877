"""`@serve.ingress` with FastAPI, end to end: what a client sees of one served application."""

from machine import Machine, request

SERVICE = """
from fastapi import FastAPI
from eagleray import serve

app = FastAPI(title="shop")

@serve.deployment(max_ongoing_requests=10)
class Prices:
    async def __call__(self, name):
        return len(name)

@serve.deployment(max_ongoing_requests=10)
@serve.ingress(app)
class Shop:
    def __init__(self, prices):
        self.prices = prices

    @app.get("/")
    async def root(self):
        return "root"

    @app.get("/price/{name}")
    async def price(self, name: str) -> dict[str, int]:
        return {name: await self.prices.remote(name)}

    @app.get("/sync")
    def sync(self, number: int):
        return number

application = Shop.bind(Prices.bind())
"""


def test_a_fastapi_application_answers_under_its_prefix(machine: Machine) -> None:
    script = machine.serve(SERVICE, run='serve.run(application, route_prefix="/shop")')
    assert script.get("/shop/").json() == "root"
    assert script.get("/shop/price/apple").json() == {"apple": 5}
    assert script.get("/shop/sync?number=3").json() == 3
    assert script.get("/shop/sync?number=x").status == 422
    assert script.get("/shop/openapi.json").json()["servers"] == [{"url": "/shop"}]
    assert "/shop/openapi.json" in script.get("/shop/docs").text
    assert script.get("/shop/none").json() == {"detail": "Not Found"}
    assert script.get("/none").status == 404
    assert request("HEAD", script.address + "/shop/").status == 405
    version = "[r for r in serve.status().applications['default'].deployments]"
    assert sorted(script.do(version)) == ["Prices", "Shop"]
