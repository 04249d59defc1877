"""Composition, batching and streaming under test: what `eagleray_app.py` serves beside the plain rows."""

import asyncio
import importlib
import os
import time

from iris_model import CHUNKS
from iris_model import Iris as IrisModel
from starlette.requests import Request
from starlette.responses import StreamingResponse

from eagleray import serve

IRIS_TARGET_MS = float(os.environ.get("BENCH_IRIS_TARGET_MS", "50"))


class A:
    async def __call__(self, text):
        return text + "a"


class B:
    async def __call__(self, text):
        return text + "b"


class Composition:
    def __init__(self, a, b):
        self.a, self.b = a, b

    async def __call__(self, request: Request):
        return await self.b.remote(await self.a.remote("x"))


class Batch:
    def __init__(self):
        self.seconds, self.calls = 0.0, 0

    def model(self):
        began = time.perf_counter()
        time.sleep(0.01)
        self.seconds += time.perf_counter() - began
        self.calls += 1

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def predict(self, items):
        await asyncio.to_thread(self.model)
        return ["ok"] * len(items)

    async def __call__(self, request: Request):
        if request.url.path == "/mean":
            return self.seconds / self.calls
        return await self.predict(1)


class IrisBatched:
    def __init__(self):
        self.iris = IrisModel()

    @serve.batch(target_latency_ms=IRIS_TARGET_MS)
    async def predict(self, payloads):
        return self.iris.answers(payloads)

    async def __call__(self, request: Request):
        return await self.predict(await request.json())


class Stream:
    async def chunks(self):
        for chunk in CHUNKS:
            yield chunk

    async def __call__(self, request: Request):
        return StreamingResponse(self.chunks(), media_type="text/plain")


def routes(module):
    app = importlib.import_module(module).app

    @serve.ingress(app)
    class Routes:
        pass

    return Routes


def applications(options):
    """By name; every deployment has these options."""

    def bind(target, *arguments):
        return serve.deployment(target).options(**options).bind(*arguments)

    return {
        "composition": lambda: bind(Composition, bind(A), bind(B)),
        "batch": lambda: bind(Batch),
        "iris_batched": lambda: bind(IrisBatched),
        "stream": lambda: bind(Stream),
        "routes": lambda: bind(routes("routes_app")),
        "routes_cors": lambda: bind(routes("routes_cors_app")),
    }
