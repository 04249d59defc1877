"""What FastAPI's own machinery costs: the rows `fastapi_get` and `fastapi_post` called as ASGI, with nothing around.

    python benches/asgi_alone.py

prints CPU microseconds a call, the median of seven rounds, as one line of JSON. What a server costs above it is the
server's own share. It is run with the interpreter that serves, so that versions are equal.
"""

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "apps"))

from routes_app import app  # noqa: E402

from systems import ORDER_BODY  # noqa: E402

ROUNDS = 7
CALLS = 4000


def scope(method, path):
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


async def one(method, path, body):
    """A request in a task of its own, as every server runs it."""
    status = None

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        nonlocal status
        status = message.get("status", status)

    await asyncio.get_running_loop().create_task(app(scope(method, path), receive, send))
    if status != 200:
        raise RuntimeError(f"{method} {path}: {status}")


async def cost_us(method, path, body):
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            await one(method, path, body)
        rounds.append((time.process_time() - began) * 1e6 / CALLS)
    return statistics.median(rounds)


async def main():
    return {
        "fastapi_get": await cost_us("GET", "/dict", b""),
        "fastapi_post": await cost_us("POST", "/model", ORDER_BODY.encode()),
    }


if __name__ == "__main__":
    try:
        import uvloop

        found = uvloop.run(main())
    except ImportError:
        found = asyncio.run(main())
    print(json.dumps(found))
