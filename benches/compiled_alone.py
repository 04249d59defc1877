"""What a compiled FastAPI route costs, beside the same route called as ASGI: with no server around either.

    python benches/compiled_alone.py

prints CPU microseconds a request, the median of seven rounds of each, as one line of JSON, and how long it takes to
compile 1,000 routes. It is run with the interpreter that serves, so that versions are equal.
"""

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Annotated

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "apps"))

from fastapi import Depends, FastAPI, HTTPException  # noqa: E402
from fastapi.middleware.cors import CORSMiddleware  # noqa: E402
from fastapi.security import APIKeyHeader  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from routes_app import app as plain  # noqa: E402

from asgi_alone import scope  # noqa: E402
from eagleray._user_code.compiled import serve  # noqa: E402
from systems import ORDER_BODY  # noqa: E402

ROUNDS = 7
CALLS = 2000
ROUTES = 1000


class User(BaseModel):
    name: str
    age: int = 3


def dependent():
    """One dependency with `yield`, one security header, a response model."""
    app = FastAPI()

    async def session():
        yield {"name": "a"}

    @app.get("/user", response_model=User)
    async def user(
        row: Annotated[dict, Depends(session)], key: Annotated[str, Depends(APIKeyHeader(name="authorization"))]
    ):
        return row

    @app.get("/items/{item}")
    async def item(item: int, q: str | None = None, limit: int = 10):
        if item < 0:
            raise HTTPException(404, "no such item")
        return {"item": item, "q": q, "limit": limit}

    @app.get("/sync")
    def in_thread():
        return {"a": 1}

    return app


def below_cors():
    """The same, with a middleware."""
    app = dependent()
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    return app


class Server:
    """A server that has the whole body, and throws the answer away."""

    def __init__(self, body):
        self.body = body
        self.status = None

    async def receive(self):
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message):
        self.status = message.get("status", self.status)

    def whole_body(self):
        return self.body

    def answer(self, status, headers, body):
        self.status = status


async def cost_us(call, method, path, body, query, status):
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            server, asked = Server(body), scope(method, path)
            asked["query_string"] = query
            asked["headers"].append((b"authorization", b"token"))
            await asyncio.get_running_loop().create_task(call(asked, server))
            if server.status != status:
                raise RuntimeError(f"{method} {path}: {server.status}")
        rounds.append((time.process_time() - began) * 1e6 / CALLS)
    return round(statistics.median(rounds), 1)


async def both(app, method, path, body=b"", query=b"", status=200):
    """As ASGI, and compiled."""

    async def as_asgi(asked, server):
        await app(asked, server.receive, server.send)

    async def compiled(asked, server):
        await routes.run(*routes.find(asked), asked, server)

    app.middleware_stack = app.build_middleware_stack()
    first = await cost_us(as_asgi, method, path, body, query, status)
    routes = serve.compile_routes(app)
    if not routes.is_whole:
        serve.Below.put(routes, app)
        compiled = as_asgi
    return {"asgi": first, "compiled": await cost_us(compiled, method, path, body, query, status)}


def many_routes():
    """An application of some size, of which one route is not compiled."""
    app = dependent()
    for number in range(20):

        @app.get(f"/others/{number}/{{name}}" if number % 2 else f"/others/{number}")
        async def other(name: str = ""):
            return name

    @app.get("/stream/{number}")
    async def stream(number: int):
        yield number

    return app


def falling_back_us():
    """What looking for a compiled route costs where there is none: a parameter in its path, behind ten others."""
    app = many_routes()
    app.middleware_stack = app.build_middleware_stack()
    routes, asked = serve.compile_routes(app), scope("GET", "/stream/1")
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS * 10):
            found = routes.find(asked)
        rounds.append((time.process_time() - began) * 1e6 / CALLS / 10)
    if found is not None or not routes.plans:
        raise RuntimeError(routes.summary())
    return round(statistics.median(rounds), 2)


def thousand_s():
    """Seconds that compiling takes."""
    app = FastAPI()
    for number in range(ROUTES):

        @app.post(f"/{number}/{{name}}" if number % 2 else f"/{number}")
        async def route(user: User, name: str = "") -> User:
            return user

    app.middleware_stack = app.build_middleware_stack()
    serve.compile_routes(FastAPI())
    began = time.process_time()
    routes = serve.compile_routes(app)
    if len(routes.plans) != ROUTES:
        raise RuntimeError(routes.summary())
    return round(time.process_time() - began, 3)


async def main():
    return {
        "get": await both(plain, "GET", "/dict"),
        "post": await both(plain, "POST", "/model", ORDER_BODY.encode()),
        "parameters": await both(dependent(), "GET", "/items/5", query=b"q=a&limit=3"),
        "not_found": await both(dependent(), "GET", "/items/-5", status=404),
        "invalid": await both(dependent(), "GET", "/items/x", status=422),
        "dependencies": await both(dependent(), "GET", "/user"),
        "below_cors": await both(below_cors(), "GET", "/user"),
        "sync": await both(dependent(), "GET", "/sync"),
        "falling_back_us": falling_back_us(),
        "thousand_routes_s": thousand_s(),
    }


if __name__ == "__main__":
    try:
        import uvloop

        found = uvloop.run(main())
    except ImportError:
        found = asyncio.run(main())
    print(json.dumps(found))
