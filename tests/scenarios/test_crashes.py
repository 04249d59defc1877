"""Processes that die under load, counted by the ledger: scenarios 1, 3, 4 and 6."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from parts import APP, CHAOS_SECONDS, DEPLOYMENT, dice, held_by, hold, kill, kill_and_see, panics, serves, whole
from record import record

from ledger import Ledger, OpenLoop, percentiles
from machine import Machine, eventually, request

SAFE = ("GET", "PUT", "DELETE")
CONTROLLER, PROXY = "eagleray: controller$", "eagleray: proxy$"


def test_replicas_killed_one_after_the_other_cost_no_idempotent_request(machine: Machine) -> None:
    ledger = Ledger(machine)
    script = machine.serve(APP)
    draw, kills = dice(), 5
    with OpenLoop(script.address, rate=300, methods=SAFE, body_bytes=2_000) as load:
        load.wait_for_more(100)
        killed: set[int] = set()
        for _ in range(kills):
            victim = draw.choice(sorted(whole(machine, gone=killed)))
            killed.add(victim)
            kill(victim)
            load.wait_for_more(150)
        whole(machine, gone=killed)
        load.wait_for_more(100)
    report = load.report
    audit = report.audit(ledger)
    assert report.failed == 0, report.tally()
    assert not audit.lost
    assert not audit.unasked
    # One that was killed as it started has answered nothing.
    ran_in = {line.pid for line in ledger.lines()} | machine.replicas(DEPLOYMENT) | killed
    assert len(ran_in) == 3 + kills, "nothing else was started again"
    assert panics(machine) == 0
    counted = {"requests": len(report), "failed": 0, "run again": len(audit.repeated), "lost": 0}
    record(1, f"one of 3 replicas killed, {kills} times, under GET, PUT and DELETE", counted)


def test_all_replicas_of_an_application_die_and_its_requests_wait_for_the_next(machine: Machine) -> None:
    ledger = Ledger(machine)
    script = machine.serve(
        APP.replace("num_replicas=3", "num_replicas=2"),
        run='serve.run(app, name="a", route_prefix="/a"); serve.run(app, name="b", route_prefix="/b")',
    )
    rounds = 2
    with (
        OpenLoop(script.address, rate=100, path="/a", methods=SAFE, prefix="a") as load,
        OpenLoop(script.address, rate=100, path="/b", methods=("GET", "POST"), prefix="b", seed=2) as other,
    ):
        load.wait_for_more()
        killed: set[int] = set()
        waited = []
        for _ in range(rounds):
            victims = whole(machine, 2, "a/App", killed)
            killed |= victims
            # Stopped first, so that they die at once: what had run in the one would else be run by the other, for the
            # moment that it has left, and a request that two replicas died with is given up.
            for victim in victims:
                os.kill(victim, signal.SIGSTOP)
            for victim in victims:
                kill(victim)
            at = time.monotonic()
            load.wait_for_more()
            first = min(line.at for line in ledger.lines() if line.identity.startswith("a") and line.at > at)
            waited.append(round((first - at) * 1000))
        other.wait_for_more()
    audit = load.report.audit(ledger)
    assert load.report.failed == 0, load.report.tally()
    assert not audit.lost
    assert other.report.failed == 0, other.report.tally()
    assert not other.report.audit(ledger).doubled
    counted = {"requests": len(load.report), "failed": 0, "requests to another application": len(other.report)}
    counted |= {"of these failed": 0, "first answer after ms": max(waited)}
    record(3, f"both replicas of an application killed at once, {rounds} times", counted)


def test_a_request_that_finds_no_replica_hears_so_at_its_deadline_and_may_be_sent_again(machine: Machine) -> None:
    Ledger(machine)
    closed = machine.work / "closed"
    script = machine.serve(
        f"""
        import os, time
        from eagleray import serve
        from noting import note

        @serve.deployment
        class App:
            def __init__(self):
                while os.path.exists({str(closed)!r}):
                    time.sleep(0.01)

            async def __call__(self, request):
                return note(request)

        app = App.bind()
        """
    )
    closed.write_text("")
    kill(whole(machine, 1).pop())
    headers = {"x-request-timeout-seconds": "0.4", "x-ledger-id": "early"}
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(request, "GET", script.address, headers={"x-ledger-id": "late"})
        answer = request("POST", script.address, headers=headers)
        assert answer.status == 503, answer
        assert int(answer.headers["retry-after"]) >= 1
        closed.unlink()
        assert patient.result(30).text == "late", "who has time is served by the next replica"
    record(3, "no replica can start: a request with a deadline, one without", {"503 with Retry-After": 1, "served": 1})


def test_a_controller_killed_again_and_again_is_noticed_by_nobody(machine: Machine) -> None:
    ledger = Ledger(machine)
    script = machine.serve(APP)
    replicas, kills = whole(machine), 5
    routes = script.get("/-/routes").text
    with (
        OpenLoop(script.address, rate=250, methods=("GET", "POST"), body_bytes=100) as load,
        OpenLoop(script.address, rate=50, path="/-/routes", answer=routes, prefix="r") as table,
    ):
        load.wait_for_more()
        for _ in range(kills):
            _kill_controller(machine)
            # At least a second of load each, so that the node sees five deaths and no crash loop.
            load.wait_for_more(270)
        eventually(lambda: script.do('serve.status().applications["default"].status') == "RUNNING", "it is RUNNING")
    audit = load.report.audit(ledger)
    assert load.report.failed == 0, load.report.tally()
    assert table.report.failed == 0, f"the route table was another one: {table.report.tally()}"
    assert not audit.lost
    assert not audit.doubled
    assert not audit.repeated
    assert machine.replicas() == replicas, "not one replica was started again"
    assert panics(machine) == 0
    counted = {"requests": len(load.report), "failed": 0, "looks at the route table": len(table.report)}
    counted |= {"other tables seen": 0, "replicas restarted": 0, "doubled": 0}
    record(4, f"controller killed {kills} times", counted)


def _kill_controller(machine: Machine) -> None:
    controller = machine.one(CONTROLLER)
    kill(controller)
    eventually(lambda: machine.pids(CONTROLLER) - {controller}, "a new controller runs")


WITH_LONG_REQUESTS = """
import asyncio
from eagleray import serve
from noting import note

@serve.deployment(num_replicas=3, max_ongoing_requests=10)
class App:
    async def __call__(self, request):
        identity = note(request)
        try:
            await asyncio.sleep(3600 if request.url.path == "/long" else 0.02)
        except asyncio.CancelledError:
            note(request, "cancelled")
            raise
        return identity

app = App.bind()
"""


def test_a_killed_proxy_refuses_nobody_and_loses_only_what_was_in_it(machine: Machine) -> None:
    ledger = Ledger(machine)
    script = machine.serve(WITH_LONG_REQUESTS)
    replicas, kills, held = whole(machine), 3, 16
    windows = []
    with OpenLoop(script.address, rate=200, methods=("GET", "POST"), fresh=0.5) as load:
        load.wait_for_more()
        for number in range(kills):
            proxy = machine.one(PROXY)
            # More than half of the slots: if some were not given back, the next round would find none.
            long = hold(script.address, "/long", f"long{number}-", held)
            eventually(lambda number=number: _lines(ledger, f"long{number}-", "ran") == held, "they all run")
            windows.append(kill_and_see(proxy))
            eventually(
                lambda number=number: _lines(ledger, f"long{number}-", "cancelled") == held,
                "what they ran is cancelled",
            )
            for connection in long:
                connection.close()
            eventually(lambda proxy=proxy: machine.pids(PROXY) - {proxy}, "a new proxy runs")
            load.wait_for_more(100)
    report = load.report
    audit = report.audit(ledger)
    inside = set[str]().union(*(held_by(report, *window) for window in windows))
    failed = {one.identity for one in report.outcomes if one.result != "ok"}
    assert set(report.tally()) <= {"ok", "closed", "reset", "short"}, report.tally()
    assert failed <= inside, f"{len(failed - inside)} failed without having been in a proxy that died"
    assert not audit.doubled
    assert not audit.repeated
    assert not audit.lost
    assert machine.replicas() == replicas
    assert panics(machine) == 0
    counted = {"requests": len(report), "refused": 0, "in flight in it": len(inside), "of these failed": len(failed)}
    counted |= {"doubled": 0, "orphans in replicas": held * kills, "of these cancelled": held * kills}
    record(6, f"proxy killed {kills} times", counted)


def _lines(ledger: Ledger, prefix: str, word: str) -> int:
    return sum(identity.startswith(prefix) for identity in ledger.times(word))


@pytest.mark.chaos
@pytest.mark.parametrize("role", ["replica", "controller"])
def test_kills_under_load_keep_latency_near_that_of_a_run_without_faults(machine: Machine, role: str) -> None:
    ledger = Ledger(machine)
    script = machine.serve(APP)
    draw = dice()
    with OpenLoop(script.address, rate=200, methods=SAFE, prefix="calm") as calm:
        calm.wait_for_more(1000)
    end, kills = time.monotonic() + CHAOS_SECONDS, 0
    with OpenLoop(script.address, rate=200, methods=SAFE, prefix="storm") as load:
        while time.monotonic() < end:
            if role == "replica":
                kill(draw.choice(sorted(whole(machine))))
            else:
                _kill_controller(machine)
            kills += 1
            load.wait_for_more(300)
    assert calm.report.failed == 0, calm.report.tally()
    assert load.report.failed == 0, load.report.tally()
    assert not load.report.audit(ledger).lost
    quiet, loud = calm.report.latency(0.99), load.report.latency(0.99)
    assert loud <= 3 * quiet + 0.06, f"p99 {loud:.3f} s, without faults {quiet:.3f} s"
    counted = {
        "requests": len(load.report),
        "failed": 0,
        "kills": kills,
        "p99 without faults ms": round(quiet * 1000, 1),
    }
    record(
        1 if role == "replica" else 4, f"long form: {role} killed every 1.5 s", counted | dict(percentiles(load.report))
    )


@pytest.mark.chaos
def test_a_proxy_killed_for_long_comes_back_soon_each_time(machine: Machine) -> None:
    Ledger(machine)
    script = machine.serve(APP)
    end, gaps = time.monotonic() + CHAOS_SECONDS, []
    while time.monotonic() < end:
        before, _ = kill_and_see(machine.one(PROXY))
        assert serves(script.address, 1, f"gap{len(gaps)}-").failed == 0
        gaps.append(time.monotonic() - before)
        serves(script.address, 100, f"more{len(gaps)}-")
    assert max(gaps) < 5.0, gaps
    record(
        6, "long form: proxy killed again and again", {"kills": len(gaps), "longest gap ms": round(max(gaps) * 1000)}
    )
