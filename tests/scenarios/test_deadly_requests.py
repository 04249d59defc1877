"""Requests that kill their replica, and an application whose replicas only die or fail: scenarios 16 and 33."""

import pytest
from parts import DEPLOYMENT, panics, serves, whole
from record import record

from ledger import Ledger, OpenLoop
from machine import Machine, eventually

# A request to /poison kills the process in the way that the test names; all others take 50 ms.
POISON = """
import asyncio, ctypes, os
from eagleray import serve
from noting import note

@serve.deployment(num_replicas=3, max_ongoing_requests=20)
class App:
    async def __call__(self, request):
        identity = note(request)
        if request.url.path == "/poison":
            {death}
        await asyncio.sleep(0.05)
        return identity

app = App.bind()
"""
DEATHS = {"exits": "os._exit(3)", "segfaults": "ctypes.string_at(1)"}


@pytest.mark.parametrize("death", DEATHS)
def test_a_deadly_request_takes_two_replicas_with_it_and_no_other_request(machine: Machine, death: str) -> None:
    ledger = Ledger(machine)
    script = machine.serve(POISON.format(death=DEATHS[death]))
    whole(machine)
    # Its kind comes three times, each when all replicas are back.
    rounds, lost = 3, []
    with OpenLoop(script.address, rate=200, methods=("GET", "PUT")) as load:
        load.wait_for_more()
        for number in range(rounds):
            with OpenLoop(script.address, requests=1, path="/poison", prefix=f"poison{number}-") as deadly:
                eventually(lambda deadly=deadly: len(deadly.report), "it is answered")
            assert deadly.report.tally() == {"marked 502": 1}, deadly.report.tally()
            tries = ledger.times()
            lost += [tries[one.identity] for one in deadly.report.outcomes]
            load.wait_for_more()
            whole(machine)
            load.wait_for_more()
    assert max(lost) <= 2, f"replicas that died for each: {lost}"
    assert load.report.failed == 0, load.report.tally()
    assert not load.report.audit(ledger).lost
    assert panics(machine) == 0
    counted = {"deadly requests": len(lost), "replicas lost, most for one": max(lost), "marked 502": len(lost)}
    record(16, f"a GET {death} its replica", counted | {"other requests": len(load.report), "of these failed": 0})


def test_a_deadly_request_that_may_not_be_repeated_takes_one_replica(machine: Machine) -> None:
    ledger = Ledger(machine)
    script = machine.serve(POISON.format(death=DEATHS["exits"]))
    before = whole(machine)
    with OpenLoop(script.address, rate=200, methods=("GET", "PUT")) as load:
        load.wait_for_more()
        with OpenLoop(script.address, requests=1, methods=("POST",), path="/poison", prefix="poison") as deadly:
            eventually(lambda: len(deadly.report), "it is answered")
        whole(machine, gone=before - machine.replicas(DEPLOYMENT))
        load.wait_for_more()
    assert deadly.report.tally() == {"marked 502": 1}
    assert ledger.times()["poison0"] == 1
    assert len(before - machine.replicas(DEPLOYMENT)) == 1
    assert load.report.failed == 0, load.report.tally()
    counted = {"replicas lost": 1, "marked 502": 1, "other requests": len(load.report), "of these failed": 0}
    record(16, "a POST exits its replica", counted)


def test_an_application_that_only_dies_is_tried_within_the_retry_budget(machine: Machine) -> None:
    ledger = Ledger(machine)
    fault = machine.work / "fault"
    script = machine.serve(
        f"""
        import asyncio, os
        from eagleray import serve
        from noting import note

        @serve.deployment(num_replicas=3, max_ongoing_requests=100)
        class App:
            async def __call__(self, request):
                identity = note(request)
                await asyncio.sleep(0.2)
                if os.path.exists({str(fault)!r}):
                    os._exit(1)
                return identity

        app = App.bind()
        """
    )
    whole(machine)
    fault.write_text("")
    with OpenLoop(script.address, rate=200, requests=400, prefix="bad", patience=60) as load:
        # Then it is a crash loop, and the next one starts some seconds later.
        eventually(lambda: len({line.pid for line in ledger.lines()}) >= 5, "five replicas have run some of it")
        fault.unlink()
        eventually(lambda: len(load.report) == 400, f"what is left is served by replicas that live: {load.in_flight}")
    tries = ledger.times()
    extra = sum(times - 1 for times in tries.values())
    assert set(load.report.tally()) <= {"ok", "marked 502"}, load.report.tally()
    assert max(tries.values()) == 2, "one extra try at most"
    # 20 % of the requests of the last 10 s, and 10 a second of them.
    assert 0 < extra <= 100 + len(load.report) // 5, f"{extra} extra tries for {len(load.report)} requests"
    after = serves(script.address)
    assert after.failed == 0, after.tally()
    counted = {"requests": len(load.report), "extra tries": extra, "allowed": 100 + len(load.report) // 5}
    counted |= {"most tries of one": 2, "marked 502": load.report.count("marked 502"), "failed afterwards": 0}
    record(33, "all 3 replicas die of whatever they run", counted)


def test_an_application_that_only_fails_is_tried_once_a_request(machine: Machine) -> None:
    ledger = Ledger(machine)
    fault = machine.work / "fault"
    script = machine.serve(
        f"""
        import os
        from eagleray import serve
        from noting import note
        from starlette.responses import PlainTextResponse

        @serve.deployment(num_replicas=3)
        class App:
            async def __call__(self, request):
                identity = note(request)
                if os.path.exists({str(fault)!r}):
                    return PlainTextResponse("no", 503)
                return identity

        app = App.bind()
        """
    )
    replicas = whole(machine)
    fault.write_text("")
    with OpenLoop(script.address, rate=200, methods=("GET", "POST"), prefix="bad") as load:
        load.wait_for_more(200, "status 503")
    fault.unlink()
    assert load.report.tally() == {"status 503": len(load.report)}
    assert set(ledger.times().values()) == {1}, "an answer of user code is an answer"
    assert serves(script.address).failed == 0
    assert machine.replicas() == replicas
    record(33, "all 3 replicas answer 503", {"requests": len(load.report), "extra tries": 0, "failed afterwards": 0})
