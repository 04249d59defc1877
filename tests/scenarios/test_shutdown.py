"""SIGTERM with requests in flight: scenario 11."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from parts import is_alive, panics, whole
from record import record

from ledger import IDENTITY, Ledger, OpenLoop
from machine import Machine, eventually

SLOW = """
import asyncio
from eagleray import serve
from noting import note

@serve.deployment(num_replicas=2, max_ongoing_requests=150)
class App:
    async def __call__(self, request):
        identity = note(request)
        await asyncio.sleep(2.0 if request.url.path == "/slow" else 0.0)
        return identity

app = App.bind()
"""
IN_FLIGHT = 200
# Requests are allowed 10 s, replicas 10 s, controller and proxy 2 s each; all of it is far from needed here.
BOUND_S = 20.0


@pytest.mark.parametrize("told", ["the node", "every process"])
def test_a_node_that_is_told_to_end_finishes_what_it_has_begun(machine: Machine, told: str) -> None:
    ledger = Ledger(machine)
    address = machine.start_resident()
    machine.serve(SLOW).end()
    (node,) = machine.nodes()
    pids = {"the node": lambda: [node["pid"]], "every process": lambda: [process.pid for process in machine.left()]}
    counted = _end_under_load(machine, ledger, address, pids[told])
    record(11, f"SIGTERM to {told} of a resident node", counted)


def test_a_script_that_is_told_to_end_finishes_what_it_has_begun(machine: Machine) -> None:
    ledger = Ledger(machine)
    script = machine.script(SLOW + "\nserve.run(app, blocking=True)\n")
    whole(machine, 2)
    eventually(lambda: script.get("/quick", headers={IDENTITY: "first"}).status == 200, "it serves")
    counted = _end_under_load(machine, ledger, script.address, lambda: [script.pid])
    assert script.wait() == 128 + signal.SIGTERM, "the status says that it was told to end"
    record(11, "SIGTERM to a script that blocks in serve.run", counted)


def _end_under_load(machine: Machine, ledger: Ledger, address: str, told: Callable[[], list[int]]) -> dict[str, Any]:
    """Sends SIGTERM while 200 requests run and others keep coming; both are counted, and the end is awaited."""
    (node,) = machine.nodes()
    with (
        OpenLoop(address, rate=100, path="/quick", methods=("GET", "POST"), prefix="quick", fresh=0.5) as quick,
        OpenLoop(address, rate=1000, requests=IN_FLIGHT, path="/slow", methods=("GET", "POST"), prefix="slow") as slow,
    ):
        eventually(lambda: _ran(ledger, "slow") == IN_FLIGHT, "they all run")
        quick.wait_for_more(1)
        start = time.monotonic()
        for pid in told():
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not is_alive(node["pid"]), "the node ends", BOUND_S)
        took = time.monotonic() - start
    assert slow.report.tally() == {"ok": IN_FLIGHT}, slow.report.tally()
    ran, answered = set(ledger.times()), {one.identity for one in quick.report.having("ok")}
    assert not {one for one in ran if one.startswith("quick")} - answered, "what ran was answered"
    turned_away = {result: count for result, count in quick.report.tally().items() if result != "ok"}
    # "closed": a kept connection that the proxy had ended while the request was on its way; it was not read.
    assert set(turned_away) <= {"refused", "closed", "reset", "status 503"}, turned_away
    fresh_cut = [one for one in quick.report.outcomes if one.fresh and one.result in ("closed", "reset")]
    assert not fresh_cut, f"a new connection is accepted and served, or refused: {fresh_cut}"
    assert panics(machine) == 0
    eventually(lambda: not [one for one in machine.left() if "eagleray:" in one.title], "nothing is left")
    counted: dict[str, Any] = {
        "in flight": IN_FLIGHT,
        "completed": slow.report.count(),
        "ended after s": round(took, 1),
    }
    return counted | {f"new: {result}": count for result, count in turned_away.items()}


def _ran(ledger: Ledger, prefix: str) -> int:
    return sum(identity.startswith(prefix) for identity in ledger.times())
