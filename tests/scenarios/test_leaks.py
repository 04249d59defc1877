"""Code that leaks, and a limit of memory: scenario 13."""

from parts import DEPLOYMENT, panics, whole
from record import record

from ledger import Ledger, OpenLoop
from machine import Machine, eventually

MIB = 1 << 20
APP = """
import asyncio
from eagleray import serve
from noting import note

@serve.deployment(num_replicas=2, max_rss={limit}, health_check_period_s=0.2, max_ongoing_requests=50)
class App:
    def __init__(self):
        self.kept = []

    async def __call__(self, request):
        self.kept.append(b"x" * {leak})
        await asyncio.sleep(0.01)
        return note(request)

app = App.bind()
"""


def test_a_replica_that_leaks_is_replaced_before_it_is_too_large_and_no_request_notices(machine: Machine) -> None:
    ledger = Ledger(machine)
    limit = 250 * MIB
    script = machine.serve(APP.format(limit=limit, leak=MIB))
    seen = whole(machine, 2)
    with OpenLoop(script.address, rate=100, methods=("GET", "PUT", "DELETE", "POST")) as load:

        def other() -> bool:
            seen.update(machine.replicas(DEPLOYMENT))
            return len(seen) >= 6

        eventually(other, "both have been replaced twice")
        load.wait_for_more(50)
    report = load.report
    audit = report.audit(ledger)
    assert report.failed == 0, report.tally()
    assert not audit.lost
    assert not audit.doubled
    assert panics(machine) == 0
    assert "in memory reach max_rss, 250 MiB" in machine.logs("controller*.log")
    ran = {line.pid for line in ledger.lines()}
    counted = {"requests": len(report), "failed": 0, "replicas": len(ran), "MiB leaked": len(report)}
    record(13, "1 MiB leaked by each request, max_rss 250 MiB, 2 replicas", counted)
