"""What one replica more costs, of a deployment that imports scikit-learn: time until it is ready, and its own memory.

    .venv/bin/python benches/replicas.py [--rounds 20]

A replica of two is killed, again and again. `ready_s` is the median from the controller's decision to start another
one until it is ready, by the controller's own events. `uss_mib` is the memory that a replica shares with nobody, after
1,000 requests to each, the median of both. The same without forks stands beside it. Prints JSON.
"""

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from measure import CellFailed, free_port
from setup import iris_model, train
from startup import IRIS, SERVICE
from systems import APPS, own_python

LIMIT_S = 60
REQUESTS = 1000
# The import is the module's: what a constructor imports, it imports after the fork.
APPLICATION = f"import sklearn.ensemble\n{SERVICE}"
DEPLOY = "from eagleray import serve\nfrom service import app\nserve.run(app)\n"


class Node:
    """A resident node with two replicas."""

    def __init__(self, directory, forks):
        self.directory = directory
        self.port = free_port()
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(APPS),
            "BENCH_IRIS_MODEL": str(iris_model("eagleray")),
            "EAGLERAY_RUNTIME_DIR": str(directory / "run"),
            "EAGLERAY_CONTROL_PORT": "0",
            "EAGLERAY_ZYGOTE": "1" if forks else "0",
            "XDG_STATE_HOME": str(directory / "state"),
        }
        (directory / "service.py").write_text(APPLICATION)

    def do(self, *command):
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        if done.returncode != 0:
            raise CellFailed(f"{command}: {done.stderr[-600:]}")
        return done.stdout

    def cli(self, *arguments):
        return self.do(str(own_python().parent / "eagleray"), *arguments)

    def __enter__(self):
        self.cli("start", "--http-port", str(self.port))
        self.do(str(own_python()), "-c", DEPLOY)
        return self

    def __exit__(self, *_):
        self.cli("stop")

    def events(self):
        """Wall times by replica: of the decision to start it, and of when it was ready."""
        times = {}
        for line in self.cli("events", "--json", "--limit", "100").splitlines():
            event = json.loads(line)
            word = event["message"].split()[0]
            if event.get("replica_id") and word in ("starts", "ready"):
                times.setdefault(event["replica_id"], {})[word] = event["at_s"]
        return times

    def replicas(self):
        """Process ids, of those that can be told by their title."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().decode(errors="replace").replace("\0", " ").split()
                if words[:3] == ["eagleray:", "replica", "default/Iris"]:
                    environment = (path.parent / "environ").read_bytes().decode(errors="replace").split("\0")
                    if f"EAGLERAY_RUN_DIR={self.directory / 'run' / 'default'}" in environment:
                        found[words[3]] = int(path.parent.name)
        return found

    def wait_for_two(self, gone=""):
        """Their process ids, when both are ready."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            found = self.replicas()
            if len(found) == 2 and gone not in found:
                times = self.events()
                if all("ready" in times.get(one, {}) for one in found):
                    return found
            time.sleep(0.02)
        raise CellFailed(f"there are not two replicas: {self.replicas()}")

    def ask(self, count):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        for _ in range(count):
            connection.request("POST", "/", body=IRIS)
            response = connection.getresponse()
            if response.status != 200 or not response.read():
                raise CellFailed(f"status {response.status}")
        connection.close()


def own_mib(pid):
    """Memory that the process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("Private_")]
    return sum(kilobytes) / 1024


def measure(directory, forks, rounds):
    with Node(directory, forks) as node:
        node.wait_for_two()
        node.ask(2 * REQUESTS)
        own = statistics.median(own_mib(pid) for pid in node.wait_for_two().values())
        ready = []
        for _ in range(rounds):
            before = node.wait_for_two()
            victim = min(before)
            os.kill(before[victim], signal.SIGKILL)
            after = node.wait_for_two(victim)
            (new,) = set(after) - set(before)
            at = node.events()[new]
            ready.append(at["ready"] - at["starts"])
    return {"ready_s": statistics.median(ready), "slowest_s": max(ready), "uss_mib": own}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    if not iris_model("eagleray").exists():
        train("eagleray", own_python())
    took = {}
    for name, forks, times in (("forked", True, rounds), ("alone", False, max(3, rounds // 4))):
        directory = Path(tempfile.mkdtemp(prefix="eb-", dir="/tmp"))
        try:
            took[name] = measure(directory, forks, times)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(took, indent=2))


if __name__ == "__main__":
    main()
