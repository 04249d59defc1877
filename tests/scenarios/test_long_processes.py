"""Long forms about processes (`make chaos`): each time is compared with that of a run without faults just before.

Scenarios 8, 9, 11, 12, 16, 20 and 31; those of 1, 2, 4 and 6 are beside their short forms.
"""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from parts import APP, CHAOS_SECONDS, calm, held_by, is_alive, kill, near, panics, whole
from record import record
from test_deadly_requests import DEATHS, POISON
from test_hanging_ends import APP as HANGING
from test_hanging_ends import GRACE_S
from test_hangs import app as standing
from test_node_death import EVERYTHING, serving, start_again
from test_shutdown import SLOW

from ledger import Ledger, OpenLoop, percentiles
from machine import Load, Machine, eventually, remove, request

pytestmark = pytest.mark.chaos


def test_a_node_that_died_is_back_as_fast_as_one_that_was_stopped(machine: Machine) -> None:
    address = serving(machine)
    assert machine.cli("stop").returncode == 0
    took: dict[str, list[float]] = {"stopped": [], "node killed": [], "everything killed": []}
    took["stopped"].append(_start_again(machine, address))
    end = time.monotonic() + CHAOS_SECONDS
    while time.monotonic() < end:
        before = machine.pids(EVERYTHING)
        kill(machine.one("eagleray: node$"))
        eventually(lambda before=before: not machine.pids(EVERYTHING) & before, "all ends with the node")
        took["node killed"].append(_start_again(machine, address))
        before = machine.pids(EVERYTHING)
        for pid in machine.pids("eagleray: "):
            kill(pid)
        eventually(lambda: not machine.pids("eagleray: "), "all of ours are dead")
        took["everything killed"].append(_start_again(machine, address))
        assert not machine.pids(EVERYTHING) & before, "the next start ends what was left"
    quiet = took.pop("stopped")[0]
    for how, times in took.items():
        assert near(max(times), quiet, 3.0), f"{how}: {times}, after a stop {quiet}"
    counted = {"times": len(took["node killed"]), "s after a stop": round(quiet, 2)}
    record(
        8,
        "long form: the node, then everything killed; from start to all applications",
        counted | {f"s, {how}, most": round(max(times), 2) for how, times in took.items()},
    )


def _start_again(machine: Machine, address: str) -> float:
    begun = time.monotonic()
    start_again(machine, address)
    return time.monotonic() - begun


def test_a_stopped_replica_is_gone_around_within_a_second_and_used_again_soon(machine: Machine) -> None:
    ledger = Ledger(machine)
    script = machine.serve(APP)
    quiet = calm(script.address).latency(0.99)
    replicas, stood = whole(machine), min(10.0, CHAOS_SECONDS / 4)
    slow, back = 0, []
    with OpenLoop(script.address, rate=200, methods=("GET", "POST"), prefix="storm") as load:
        for victim in sorted(replicas):
            load.wait_for_more(200)
            os.kill(victim, signal.SIGSTOP)
            stopped = time.monotonic()
            load.wait_for_more(int(200 * stood))
            os.kill(victim, signal.SIGCONT)
            again = time.monotonic()
            load.wait_for_more(100)
            used = eventually(
                lambda victim=victim, again=again: [
                    line.at for line in ledger.lines() if line.pid == victim and line.at > again
                ],
                "it is used again",
            )
            back.append(used[0] - again)
            # A second to notice, and half a second since what runs here has to notice too.
            later = [one for one in load.report.outcomes if stopped + 1.5 < one.planned < again - 0.5]
            assert later
            worst = max(one.seconds for one in later)
            assert near(worst, quiet, 0.3), f"a second after the stop {worst:.3f} s, without faults {quiet:.3f} s"
            inside = held_by(load.report, stopped, stopped + 1.5)
            slow += sum(one.seconds > 1.5 and one.identity in inside for one in load.report.outcomes)
    assert load.report.failed == 0, load.report.tally()
    assert not load.report.audit(ledger).doubled
    assert max(back) <= 2 + 3 * quiet, f"used again after {back}"
    assert machine.replicas() == replicas
    counted = {"requests": len(load.report), "failed": 0, "ran twice": 0, "held up": slow}
    counted |= {"used again after ms": round(max(back) * 1000), "p99 without faults ms": round(quiet * 1000, 1)}
    record(9, f"long form: each of 3 replicas stopped for {stood:.0f} s", counted)


def test_a_node_with_requests_of_five_seconds_ends_when_they_do(machine: Machine) -> None:
    Ledger(machine)
    text = SLOW.replace("2.0 if", "5.0 if")
    took = []
    for load in (False, True):
        address = machine.start_resident()
        machine.serve(text).end()
        (node,) = machine.nodes()
        with OpenLoop(address, rate=500, requests=200 if load else 1, path="/slow", prefix=f"slow{load}-") as slow:
            if load:
                eventually(lambda slow=slow: slow.in_flight == 200, "they all run")
            else:
                eventually(lambda slow=slow: len(slow.report) == 1, "one is served")
            last = time.monotonic()
            os.kill(node["pid"], signal.SIGTERM)
            eventually(lambda node=node: not is_alive(node["pid"]), "the node ends")
            took.append(time.monotonic() - last)
        assert slow.report.failed == 0, slow.report.tally()
    idle, busy = took
    assert busy <= 5 + 0.5 + 3 * idle, f"ended after {busy:.2f} s, without requests after {idle:.2f} s"
    counted = {"in flight": 200, "completed": 200, "ended after s": round(busy, 2), "idle s": round(idle, 2)}
    record(11, "long form: SIGTERM with 200 requests of 5 s in flight", counted)


@pytest.mark.parametrize("how", ["sleep", "lock", "spin"])
def test_a_blocked_loop_is_ended_at_its_limit(machine: Machine, how: str) -> None:
    script = machine.serve(standing(2, 2))
    begun = time.monotonic()
    kill(min(whole(machine, 2)))
    quiet = _new_replica(machine, 2, machine.replicas(), begun)
    ended, replaced = [], []
    end = time.monotonic() + CHAOS_SECONDS / 3
    with Load(script.address, threads=4, method="POST") as load:
        while time.monotonic() < end:
            before = whole(machine, 2)
            load.wait_for_more(50)
            with OpenLoop(
                script.address, requests=1, methods=("POST",), path=f"/?stand={how}", prefix="stand"
            ) as deadly:
                begun = time.monotonic()
                eventually(lambda before=before: before - machine.replicas(), "it is ended")
                died = time.monotonic()
                ended.append(died - begun)
                replaced.append(_new_replica(machine, 2, before & machine.replicas(), died))
                eventually(lambda deadly=deadly: len(deadly.report), "it is answered")
            assert deadly.report.tally() == {"marked 502": 1}
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert max(ended) <= 2 + 1 + quiet, f"ended after {ended}"
    assert near(max(replaced), quiet, 1.0), f"replaced after {replaced}, after a kill {quiet:.2f} s"
    counted = {"times": len(ended), "requests": load.count(), "failed": 0, "ended after s, most": round(max(ended), 2)}
    record(12, f"long form: loop blocked for ever ({how}), limit 2 s", counted)


def _new_replica(machine: Machine, count: int, known: set[int], since: float) -> float:
    eventually(lambda: len(machine.replicas("default/App") - known) >= count - len(known), "it is replaced")
    return time.monotonic() - since


@pytest.mark.parametrize("death", DEATHS)
def test_deadly_requests_hold_up_no_other(machine: Machine, death: str) -> None:
    ledger = Ledger(machine)
    script = machine.serve(POISON.format(death=DEATHS[death]))
    whole(machine)
    quiet = calm(script.address).latency(0.99)
    end, lost = time.monotonic() + CHAOS_SECONDS / 2, []
    with OpenLoop(script.address, rate=200, methods=("GET", "PUT"), prefix="storm") as load:
        while time.monotonic() < end:
            with OpenLoop(script.address, requests=1, path="/poison", prefix=f"poison{len(lost)}-") as deadly:
                eventually(lambda deadly=deadly: len(deadly.report), "it is answered")
            assert deadly.report.tally() == {"marked 502": 1}, deadly.report.tally()
            lost.append(ledger.times()[f"poison{len(lost)}-0"])
            # Slower than what would make a crash loop of three replicas.
            load.wait_for_more(1000)
            whole(machine)
    assert max(lost) <= 2, lost
    assert load.report.failed == 0, load.report.tally()
    loud = load.report.latency(0.99)
    assert near(loud, quiet), f"p99 {loud:.3f} s, without faults {quiet:.3f} s"
    counted = {"deadly requests": len(lost), "requests": len(load.report), "failed": 0, "most lost for one": max(lost)}
    record(16, f"long form: a GET {death} its replica, again and again", counted | dict(percentiles(load.report)))


def test_replicas_that_hang_are_gone_half_a_second_after_their_grace(machine: Machine) -> None:
    script = machine.serve(HANGING.format(begun=str(machine.work / "begun-"), grace=GRACE_S))
    own = machine.replicas("default/Base")
    script.do('serve.run(app, name="calm", route_prefix="/calm") and 1')
    quiet = _delete(machine, script.do, ["calm"], own)
    names = [name for name in script.do("list(serve.status().applications)") if name != "default"]
    took = _delete(machine, script.do, names, own)
    eventually(lambda: not machine.pids(".*child-of-replica"), "their children too")
    assert took <= GRACE_S + 0.5 + 3 * quiet, f"gone after {took:.2f} s, one that does not hang after {quiet:.2f} s"
    counted = {"replicas": len(names), "left": 0, "s, grace 1 s": round(took, 2), "s without hanging": round(quiet, 2)}
    record(20, "long form: replicas that hang at their end", counted)


def _delete(machine: Machine, do: Callable[[str], Any], names: list[str], own: set[int]) -> float:
    gone = set().union(*(machine.replicas(name) for name in names))
    begun = time.monotonic()
    do(f"[serve.delete(name, _blocking=False) for name in {names!r}] and 1")
    eventually(lambda: not machine.replicas() & gone, f"they are gone: {machine.replicas() - own}")
    return time.monotonic() - begun


def test_a_run_directory_removed_again_and_again_is_back_within_seconds(machine: Machine) -> None:
    Ledger(machine)
    script = machine.serve(APP)
    name, seconds = f"script-{script.pid}", []
    end = time.monotonic() + CHAOS_SECONDS / 3
    with OpenLoop(script.address, rate=100, prefix="storm") as load:
        while time.monotonic() < end:
            load.wait_for_more(50)
            remove(machine.runtime / name)
            begun = time.monotonic()
            eventually((machine.runtime / name / "controller.sock").exists, "the sockets are back")
            seconds.append(time.monotonic() - begun)
            eventually(lambda: machine.cli("status", "--node", name).returncode == 0, "the node is found again")
            whole(machine)
    assert load.report.failed == 0, load.report.tally()
    assert max(seconds) <= 5, seconds
    assert panics(machine) == 0
    assert request("GET", script.address + "/-/healthz").status == 200
    counted = {"times": len(seconds), "requests": len(load.report), "failed": 0}
    record(31, "long form: run directory removed", counted | {"sockets back after s, most": round(max(seconds), 2)})
