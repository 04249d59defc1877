"""Scenario 15: replicas that fail again and again, in four ways at once, beside an application that must not notice."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

from record import record

from machine import Load, Machine, eventually

WAYS = ("raises", "exits", "segfaults", "dies_young")
APP = """
import asyncio, ctypes, os, threading
from eagleray import serve

BROKEN, STARTS = {broken!r}, {starts!r}

@serve.deployment
class Loops:
    def __init__(self, way):
        with open(STARTS, "a") as file:
            file.write(way + "\\n")
        if not os.path.exists(BROKEN):
            return
        if way == "raises":
            raise RuntimeError("broken on purpose")
        if way == "exits":
            os._exit(3)
        if way == "segfaults":
            ctypes.string_at(0)
        threading.Timer(0.2, os._exit, [4]).start()

    async def __call__(self):
        return os.getpid()

@serve.deployment
class Front:
    def __init__(self, *others):
        self.others = others

    async def __call__(self, request):
        return "front"

@serve.deployment
class Calm:
    async def __call__(self, request):
        return str(os.getpid())

serve.run(Calm.bind(), name="calm", route_prefix="/calm")
app = Front.bind(*(Loops.options(name=way).bind(way) for way in {ways!r}))
"""


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_crash_loop_is_slow_and_said_and_leaves_others_alone(machine: Machine) -> None:
    broken, started = machine.work / "broken", machine.work / "starts"
    text = APP.format(broken=str(broken), starts=str(started), ways=WAYS)
    script = machine.serve(text, run='serve.run(app, name="loops")')

    def messages() -> dict[str, str]:
        deployments = 'serve.status().applications["loops"].deployments'
        return script.do(f"{{name: one.message for name, one in {deployments}.items()}}")

    def native_log_bytes() -> int:
        return len(machine.logs("[ncp]*.log"))

    calm = machine.replicas("calm/Calm")
    controller, begun = machine.one("eagleray: controller$"), time.monotonic()
    cpu, logged = cpu_seconds(controller), native_log_bytes()
    with Load(script.address, "/calm", threads=1) as load:
        load.wait_for_more()
        broken.touch()
        started.unlink()
        for way in WAYS:
            (pid,) = machine.replicas(f"loops/{way}")
            os.kill(pid, signal.SIGKILL)
        found = eventually(
            lambda: said if all("crash loop: " in (said := messages())[way] for way in WAYS) else {},
            f"each deployment says that it is in a crash loop: {messages()}",
        )
        load.wait_for_more()
    elapsed = time.monotonic() - begun
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert machine.replicas("calm/Calm") == calm, "the other application keeps its process"
    for way, words in zip(WAYS, ("broken on purpose", "exit status 3", "SIGSEGV", "exit status 4"), strict=True):
        for part in (words, " deaths in ", "last: ", "deploy again", ".log"):
            assert part in found[way], (way, part, found[way])
    starts = Counter(started.read_text().split())
    # The kill was the first of the five deaths.
    assert all(4 <= starts[way] <= 10 for way in WAYS), f"at most 10 starts in the first minute: {starts}"
    cpu, logged = cpu_seconds(controller) - cpu, native_log_bytes() - logged
    assert cpu <= 0.1 + 0.05 * elapsed, f"the controller used {cpu:.2f} s of CPU in {elapsed:.1f} s"
    assert logged <= len(WAYS) * 100_000, f"{logged} bytes were logged"

    broken.unlink()
    script.do('serve.run(app, name="loops") and None')
    assert script.do('serve.status().applications["loops"].status') == "RUNNING", "a deploy tries again at once"
    record(
        15,
        "four ways to fail again and again, another application under load",
        {
            "ways": len(WAYS),
            "most starts of one": max(starts.values()),
            "failed requests of the other application": sum(load.outcomes.values()) - load.count(),
            "bytes logged": logged,
        },
    )
