"""Ray Serve under test: `python ray_app.py ROW MODE PORT`. Its HAProxy mode is switched on by the environment."""

import os
import signal
import sys
import threading

import ray
from iris_model import CHUNKS
from iris_model import Iris as IrisModel
from ray import serve
from starlette.requests import Request
from starlette.responses import StreamingResponse

ROW, MODE, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
# Replicas that reserve a tenth of a core: two of them, proxy and controller fit on the smallest machine.
OPTIONS = {"ray_actor_options": {"num_cpus": 0.1}}
if MODE == "opened":
    OPTIONS |= {"max_ongoing_requests": 1000, "logging_config": {"enable_access_log": False}}


@serve.deployment(**OPTIONS)
class Noop:
    async def __call__(self, request: Request):
        return "ok"


@serve.deployment(**OPTIONS)
class NoopSync:
    def __call__(self, request: Request):
        return "ok"


@serve.deployment(**OPTIONS)
class Iris:
    def __init__(self):
        self.iris = IrisModel()

    async def __call__(self, request: Request):
        return self.iris.answer(await request.json())


@serve.deployment(**OPTIONS)
class A:
    async def __call__(self, text):
        return text + "a"


@serve.deployment(**OPTIONS)
class B:
    async def __call__(self, text):
        return text + "b"


@serve.deployment(**OPTIONS)
class Composition:
    def __init__(self, a, b):
        self.a, self.b = a, b

    async def __call__(self, request: Request):
        return await self.b.remote(await self.a.remote("x"))


@serve.deployment(**OPTIONS)
class IrisBatched:
    def __init__(self):
        self.iris = IrisModel()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.005)
    async def predict(self, payloads):
        return self.iris.answers(payloads)

    async def __call__(self, request: Request):
        return await self.predict(await request.json())


@serve.deployment(**OPTIONS)
class Stream:
    async def chunks(self):
        for chunk in CHUNKS:
            yield chunk

    async def __call__(self, request: Request):
        return StreamingResponse(self.chunks(), media_type="text/plain")


APPLICATIONS = {
    "noop_async": Noop.bind,
    "noop_sync": NoopSync.bind,
    "two_replicas": lambda: Noop.options(num_replicas=2).bind(),
    "iris": Iris.bind,
    "composition": lambda: Composition.bind(A.bind(), B.bind()),
    "iris_batched": IrisBatched.bind,
    "stream": Stream.bind,
}

if __name__ == "__main__":
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    environment = {name: os.environ[name] for name in ("PYTHONPATH", "BENCH_IRIS_MODEL")}
    ray.init(
        include_dashboard=False,
        num_cpus=2,
        log_to_driver=False,
        _temp_dir=os.environ["BENCH_RAY_DIRECTORY"],
        runtime_env={"env_vars": environment},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(APPLICATIONS[ROW](), route_prefix="/")
    ended.wait()
    ray.shutdown()
