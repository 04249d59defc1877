"""`@serve.ingress` with FastAPI, end to end: what a client sees of one served application."""

import pytest
from test_receipts import ask

from machine import Machine, request

SERVICE = """
from typing import Iterator
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

    @app.get("/numbers")
    async def numbers(self) -> Iterator[int]:
        yield 1

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
    (status,) = ask(machine, "GET", "/api/v1/status")["applications"]
    other = {"path": "/numbers", "reason": "streams its answer"}
    assert status["compiled_routes"] == {"compiled": 3, "as_asgi": 1, "reason": None, "others": [other]}


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


APP_MODULE = """
from fastapi import APIRouter, FastAPI

app = FastAPI()
router = APIRouter()

def make():
    return FastAPI()
"""

CHANGES = """
import importlib
from fastapi import APIRouter, Request
from eagleray import serve

class Refused(Exception):
    pass

def deployment_of(app, word):
    @serve.deployment
    @serve.ingress(app)
    class Changes:
        def __init__(self, word):
            inner = APIRouter()
            inner.get("/routed")(lambda: "routed")

            @app.get("/late")
            async def late():
                return "late"

            @app.middleware("http")
            async def mark(request, call_next):
                response = await call_next(request)
                response.headers["x-marked"] = word
                return response

            async def refuse(request, error):
                from fastapi.responses import PlainTextResponse

                return PlainTextResponse("refused", 418)

            app.include_router(inner)
            app.add_exception_handler(Refused, refuse)
            app.state.word = word

        @app.get("/" + word)
        async def early(self, request: Request):
            return [request.app.state.word, request.app is app]

        @app.get("/refuse")
        async def refuse_this(self):
            raise Refused

    app.get("/after")(lambda: "after the decorator")
    return Changes
"""


@pytest.mark.contract("1.2/constructor-changes", "1.2/frozen")
def test_what_a_constructor_changes_of_the_application_is_served(machine: Machine) -> None:
    machine.write("apps.py", APP_MODULE)
    machine.write("changes.py", CHANGES)
    machine.write(
        "whole.py",
        "from apps import make\nfrom changes import deployment_of\napp = make()\nWhole = deployment_of(app, 'early')\n",
    )
    script = machine.serve(
        CHANGES
        + """
import apps, whole
from apps import app as alias
from fastapi import FastAPI

own = FastAPI()
apps.app.get("/imported")(lambda: "changed after its import")
shared = FastAPI()
first, second = deployment_of(shared, "early"), deployment_of(shared, "other")
served = {
    "own": deployment_of(own, "early"),
    "imported": deployment_of(alias, "early"),
    "made": deployment_of(apps.make(), "early"),
    "module": whole.Whole,
    "first": first,
    "second": second,
}
whole.app.get("/imported")(lambda: "of a module that the replica imports itself")
""",
        run="[serve.run(made.bind(name), name=name, route_prefix='/' + name) for name, made in served.items()]",
    )
    for name in ("own", "imported", "made", "module", "first", "second"):
        under = f"/{name}"
        path = "other" if name == "second" else "early"
        early = script.get(f"{under}/{path}")
        assert (early.json(), early.headers["x-marked"]) == ([name, True], name)
        assert script.get(f"{under}/late").json() == "late", name
        assert script.get(f"{under}/routed").json() == "routed", name
        refused = script.get(f"{under}/refuse")
        assert (refused.status, refused.text) == (418, "refused"), name
        assert script.get(f"{under}/after").status == (200 if name == "second" else 404), name
        assert script.get(f"{under}/imported").status == (200 if name == "imported" else 404), name


def test_a_module_and_the_script_have_one_application(machine: Machine) -> None:
    """The script decorates a class with an application of a module, whose functions use it by their own name for it."""
    machine.write(
        "app_of_module.py",
        """
        from fastapi import FastAPI
        app = FastAPI()

        @app.get("/in-module")
        def in_module():
            return app.state.word
        """,
    )
    machine.write("other.py", "import app_of_module\ndef word():\n    return app_of_module.app.state.word\n")
    script = machine.serve(
        """
        from app_of_module import app
        from eagleray import serve
        import other

        @serve.deployment
        @serve.ingress(app)
        class Service:
            def __init__(self):
                app.state.word = "of the constructor"

            @app.get("/in-script")
            def in_script(self):
                return [app.state.word, other.word()]
        """,
        run="serve.run(Service.bind())",
    )
    assert script.get("/in-module").json() == "of the constructor"
    assert script.get("/in-script").json() == ["of the constructor"] * 2
