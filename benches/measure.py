"""One cell: start a system, wait for its first 200, load it, note what it cost, end it."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import machine
from setup import BENCH, ROOT
from systems import ROWS, own_python, request

LOAD = ROOT / "target" / "release" / "eagleray-bench-load"
START_LIMIT_S = 90
# A cell is repeated when steal and foreign work together took more of the machine than this many cores.
FOREIGN_LIMIT = 0.2


class CellFailed(Exception):
    """The system did not start or did not answer; the text says what it last wrote."""


@dataclass(frozen=True)
class Server:
    """A running system under test."""

    port: int
    path: str
    top: subprocess.Popen
    log: Path
    start_s: float


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(system, row, mode):
    """Runs a system for one row; every process of it is gone afterwards."""
    port = free_port()
    # Short, wherever TMPDIR is: the paths of unix sockets below it must fit in 107 bytes.
    scratch = Path(tempfile.mkdtemp(prefix="eb-", dir="/tmp"))
    log = BENCH / "logs" / f"{system.name}-{row}-{mode}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    tops = []
    try:
        command = system.command(row, mode, port, scratch)
        with log.open("wb") as output:
            began = time.monotonic()
            tops.append(
                subprocess.Popen(
                    [str(part) for part in command.arguments],
                    env={**os.environ, **command.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=scratch,
                )
            )
            wait_for_200(tops[0], port, system.path, row, began, log)
        yield Server(port, system.path, tops[0], log, time.monotonic() - began)
    finally:
        killed = machine.end(tops)
        if killed:
            print(f"note: {system.name} left {killed} processes after SIGTERM; they were killed", flush=True)
        shutil.rmtree(scratch, ignore_errors=True)


def wait_for_200(top, port, path, row, began, log):
    status = None
    while time.monotonic() - began < START_LIMIT_S:
        if top.poll() is not None:
            raise CellFailed(f"ended with status {top.returncode}: {tail(log)}")
        status, _ = ask(port, path, row)
        if status == 200:
            return
        time.sleep(0.005)
    raise CellFailed(f"no 200 within {START_LIMIT_S} s, the last was {status}: {tail(log)}")


def wait_until(answers, tops, log):
    """Until `answers()`, while all of `tops` run."""
    began = time.monotonic()
    while not answers():
        if any(top.poll() is not None for top in tops) or time.monotonic() - began > START_LIMIT_S:
            raise CellFailed(f"it does not answer: {tail(log)}")
        time.sleep(0.05)


def ask(port, path, row):
    """Status and body of one request; None while nothing listens."""
    asked = request(row)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        headers = dict(line.split(": ") for line in asked.headers)
        connection.request(asked.method, path + asked.path, asked.body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None, b""
    finally:
        connection.close()


def tail(log):
    return log.read_text(errors="replace")[-600:].strip()


def load(server, row, connections, *, seconds=None, requests=None, tally=False):
    """Runs the load generator once. Returns its report, with what servers, generator and others used meanwhile."""
    asked = request(row)
    command = [LOAD, f"127.0.0.1:{server.port}", "--connections", connections, "--method", asked.method]
    command += ["--body", asked.body, "--path", server.path + asked.path]
    for line in asked.headers:
        command += ["--header", line]
    command += ["--requests", requests] if requests else ["--seconds", seconds]
    if tally:
        command.append("--tally")
    busy_before, steal_before = machine.busy_and_steal()
    own_before = time.process_time()
    cpu_before = sum(machine.cpu_seconds().values())
    began = time.monotonic()
    generator = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, error = generator.communicate(timeout=600)
    elapsed = time.monotonic() - began
    cpu = sum(machine.cpu_seconds().values()) - cpu_before
    own = time.process_time() - own_before
    busy, steal = machine.busy_and_steal()
    if generator.returncode != 0:
        raise CellFailed(f"load: {error.decode().strip()}: {tail(server.log)}")
    report = json.loads(output)
    foreign = (busy - busy_before) - cpu - own - report["cpu_seconds"]
    report["server_us_per_request"] = cpu * 1e6 / max(report["requests"], 1)
    report["server_cores"] = cpu / elapsed
    report["generator_cores"] = report["cpu_seconds"] / elapsed
    report["steal_cores"] = (steal - steal_before) / elapsed
    report["foreign_cores"] = max(foreign / elapsed, 0.0)
    return report


def disturbed(report):
    return report["steal_cores"] + report["foreign_cores"] > FOREIGN_LIMIT


def measure(system, row, mode, seconds, warmup):
    """One cell: latencies at one connection and at those of the row, CPU a request, memory, start time."""
    connections = ROWS[row].connections
    with serving(system, row, mode) as server:
        load(server, row, connections, seconds=warmup)
        one = load(server, row, 1, seconds=seconds / 2)
        # A batcher that measures needs load of the size to measure.
        load(server, row, connections, seconds=warmup)
        many = load(server, row, connections, seconds=seconds)
        cell = {"one": one, "many": many, "pss_mib": machine.pss_mib(), "start_s": server.start_s}
        if row == "batch" and system.name == "eagleray":
            cell["mean_call_s"] = float(ask(server.port, "/mean", row)[1])
    cell["processes_disturbed"] = disturbed(many) or disturbed(one)
    return cell


def measure_cleanly(system, row, mode, seconds, warmup, tries=3):
    """The first cell in which the machine was ours; after so many tries the least disturbed."""
    cells = []
    for _ in range(tries):
        cell = measure(system, row, mode, seconds, warmup)
        cells.append(cell)
        if not cell["processes_disturbed"]:
            break
    best = min(cells, key=lambda cell: cell["many"]["steal_cores"] + cell["many"]["foreign_cores"])
    best["tries"] = len(cells)
    return best


def measure_memory(system, requests):
    """PSS of every process of a noop service at ten points on the way to `requests`."""
    with serving(system, "noop_async", "opened") as server:
        points = [(0, machine.pss_mib())]
        for tenth in range(1, 11):
            load(server, "noop_async", 64, requests=max(requests // 10, 1))
            points.append((tenth * requests // 10, machine.pss_mib()))
    return points


def measure_balance(system, seconds):
    """How requests fall on two replicas: a handler answers with its process id."""
    with serving(system, "balance", "opened") as server:
        load(server, "balance", 64, seconds=1)
        return load(server, "balance", 64, seconds=seconds, tally=True)["tally"]


def measure_handles():
    """What the scripts on calls between replicas and on big values report, by script."""
    return {"handle_call": script("handle_call", "--json"), "big_values": script("big_values")}


def measure_asgi_alone():
    """CPU microseconds a call of the FastAPI rows' application with nothing around it, by row; what compiling costs."""
    return script("asgi_alone") | {"compiled": script("compiled_alone")}


def measure_bodies():
    """What 1 GiB takes one way or the other, by way and system."""
    return script("bodies", limit_s=1800)


def measure_echoes():
    """Rates of messages of WebSockets that come back, by way and system."""
    return script("echoes", limit_s=1800)


def measure_startup():
    """Seconds at a prompt: cold starts and reloads, and what a bare Python needs for the same."""
    return script("startup", limit_s=900)


def measure_scaling():
    """Seconds until a burst has its replicas, and until the first answer from none, by system."""
    return script("scaling", limit_s=900)


def measure_replicas():
    """What one replica more costs, forked and not: seconds until it is ready, and its own memory."""
    return script("replicas", limit_s=900)


def measure_scrape():
    """Milliseconds and bytes of `/metrics` of a large node, from files as its processes write them."""
    return script("scrape", limit_s=900)


def measure_control():
    """Milliseconds of commands that look after a node, and of a search in its logs."""
    return script("control", limit_s=900)


def script(name, *arguments, limit_s=300):
    """What a script of this folder reports."""
    command = [str(own_python()), str(ROOT / "benches" / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    if done.returncode != 0:
        raise CellFailed(f"{name}: {done.stderr[-600:].strip()}")
    return json.loads(done.stdout[done.stdout.index("{") :])
