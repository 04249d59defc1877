"""Scenario 20: replicas that do not want to end are gone soon after their grace, with all their children."""

import os
import time
from pathlib import Path

import pytest
from record import record

from machine import Machine, eventually

GRACE_S = 1.0

APP = """
import asyncio, atexit, os, signal, subprocess, sys, threading, time
from eagleray import serve

def for_ever():
    while True:
        time.sleep(3600)

class Base:
    async def __call__(self, request):
        if "stay" in request.query_params:
            open({begun!r} + type(self).__name__, "w").close()
            await asyncio.shield(asyncio.sleep(3600))
        return str(os.getpid())

class Thread(Base):
    def __init__(self):
        threading.Thread(target=for_ever, daemon=False).start()

class AtExit(Base):
    def __init__(self):
        atexit.register(for_ever)

class Destructor(Base):
    def __del__(self):
        for_ever()

class Blocked(Base):
    async def __call__(self, request):
        open({begun!r} + type(self).__name__, "w").close()
        for_ever()

class Deaf(Base):
    def __init__(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

class Children(Base):
    def __init__(self):
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
        self.child = subprocess.Popen([sys.executable, "-c", code, "child-of-replica"])
        self.detached = subprocess.Popen([sys.executable, "-c", code, "child-of-replica"], start_new_session=True)

class Busy(Base):
    pass

for kind in (Thread, AtExit, Destructor, Blocked, Deaf, Children, Busy):
    made = serve.deployment(name=kind.__name__, graceful_shutdown_timeout_s={grace})(kind)
    serve.run(made.bind(), name=kind.__name__, route_prefix="/" + kind.__name__)

app = serve.deployment(Base).bind()
"""


@pytest.mark.contract("4.2/graceful-timeout")
def test_replicas_that_do_not_want_to_end_are_killed_after_their_grace_with_their_children(machine: Machine) -> None:
    begun = str(machine.work / "begun-")
    script = machine.serve(APP.format(begun=begun, grace=GRACE_S))
    everything = len(machine.replicas())
    assert everything == 8
    import threading

    for path in ("/Blocked", "/Busy?stay=1"):
        threading.Thread(target=lambda path=path: script.get(path), daemon=True).start()
        name = path[1:].partition("?")[0]
        eventually(lambda name=name: Path(begun + name).exists(), f"{path} runs")
    children = machine.pids(".*child-of-replica")
    assert len(children) == 2
    own = machine.replicas("default/Base")
    began = time.monotonic()
    names = [name for name in script.do("list(serve.status().applications)") if name != "default"]
    assert len(names) == 7
    script.do(f"__import__('threading') and [serve.delete(name, _blocking=False) for name in {names!r}] and 1")
    eventually(lambda: machine.replicas() == own, f"only that one is left: {machine.replicas()}")
    took = time.monotonic() - began
    eventually(lambda: not machine.pids(".*child-of-replica"), "children too")
    assert script.get("/").text == str(min(own)), "the others go on"
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}/exe")]  # noqa: PTH110
    record(
        20,
        "replicas that hang at their end: thread, atexit, destructor, blocked loop, deaf, children, busy",
        {"replicas": len(names), "left": 0, "seconds for all of them, grace 1 s": round(took, 1)},
    )
