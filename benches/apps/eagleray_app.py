"""Eagleray under test: `python eagleray_app.py ROW MODE PORT`, until it is told to end."""

import os
import signal
import sys

from iris_model import Iris as IrisModel
from starlette.requests import Request

from eagleray import serve

ROW, MODE, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
OPTIONS = {"max_ongoing_requests": 1000, "logging_config": {"enable_access_log": False}} if MODE == "opened" else {}


@serve.deployment(**OPTIONS)
class Noop:
    async def __call__(self, request: Request):
        return "ok"


@serve.deployment(**OPTIONS)
class NoopSync:
    def __call__(self, request: Request):
        return "ok"


@serve.deployment(**OPTIONS)
class Pid:
    async def __call__(self, request: Request):
        return str(os.getpid())


@serve.deployment(**OPTIONS)
class Iris:
    def __init__(self):
        self.iris = IrisModel()

    async def __call__(self, request: Request):
        return self.iris.answer(await request.json())


APPLICATIONS = {
    "noop_async": Noop.bind,
    "noop_sync": NoopSync.bind,
    "two_replicas": lambda: Noop.options(num_replicas=2).bind(),
    "balance": lambda: Pid.options(num_replicas=2).bind(),
    "iris": Iris.bind,
}
if ROW not in APPLICATIONS:
    # Apart, so that the rows above run on earlier versions too.
    import eagleray_models

    APPLICATIONS = eagleray_models.applications(OPTIONS)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(APPLICATIONS[ROW](), route_prefix="/", blocking=True)
