"""Scenarios 8, 10 and 31: the death of the node and of everything, a stopped controller, and what is left behind."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from record import record

from machine import Load, Machine, eventually, remove, request

APPS = """
import os, subprocess, sys
from eagleray import serve

@serve.deployment(num_replicas=2)
class App:
    def __init__(self):
        self.child = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(3600)", "child-of-replica"], start_new_session=True
        )

    async def __call__(self, request):
        return str(os.getpid())

serve.run(App.options(num_replicas=1).bind(), name="second", route_prefix="/second")
app = App.bind()
"""
EVERYTHING = "eagleray: |.*child-of-replica"


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def status_of(address: str, path: str) -> int:
    try:
        return request("GET", address + path).status
    except OSError:
        return 0


def start_again(machine: Machine, address: str) -> None:
    """Starts the resident node on its port of before; both applications answer again."""
    port = address.rpartition(":")[2]
    started = machine.cli("start", "--http-port", port)
    assert started.returncode == 0, started.stderr
    for path in ("/", "/second"):
        eventually(lambda path=path: status_of(address, path) == 200, f"{path} serves again")


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


def dead_sockets(machine: Machine) -> list[str]:
    """Sockets in the run directories that nobody listens on."""
    import socket

    dead = []
    for path in machine.runtime.glob("**/*.sock"):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError as error:
                dead.append(f"{path}: {error}")
    return dead


def serving(machine: Machine) -> str:
    address = machine.start_resident()
    assert machine.serve(APPS).end() == 0
    return address


def test_after_the_death_of_the_node_or_of_everything_the_next_start_serves_the_same(machine: Machine) -> None:
    address, shared = serving(machine), shared_memory()
    seconds: dict[str, float] = {}

    before = machine.pids(EVERYTHING)
    kill(machine.one("eagleray: node$"))
    begun = time.monotonic()
    eventually(lambda: not machine.pids(EVERYTHING) & before, f"all ends with the node: {machine.left()}")
    seconds["until everything ended"] = round(time.monotonic() - begun, 2)
    begun = time.monotonic()
    start_again(machine, address)
    seconds["from start to all applications"] = round(time.monotonic() - begun, 2)

    before = machine.pids(EVERYTHING)
    # The reaper too, so that what leads a session of its own is left for the next start.
    natives = {pid for pid in before if pid in machine.pids("eagleray: ")}
    for pid in natives:
        kill(pid)
    eventually(lambda: not machine.pids("eagleray: "), "all of ours are dead")
    orphans = machine.pids(EVERYTHING) & before
    start_again(machine, address)
    assert not machine.pids(EVERYTHING) & before, "the next start ends what was left"
    assert not dead_sockets(machine)
    assert shared_memory() == shared
    record(
        8,
        "node killed, then every process at once; started again on the same port",
        {"applications back": 2, "orphans left by the second": len(orphans), "orphans after the start": 0, **seconds},
    )


@pytest.mark.parametrize("kills", [12, pytest.param(100, marks=pytest.mark.chaos)])
def test_random_kills_leave_nothing_behind(machine: Machine, kills: int) -> None:
    seed = int(os.environ.get("EAGLERAY_CHAOS_SEED", "31"))
    dice = random.Random(seed)
    address, shared = serving(machine), shared_memory()
    killed: dict[str, int] = {}
    roles = ["node", "reaper", "controller", "proxy", "replica", "replica"]
    # Each role as often as the others, in any order.
    for role in dice.sample(roles * (kills // len(roles) + 1), kills):
        title = "eagleray: replica " if role == "replica" else f"eagleray: {role}$"
        found = eventually(lambda title=title: sorted(machine.pids(title)), f"a {role} runs")
        kill(dice.choice(found))
        killed[role] = killed.get(role, 0) + 1
        if role == "node":
            # The end of the old one and the start of the next may overlap.
            start_again(machine, address)
        eventually(lambda: status_of(address, "/") == 200, f"serves after the kill of a {role}")
    eventually(lambda: len(machine.replicas()) == 3, "all replicas run again")
    eventually(lambda: not dead_sockets(machine), f"no dead sockets: {dead_sockets(machine)}")
    assert machine.cli("stop").returncode == 0
    eventually(lambda: not machine.left(), f"nothing runs: {machine.left()}")
    left = sorted(path.name for path in machine.runtime.iterdir())
    assert left == ["state"], "no socket, no lock, no directory"
    assert shared_memory() == shared, "nothing in /dev/shm"
    record(
        31,
        f"{kills} processes killed at random",
        {"seed": seed, "kills": kills, "files in /dev/shm": 0, "dead sockets": 0} | killed,
    )


def test_a_replica_is_started_though_the_run_directory_was_removed_a_moment_ago(machine: Machine) -> None:
    script = machine.serve(APPS)
    replicas = machine.replicas("default/App")
    directory = machine.runtime / f"script-{script.pid}"
    # The kill first, so that its start comes before the node looks whether all is there.
    kill(min(replicas))
    remove(directory)
    eventually(
        lambda: len(now := machine.replicas("default/App")) == 2 and not now & replicas,
        f"new replicas instead of {replicas}",
    )
    assert "was not started" not in machine.logs("node.log")
    assert status_of(script.address, "/") == 200


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "script"])
def test_a_run_directory_removed_while_serving_comes_back(machine: Machine, resident: bool) -> None:
    if resident:
        address = serving(machine)
        name = "default"
    else:
        script = machine.serve(APPS)
        address, name = script.address, f"script-{script.pid}"
    replicas = machine.replicas("default/App")
    directory = machine.runtime / name
    with Load(address, threads=2) as load:
        load.wait_for_more()
        remove(directory)
        begun = time.monotonic()
        eventually((directory / "controller.sock").exists, "the sockets are back")
        seconds = time.monotonic() - begun
        eventually(lambda: machine.cli("status", "--node", name).returncode == 0, "the node is found again")
        assert seconds < 15, "one second, on a machine that is not busy"
        # Code and checkpoint are elsewhere, so each replica is replaced by one that can be reached.
        eventually(
            lambda: len(now := machine.replicas("default/App")) == 2 and not now & replicas,
            f"new replicas instead of {replicas}",
        )
        load.wait_for_more()
        assert set(load.outcomes) == {"200"}, load.outcomes
        kill(machine.one("eagleray: proxy$"))
        eventually(lambda: status_of(address, "/") == 200, "a new proxy reaches them")
        # The next controller knows what runs, and ends none of it.
        replicas = machine.replicas("default/App")
        kill(machine.one("eagleray: controller$"))
        eventually(
            lambda: f"adopted {len(machine.replicas())} replica" in machine.logs("controller.log"),
            "the next controller has looked",
        )
        assert machine.cli("status", "--node", name).returncode == 0
        load.wait_for_more()
        assert machine.replicas("default/App") == replicas
        if not resident:
            assert script.do("serve.run(app) and 1") == 1, "it can be deployed again"
    lost = {outcome: count for outcome, count in load.outcomes.items() if outcome != "200"}
    # The kill of the proxy costs what was inside it, two requests and two connections not yet read.
    assert sum(lost.values()) <= 4, load.outcomes
    assert "ConnectionRefusedError" not in lost
    record(
        31,
        f"run directory of a {'resident' if resident else 'script'} node removed under load",
        {"failed before the proxy was killed too": 0, "sockets back after, in s": round(seconds, 2)},
    )


def test_a_stopped_controller_that_goes_on_harms_nobody(machine: Machine) -> None:
    script = machine.serve(APPS)
    before = machine.replicas("default/App")
    controller = machine.one("eagleray: controller$")
    victim = min(before)
    with Load(script.address, threads=2) as load:
        load.wait_for_more()
        os.kill(controller, signal.SIGSTOP)
        try:
            load.wait_for_more(300)
            kill(victim)
            load.wait_for_more(300)
        finally:
            os.kill(controller, signal.SIGCONT)
        after = eventually(
            lambda: now if len(now := machine.replicas("default/App")) == 2 and victim not in now else set(),
            "it replaces the one that died meanwhile",
        )
        load.wait_for_more()
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert len(before & after) == 1, "and ends no other"
    assert machine.one("eagleray: controller$") == controller
    record(
        10,
        "controller stopped while a replica is killed, then continued",
        {"requests": load.count(), "failed": 0, "replicas ended by it": 0},
    )
