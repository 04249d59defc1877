"""Messages of WebSockets that come back, small ones on many connections and big ones on few: Eagleray beside uvicorn.

    .venv/bin/python benches/echoes.py [--rounds 3] [--seconds 3] [--systems eagleray,uvicorn,baseline]

Both serve the same ASGI application (apps/echo_app.py), plain and over TLS, without compression and with
permessage-deflate; the client is the load generator, which compresses its message once and inflates nothing. Rounds are
interleaved. Prints medians of messages a second, latencies in microseconds and CPU microseconds a message of all
processes of the server, as JSON.

Needs openssl, and uvicorn with websockets and uvloop from `make bench-setup`. A baseline without compression has no
cells with it.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import machine
from bodies import certificate
from measure import LOAD, CellFailed, free_port, tail, wait_until
from setup import venv_python
from systems import APPS, baseline_python, own_python

SYSTEMS = ("eagleray", "uvicorn", "baseline")
# Bytes of a message, and connections.
SIZES = {"1KiB": (1024, 1000), "1MiB": (1 << 20, 8)}
WAYS = [f"{size}-{kind}{packed}" for size in SIZES for kind in ("plain", "tls") for packed in ("", "-deflate")]


def missing(system):
    """Why a system cannot run here, or None."""
    if system == "uvicorn" and not venv_python("fastapi").exists():
        return "no uvicorn: make bench-setup"
    if system == "baseline" and baseline_python() is None:
        return "BENCH_BASELINE names no environment"
    return None


@contextlib.contextmanager
def serving(system, tls, scratch):
    """Runs one system; yields its port."""
    port, files = free_port(), certificate(scratch) if tls else []
    environment = {
        **os.environ,
        "PYTHONPATH": str(APPS),
        "EAGLERAY_RUNTIME_DIR": str(scratch / "run"),
        "XDG_STATE_HOME": str(scratch / "state"),
    }
    if system == "uvicorn":
        command = [venv_python("fastapi"), "-m", "uvicorn", "echo_app:app", "--host", "127.0.0.1", "--port", port]
        command += ["--loop", "uvloop", "--ws", "websockets", "--log-level", "warning"]
        command += ["--ssl-certfile", files[0], "--ssl-keyfile", files[1]] if tls else []
    else:
        python = own_python() if system == "eagleray" else baseline_python()
        command = [python, APPS / "echo_app.py", port, *files]
    log, tops = scratch / "log", []
    try:
        with log.open("wb") as output:
            words = [str(part) for part in command]
            tops.append(
                subprocess.Popen(
                    words, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=scratch
                )
            )
        wait_until(lambda: answers(port, tls), tops, log)
        yield port
    finally:
        machine.end(tops)


def answers(port, tls):
    """Whether it answers a request."""
    context = ssl._create_unverified_context() if tls else None
    try:
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def echo(system, way, seconds, scratch):
    """One cell."""
    size, kind, *packed = way.split("-")
    length, connections = SIZES[size]
    with serving(system, kind == "tls", scratch) as port:
        command = [LOAD, f"127.0.0.1:{port}", "--websocket", length, "--connections", connections]
        command += ["--seconds", seconds, "--warmup", seconds / 3]
        command += ["--tls"] if kind == "tls" else []
        command += ["--compress"] if packed else []
        before, began = sum(machine.cpu_seconds().values()), time.monotonic()
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)
        cpu, elapsed = sum(machine.cpu_seconds().values()) - before, time.monotonic() - began
        if done.returncode != 0:
            raise CellFailed(f"{system}, {way}: {done.stderr.strip()}, {tail(scratch / 'log')}")
        report = json.loads(done.stdout)
        if report["errors"] or not report["requests"]:
            raise CellFailed(f"{system}, {way}: {report}, {tail(scratch / 'log')}")
        generator = report["cpu_seconds"] * (elapsed / report["seconds"])
    return {
        "messages_per_second": report["rps"],
        "p50_us": report["p50"],
        "p99_us": report["p99"],
        # Of the warm-up too, so to all messages of the time that was measured and of that.
        "server_us_per_message": cpu * 1e6 / (report["rps"] * elapsed),
        "generator_cores": generator / elapsed,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--ways", default=",".join(WAYS))
    chosen = parser.parse_args()
    machine.become_subreaper()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    skipped = {name: reason for name in chosen.systems.split(",") if (reason := missing(name))}
    systems = [name for name in chosen.systems.split(",") if name not in skipped]
    found = {}
    for number in range(chosen.rounds):
        for way in chosen.ways.split(","):
            for system in systems:
                scratch = Path(tempfile.mkdtemp(prefix="eb-", dir="/tmp"))
                try:
                    cell = echo(system, way, chosen.seconds, scratch)
                except CellFailed as error:
                    print(f"round {number + 1}/{chosen.rounds}  FAILED: {error}", file=sys.stderr, flush=True)
                    continue
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
                found.setdefault(way, {}).setdefault(system, []).append(cell)
                brief = ", ".join(f"{name} {value:,.2f}" for name, value in cell.items())
                print(f"round {number + 1}/{chosen.rounds}  {way} {system}: {brief}", file=sys.stderr, flush=True)
    medians = {
        way: {
            system: {name: statistics.median(cell[name] for cell in cells) for name in cells[0]}
            for system, cells in systems.items()
        }
        for way, systems in found.items()
    }
    print(json.dumps({"skipped": skipped, "ways": medians}, indent=1))


if __name__ == "__main__":
    main()
