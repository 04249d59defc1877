"""Updates under load, good ones and bad ones: scenarios 21 and 22."""

import json
import time
from typing import Any

import pytest
from parts import CHAOS_SECONDS, DEPLOYMENT, panics, whole
from record import record

from ledger import Ledger, OpenLoop, percentiles
from machine import Machine, eventually

SAFE = ("GET", "PUT", "DELETE")
APP = """
import asyncio, os, threading, time
from eagleray import serve
from noting import note

WORD, WAY = {word!r}, {way!r}

@serve.deployment(
    num_replicas={replicas}, min_ready_s={min_ready_s}, start_timeout_s=1.5 if WAY == {hangs!r} else 0,
    health_check_period_s=0.3, max_ongoing_requests=50,
)
class App:
    def __init__(self):
        self.born = time.monotonic()
        if WAY == "the constructor imports what is not there":
            import no_such_module
        if WAY == "the constructor raises":
            raise RuntimeError("no weights for " + WORD)
        if WAY == "the constructor ends the process":
            os._exit(3)
        if WAY == {slow!r}:
            time.sleep(0.1)
        if WAY == {hangs!r}:
            threading.Event().wait()
        if WAY == "dies when it has been ready for a second":
            threading.Timer(1.0, os._exit, [4]).start()

    def check_health(self):
        if WAY == "health checks fail after half a second" and time.monotonic() - self.born > 0.5:
            raise RuntimeError("cannot reach the weights of " + WORD)

    async def __call__(self, request):
        await asyncio.sleep(0.01)
        return note(request)

serve.run(App.bind())
"""
SLOW = "the constructor takes 100 ms"
HANGS = "the constructor never ends"
BAD = {
    "the constructor imports what is not there": "No module named 'no_such_module'",
    "the constructor raises": "no weights for second",
    "the constructor ends the process": "ended while it was starting: exit status 3",
    HANGS: "not ready 1.5 s after its start",
    "health checks fail after half a second": "cannot reach the weights of second",
    "dies when it has been ready for a second": "within its min_ready_s of 3 s",
}


def deploy(machine: Machine, word: str, way: str = "", replicas: int = 2, min_ready_s: float = 0) -> tuple[int, str]:
    text = APP.format(word=word, way=way, replicas=replicas, min_ready_s=min_ready_s, hangs=HANGS, slow=SLOW)
    script = machine.script(text, name=f"{word}.py")
    return script.wait(), script.output


def application(machine: Machine) -> dict[str, Any]:
    shown = machine.cli("status", "--output", "json").stdout
    (found,) = json.loads(shown)["applications"]
    return dict(found)


def test_updates_one_after_the_other_cost_no_request(machine: Machine) -> None:
    ledger, updates = Ledger(machine), 4
    address = machine.start_resident()
    assert deploy(machine, "first", replicas=3)[0] == 0
    before = whole(machine, 3)
    with OpenLoop(address, rate=200, methods=(*SAFE, "POST"), body_bytes=2_000) as load:
        load.wait_for_more(100)
        for number in range(updates):
            status, output = deploy(machine, f"update{number}", replicas=3)
            assert status == 0, output
            after = whole(machine, 3)
            assert not after & before, "every replica is a new one"
            before = after
            load.wait_for_more(50)
    report = load.report
    audit = report.audit(ledger)
    assert report.failed == 0, report.tally()
    assert not audit.lost
    assert not audit.doubled
    assert panics(machine) == 0
    counted = {"requests": len(report), "failed": 0, "updates": updates} | dict(percentiles(report))
    record(21, "3 replicas updated again and again under GET, PUT, DELETE and POST", counted)


@pytest.mark.parametrize("way", BAD)
def test_a_bad_update_is_taken_back_and_costs_no_request(machine: Machine, way: str) -> None:
    ledger = Ledger(machine)
    address = machine.start_resident()
    assert deploy(machine, "first")[0] == 0
    old = whole(machine, 2)
    with OpenLoop(address, rate=100, methods=SAFE) as load:
        load.wait_for_more(50)
        begun = time.monotonic()
        status, output = deploy(machine, "second", way, min_ready_s=3)
        took = time.monotonic() - begun
        assert status != 0
        assert BAD[way] in output, output
        assert machine.replicas(DEPLOYMENT) >= old, "what ran before runs at full size"
        eventually(lambda: machine.replicas(DEPLOYMENT) == old, "only what ran before runs")
        load.wait_for_more(50)
    report = load.report
    assert report.failed == 0, report.tally()
    assert not report.audit(ledger).lost
    failed = application(machine)
    assert failed["status"] == "DEPLOY_FAILED"
    assert BAD[way] in failed["message"]
    assert "r1 serves: 2 of 2 replicas run" in failed["message"], failed["message"]
    assert took < 60, took
    counted = {"requests": len(report), "failed": 0, "taken back after s": round(took, 1)}
    record(22, way, counted)


@pytest.mark.chaos
@pytest.mark.timeout(CHAOS_SECONDS + 120)
def test_long_updates_of_eight_replicas(machine: Machine) -> None:
    ledger = Ledger(machine)
    address = machine.start_resident()
    assert deploy(machine, "first", SLOW, replicas=8)[0] == 0
    took: list[float] = []
    with OpenLoop(address, rate=500, methods=(*SAFE, "POST"), body_bytes=2_000) as load:
        load.wait_for_more(500)
        end = time.monotonic() + CHAOS_SECONDS
        while time.monotonic() < end:
            status, output = deploy(machine, f"update{len(took)}", SLOW, replicas=8)
            assert status == 0, output
            done = application(machine)["deploy"]
            took.append(done["receipt"]["ended_at_s"] - done["began_at_s"])
    report = load.report
    audit = report.audit(ledger)
    assert report.failed == 0, report.tally()
    assert not audit.lost
    assert not audit.doubled
    counted = {"requests": len(report), "failed": 0, "updates": len(took), "s, most": round(max(took), 1)}
    record(
        21,
        "long form: 8 replicas with a constructor of 100 ms updated again and again",
        counted | dict(percentiles(report)),
    )
