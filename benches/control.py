"""How long the commands take that one types all day: `status`, `deploy`, `logs`, each from its start to its end.

    .venv/bin/python benches/control.py [--tries 15] [--replicas 1000] [--mebibytes 1024]

A node of its own for each of three:

- `status` of a node that serves nothing, then `deploy` of an application in a file: as it was at the last deploy, so
  that its build is skipped and nothing starts, and with one module changed, so that it is imported and rolls.
- `status` of a deployment with a thousand replicas. Node and controller are real, and so is a process for each
  replica; what runs in them is a few lines that say they are ready and healthy. A thousand interpreters with user code
  would measure the memory of this machine.
- `logs --request ID` over a gigabyte (log_search.py).

Wall time as a person waits for it, and beside it the CPU time of the command, which tells a slow command from a busy
machine. Prints medians of milliseconds, as JSON.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import CellFailed, script

EAGLERAY = Path(sys.executable).with_name("eagleray")
LIMIT_S = 120
CONFIG = """\
applications:
- name: shop
  import_path: shop:app
  route_prefix: /
"""
SHOP = """
from eagleray import serve
import words


@serve.deployment
class Shop:
    async def __call__(self, request):
        return words.WORD


app = Shop.bind()
"""
CROWD = """
import sys
from eagleray import serve

# What the replicas run instead of an interpreter with this module.
sys.executable = {stand_in!r}


@serve.deployment(num_replicas={replicas})
class Crowd:
    async def __call__(self, request):
        return ""


app = Crowd.bind()
"""
# Frames of the control connection: Ready is sent at once, and the question whether it is healthy, with its number, has
# the bytes of its answer. Who connects gets a HELLO, by which the controller knows that it can be reached.
STAND_IN = """\
#!{python} -IS
import os, select, socket, struct, sys
control = socket.socket(fileno=int(os.environ["EAGLERAY_CONTROL_FD"]))
listener = socket.socket(fileno=int(os.environ["EAGLERAY_LISTEN_FD"]))
HEADER = struct.Struct("<IBBHQIIII")
HELLO, CONTROL = 1, 13
READY, HEALTH, STOP = b"\\x0a\\x00", 0x1A, 0x2A
def exactly(count):
    data = b""
    while len(data) < count:
        part = control.recv(count - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data
def frame(kind, body):
    return HEADER.pack(len(body), kind, 0, 0, 0, 0, 0, 0, 0) + body
control.sendall(frame(CONTROL, READY))
waiting = select.poll()
waiting.register(control, select.POLLIN)
waiting.register(listener, select.POLLIN)
while True:
    ready = dict(waiting.poll())
    if listener.fileno() in ready:
        caller = listener.accept()[0]
        caller.recv(HEADER.size)
        caller.sendall(frame(HELLO, os.environ["EAGLERAY_REPLICA"].encode()))
        caller.close()
    if control.fileno() in ready:
        body = exactly(HEADER.unpack(exactly(HEADER.size))[0])
        if body[0] == HEALTH:
            control.sendall(frame(CONTROL, body))
        elif body[0] == STOP:
            sys.exit(0)
"""


class Node:
    """A resident node in a directory of its own, and the command line on it."""

    def __init__(self, directory):
        self.directory = directory
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("EAGLERAY_", "RAY_"))}
        self.environment = inherited | {
            "EAGLERAY_RUNTIME_DIR": f"{directory}/run",
            "XDG_STATE_HOME": f"{directory}/state",
            "EAGLERAY_CONTROL_PORT": "0",
        }

    def write(self, name, text):
        """Puts a file beside the config."""
        (self.directory / name).write_text(text)

    def command(self, *arguments):
        """Runs a command to its end: milliseconds, those on a CPU, and what it printed."""
        with (self.directory / "output").open("w+b") as output:
            began = time.perf_counter()
            running = subprocess.Popen(
                [EAGLERAY, *arguments],
                cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
            _, status, used = os.wait4(running.pid, 0)
            took = time.perf_counter() - began
            running.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            text = output.read().decode()
        if running.returncode != 0:
            raise CellFailed(f"eagleray {arguments[0]} ended with {running.returncode}: {text[-600:].strip()}")
        return 1000 * took, 1000 * (used.ru_utime + used.ru_stime), text


@contextlib.contextmanager
def node(*options):
    """A started node; it and its directory are gone afterwards."""
    # Short, wherever TMPDIR is: the paths of unix sockets below it must fit in 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="eb-", dir="/tmp"))
    try:
        started = Node(directory)
        started.command("start", "--name", "bench", *options)
        try:
            yield started
        finally:
            started.command("stop", "--name", "bench")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def medians(tries, once):
    """The middle of what so many tries took, after one that does not count."""
    once(0)
    taken = [once(number) for number in range(1, tries + 1)]
    return {
        "median_ms": round(statistics.median(took for took, *_ in taken), 1),
        "worst_ms": round(max(took for took, *_ in taken), 1),
        "command_cpu_ms": round(statistics.median(cpu for _, cpu, *_ in taken), 1),
    }


def status_and_deploys(tries):
    """Of a node with nothing, and of an application of two modules."""
    with node("--http-port", "0") as one:
        found = {"status": medians(tries, lambda _: one.command("status"))}
        one.write("shop.yaml", CONFIG)
        one.write("shop.py", SHOP)
        one.write("words.py", "WORD = 'first'\n")
        one.command("deploy", "shop.yaml")

        def changed(number):
            one.write("words.py", f"WORD = 'try {number}'\n")
            return one.command("deploy", "shop.yaml")

        found["deploy_unchanged"] = medians(tries, lambda _: one.command("deploy", "shop.yaml"))
        found["deploy_changed"] = medians(max(tries // 3, 1), changed)
    return found


def status_of_many(tries, replicas):
    """Of a node whose controller has so many replicas that are ready."""
    with node("--no-http") as one:
        stand_in = one.directory / "replica"
        stand_in.write_text(STAND_IN.format(python=sys.executable))
        stand_in.chmod(0o755)
        one.write("crowd.py", CROWD.format(stand_in=str(stand_in), replicas=replicas))
        one.write("crowd.yaml", CONFIG.replace("shop", "crowd"))
        one.command("deploy", "crowd.yaml", "--timeout", str(LIMIT_S))
        running = json.loads(one.command("status", "--json")[2])["applications"][0]["deployments"][0]
        ready = sum(replica["state"] == "RUNNING" for replica in running["replicas"])
        if ready != replicas:
            raise CellFailed(f"{ready} of {replicas} replicas are ready")
        return {"status_of_many": {"replicas": replicas, **medians(tries, lambda _: one.command("status"))}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=15)
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--mebibytes", type=int, default=1024, help="of logs")
    chosen = parser.parse_args()
    found = status_and_deploys(chosen.tries)
    found |= status_of_many(chosen.tries, chosen.replicas)
    found["logs"] = script("log_search", "--json", "--mebibytes", str(chosen.mebibytes), limit_s=600)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
