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


def test_an_application_of_an_imported_module_is_served(machine: Machine) -> None:
    machine.write(
        "shop.py",
        """
        from __future__ import annotations
        import threading
        from fastapi import APIRouter, FastAPI
        from pydantic import BaseModel
        from eagleray import serve

        app = FastAPI()
        router = APIRouter()
        lock = threading.Lock()

        class Item(BaseModel):
            name: str

        class Base:
            def length(self, text):
                return len(text)

        @serve.deployment
        @serve.ingress(app)
        class Shop(Base):
            @app.post("/item")
            async def item(self, item: Item) -> Item:
                with lock:
                    return Item(name=item.name * super().length("ab"))

            @router.get("/sub")
            def sub(self) -> str:
                return type(self).__name__

        app.include_router(router, prefix="/router")
        """,
    )
    script = machine.serve("from eagleray import serve\nfrom shop import Shop\napp = Shop.bind()")
    answer = script.post("/item", {"name": "x"}, headers={"content-type": "application/json"})
    assert answer.json() == {"name": "xx"}, answer.text
    assert script.get("/router/sub").status == 404, "it was included after the class had its copy"


def test_a_class_made_by_a_function_has_its_endpoints(machine: Machine) -> None:
    script = machine.serve(
        """
        from fastapi import FastAPI
        from eagleray import serve

        def make(word):
            api = FastAPI()

            class Base:
                @api.get("/inherited")
                async def inherited(self):
                    return "inherited"

            @serve.deployment
            @serve.ingress(api)
            class Shop(Base):
                class Inner:
                    pass

                @api.get("/")
                async def root(self):
                    return [word, self.Inner.__qualname__, type(self).__qualname__]

            return Shop

        app = make("hello").bind()
        """
    )
    names = ["make.<locals>.Shop.Inner", "make.<locals>.Shop"]
    assert script.get("/").json() == ["hello", *names]
    assert script.get("/inherited").json() == "inherited"
