"""Ten times more requests than can be served: scenario 32."""

import socket
import threading
from urllib.parse import urlsplit

from parts import memory_of, panics, whole
from record import record

from ledger import Ledger, OpenLoop
from machine import Machine, eventually

MIB = 1024 * 1024
# Two replicas of two slots of 100 ms: 40 requests a second. At most twice as many wait as run.
CAPACITY, SLOTS = 40, 4
APP = f"""
import asyncio
from eagleray import serve
from noting import note

@serve.deployment(
    num_replicas=2, max_ongoing_requests=2, max_queued_requests={2 * SLOTS},
    backpressure_config={{"status_code": 503, "retry_after_s": 2}},
)
class App:
    async def __call__(self, request):
        identity = note(request)
        await asyncio.sleep(0.1)
        return identity

app = App.bind()
"""


def test_ten_times_the_capacity_is_answered_as_far_as_it_goes_and_the_rest_at_once(machine: Machine) -> None:
    ledger = Ledger(machine)
    script = machine.serve(APP)
    replicas = whole(machine, 2)
    proxy, seconds = machine.one("eagleray: proxy$"), 4
    before, peak = memory_of(proxy), 0
    with OpenLoop(
        script.address, rate=10 * CAPACITY, requests=10 * CAPACITY * seconds, methods=("GET", "POST")
    ) as load:
        while (ended := len(load.report)) < 10 * CAPACITY * seconds:
            eventually(lambda ended=ended: len(load.report) > ended, "requests are answered all the while")
            peak = max(peak, memory_of(proxy))
    report = load.report
    served, refused = report.count(), report.having("status 503")
    assert served + len(refused) == len(report), report.tally()
    assert all(one.headers.get("retry-after") == "2" for one in refused)
    # Half, since the machine may be busy with other tests; the long form asserts nine tenths.
    assert served >= CAPACITY * seconds // 2, f"{served} served"
    audit = report.audit(ledger)
    assert not audit.lost
    assert not audit.doubled
    assert len([one for one in ledger.times() if one.startswith("a")]) == served, "what is refused does not run"
    assert peak - before < 64 * MIB, f"the proxy grew by {(peak - before) // MIB} MiB"
    after = _one_at_a_time(script.address)
    assert machine.replicas() == replicas
    assert panics(machine) == 0
    counted = {
        "requests": len(report),
        "served": served,
        "capacity": CAPACITY * seconds,
        "503 with Retry-After": len(refused),
    }
    counted |= {
        "503: p99 ms": round(report.latency(0.99, "status 503") * 1000),
        "proxy grew MiB": (peak - before) // MIB,
    }
    record(32, "10 times the capacity, queue of twice the slots", counted | {"failed afterwards": after})


def _one_at_a_time(address: str) -> int:
    """A load below the capacity; returns how many failed, which must be none."""
    with OpenLoop(address, rate=CAPACITY / 4, prefix="after") as load:
        load.wait_for_more(10)
    assert load.report.failed == 0, load.report.tally()
    return 0


SYNC = """
import os, time
from eagleray import serve

@serve.deployment(num_replicas=1, max_ongoing_requests=1)
class App:
    def __call__(self, request):
        while os.path.exists({closed!r}):
            time.sleep(0.01)
        return str(len(request.body()))

app = App.bind()
"""


def test_without_a_queue_limit_waiting_requests_are_bounded_by_their_memory(machine: Machine) -> None:
    closed = machine.work / "closed"
    script = machine.serve(SYNC.format(closed=str(closed)))
    proxy = machine.one("eagleray: proxy$")
    closed.write_text("")
    before, size, count = memory_of(proxy), 7 * MIB, 60
    answers: list[tuple[int, bytes]] = []
    threads = [threading.Thread(target=_post, args=(script.address, size, answers)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        # 256 MiB hold 36 of them; the others are refused while these wait.
        eventually(lambda: len(answers) >= 1, "some are refused")
        eventually(lambda: len(answers) >= count - 256 // 7 - 2, "all others are refused")
        grown = memory_of(proxy) - before
    finally:
        closed.unlink()
        for thread in threads:
            thread.join(60)
    statuses = sorted(status for status, _ in answers)
    assert len(statuses) == count
    assert set(statuses) == {200, 503}, statuses
    assert all(body == str(size).encode() for status, body in answers if status == 200), "a short body"
    assert grown < (256 + 128) * MIB, f"the proxy grew by {grown // MIB} MiB"
    assert panics(machine) == 0
    counted = {
        "requests": count,
        "MiB each": size // MIB,
        "refused 503": statuses.count(503),
        "served": statuses.count(200),
    }
    record(32, "no queue limit: bodies wait in at most 256 MiB", counted | {"proxy grew MiB": grown // MIB})


def _post(address: str, size: int, answers: list[tuple[int, bytes]]) -> None:
    """One upload. What is refused may be answered before its body is read, so a broken pipe is no fault by itself."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall(
            f"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n".encode()
        )
        block = bytes(MIB)
        try:
            for _ in range(size // MIB):
                connection.sendall(block)
        except (BrokenPipeError, ConnectionResetError):
            pass
        data = b""
        try:
            while part := connection.recv(65536):
                data += part
        except ConnectionResetError:
            pass
    head, _, body = data.partition(b"\r\n\r\n")
    answers.append((int(head.split()[1]) if head else 0, body))
