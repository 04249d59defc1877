"""How long a burst waits for more replicas, and how long the first request to none waits for one.

    .venv/bin/python benches/scaling.py [--rounds 5]

`burst_s`: from 1 to 200 concurrent requests (`min 1, max 4, upscale_delay_s 0`), until the status has four replicas
that run. `from_zero_s`: from the request to its answer where no replica runs, with a constructor that does nothing. The
same program serves with Ray Serve, where the environment of that peer is installed (benches/setup.py). Prints medians
of seconds by system, as JSON.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from measure import CellFailed, free_port
from systems import own_python, venv_python

LIMIT_S = 400
# Arguments: the package, a port, rounds. The last line that it prints is the answer.
PROGRAM = """
import asyncio, http.client, importlib, json, sys, threading, time

package, port, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
serve = importlib.import_module(f"{package}.serve")
SCALING = {"max_replicas": 4, "target_ongoing_requests": 10, "upscale_delay_s": 0, "downscale_delay_s": 1,
           "look_back_period_s": 0.5, "metrics_interval_s": 0.2}


async def slow(self, request):
    await asyncio.sleep(1)
    return "done"


async def quick(self, request):
    return "done"


def deployment(name, call, least):
    scaling = {**SCALING, "min_replicas": least}
    if package == "eagleray":
        # Stated, the period would smooth the burst; and back to one quickly, whatever was before.
        scaling.pop("look_back_period_s")
        scaling["aggregation_function"] = "min"
    options = {"autoscaling_config": scaling, "max_ongoing_requests": 60, "ray_actor_options": {"num_cpus": 0}}
    return serve.deployment(**options)(type(name, (), {"__call__": call}))


def ask(path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path)
    assert connection.getresponse().read() == b"done"


def client(done):
    while not done.is_set():
        ask("/burst")


def running(name):
    found = serve.status().applications[name].deployments[name.capitalize()].replica_states
    return {getattr(state, "value", state): count for state, count in found.items()} == {"RUNNING": running.wanted}


def wait(name, count, limit=120):
    running.wanted, end = count, time.monotonic() + limit
    while not (count == 0 and not serve.status().applications[name].deployments[name.capitalize()].replica_states) \\
            and not running(name):
        assert time.monotonic() < end, f"{name} does not come to {count}"
        time.sleep(0.01)


serve.start(http_options={"port": port})
serve.run(deployment("Burst", slow, 1).bind(), name="burst", route_prefix="/burst")
serve.run(deployment("Zero", quick, 0).bind(), name="zero", route_prefix="/zero")
found = {"burst_s": [], "from_zero_s": []}
for _ in range(rounds):
    wait("burst", 1)
    done = threading.Event()
    clients = [threading.Thread(target=client, args=(done,)) for _ in range(200)]
    began = time.monotonic()
    for one in clients:
        one.start()
    wait("burst", 4)
    found["burst_s"].append(time.monotonic() - began)
    done.set()
    for one in clients:
        one.join()
for _ in range(rounds):
    wait("zero", 0)
    began = time.monotonic()
    ask("/zero")
    found["from_zero_s"].append(time.monotonic() - began)
serve.shutdown()
print(json.dumps(found))
"""


def measure(python, package, rounds, directory):
    """Medians of one system, and the longest."""
    program = directory / "scaling_program.py"
    program.write_text(PROGRAM)
    environment = {
        **os.environ,
        "EAGLERAY_RUNTIME_DIR": str(directory / "run"),
        "EAGLERAY_CONTROL_PORT": "0",
        "XDG_STATE_HOME": str(directory / "state"),
        "RAY_TMPDIR": str(directory / "ray"),
    }
    command = [str(python), str(program), package, str(free_port()), str(rounds)]
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise CellFailed(f"{package}: {done.stderr[-800:].strip()}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    medians = {name: round(statistics.median(values), 3) for name, values in found.items()}
    return {**medians, **{f"worst_{name}": round(max(values), 3) for name, values in found.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ray", type=Path, default=venv_python("ray"), help="the Python that has Ray Serve")
    chosen = parser.parse_args()
    answer = {}
    for system, python, package in (("eagleray", own_python(), "eagleray"), ("ray", chosen.ray, "ray")):
        if not python.exists():
            continue
        directory = Path(tempfile.mkdtemp(prefix="eb-", dir="/tmp"))
        try:
            answer[system] = measure(python, package, chosen.rounds if system == "eagleray" else 1, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
