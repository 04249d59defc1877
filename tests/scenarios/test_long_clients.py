"""Long forms about clients, user code and load (`make chaos`): times beside those of a run without faults just before.

Scenarios 18, 19, 32, 33, 34, 35, 36 and 41.
"""

import concurrent.futures
import contextlib
import random
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from parts import CHAOS_SECONDS, calm, memory_of, near, panics, serves, whole
from record import record
from test_hostile_http1 import APP as TARGET
from test_hostile_http1 import Push, all_closed, answer, connect, head, serve
from test_http2 import CANCEL, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, WINDOW_UPDATE, Client, block, frame
from test_overload import APP as OVERLOADED
from test_overload import CAPACITY
from test_user_code import BROKEN, RAISES, WORST, ask

from ledger import IDENTITY, Ledger, OpenLoop, percentiles
from machine import Load, Machine, eventually, request

pytestmark = pytest.mark.chaos
MIB = 1024 * 1024


def test_ten_thousand_bad_answers_grow_nothing(machine: Machine) -> None:
    script = machine.serve(WORST)
    before = machine.replicas()
    dice = random.Random(18)
    kinds = [*RAISES, "midway", "fine"]

    def ask_many(count: int) -> list[str]:
        asked = [(dice.choice(["/", "/sync"]), dice.choice(kinds)) for _ in range(count)]
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            return list(threads.map(lambda one: ask(script.address, *one), asked))

    ask_many(2000)
    memory = {pid: memory_of(pid) for pid in before}
    outcomes = ask_many(10_000)
    assert set(outcomes) <= {"500", "200", *BROKEN}, set(outcomes)
    assert machine.replicas() == before
    grown = max(memory_of(pid) - memory[pid] for pid in before)
    assert grown <= 32 * MIB, f"a replica grew by {grown // MIB} MiB"
    counted = {"requests": len(outcomes), "answered 500 once": outcomes.count("500"), "replicas lost": 0}
    record(18, "long form: ten thousand bad answers", counted | {"MiB that a replica grew": grown // MIB})


STREAMS = """
import asyncio
from eagleray import serve
from noting import note
from starlette.responses import StreamingResponse

@serve.deployment(max_ongoing_requests=20)
class Streams:
    async def __call__(self, request):
        if request.url.path != "/stream":
            return note(request)

        async def chunks():
            note(request)
            try:
                while True:
                    yield b"x" * 997
                    await asyncio.sleep(0.001)
            finally:
                note(request, "cancelled")

        return StreamingResponse(chunks())

app = Streams.bind()
"""


def test_a_thousand_clients_leave_and_user_code_hears_of_each_at_once(machine: Machine) -> None:
    ledger = Ledger(machine)
    script = machine.serve(STREAMS)
    quiet = calm(script.address).latency(0.99)
    dice, count = random.Random(19), 1000

    def leave(number: int) -> float:
        with connect(script) as client:
            client.sendall(head("GET", "/stream", f"{IDENTITY}: leave{number}"))
            left = dice.randrange(20_000)
            while left > 0:
                left -= len(client.recv(min(left, 65536)))
            if dice.random() < 0.5:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return time.monotonic()

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        gone = list(threads.map(leave, range(count)))
    eventually(lambda: ledger.times("cancelled") == {f"leave{n}": 1 for n in ledger_numbers(ledger)}, "all are over")
    waits = sorted(line.at - gone[int(line.identity[5:])] for line in ledger.lines("cancelled"))
    late = waits[int(len(waits) * 0.99)]
    assert late <= 0.1 + 3 * quiet, f"cancelled after {late:.3f} s, an answer without faults takes {quiet:.3f} s"
    assert serves(script.address).failed == 0
    counted = {"clients": count, "streams begun": len(waits), "slots lost": 0}
    record(19, "long form: a thousand clients leave", counted | {"cancelled after ms, p99": round(late * 1000, 1)})


def ledger_numbers(ledger: Ledger) -> list[int]:
    """Numbers of the clients whose stream has begun."""
    return [int(identity[5:]) for identity in ledger.times() if identity.startswith("leave")]


def test_ten_times_the_capacity_for_long_costs_no_goodput(machine: Machine) -> None:
    Ledger(machine)
    script = machine.serve(OVERLOADED)
    proxy, seconds = machine.one("eagleray: proxy$"), int(CHAOS_SECONDS / 2)
    whole(machine, 2)
    quiet = calm(script.address, rate=CAPACITY / 2)
    with OpenLoop(script.address, rate=CAPACITY, requests=10 * CAPACITY, prefix="full") as full:
        eventually(lambda: len(full.report) == 10 * CAPACITY, "all are answered")
    most = full.report.count() / (max(one.ended for one in full.report.outcomes) - full.report.outcomes[0].planned)
    before, peak = memory_of(proxy), 0
    with OpenLoop(script.address, rate=10 * CAPACITY, requests=10 * CAPACITY * seconds, prefix="storm") as load:
        while len(load.report) < 10 * CAPACITY * seconds:
            peak = max(peak, memory_of(proxy))
            time.sleep(0.05)
    report = load.report
    assert set(report.tally()) == {"ok", "status 503"}, report.tally()
    good = report.count() / (max(one.ended for one in report.outcomes) - min(one.planned for one in report.outcomes))
    assert good >= 0.9 * most, f"{good:.1f} a second, at its capacity {most:.1f}"
    refused, handler = report.latency(0.99, "status 503"), 0.1
    assert near(refused, quiet.latency(0.99) - handler, 0.05), f"p99 of 503: {refused:.3f} s"
    assert peak - before <= 64 * MIB
    time.sleep(2)
    after = calm(script.address, rate=CAPACITY / 2, prefix="after")
    assert near(after.latency(0.99), quiet.latency(0.99)), "two seconds later all is as before"
    counted = {"requests": len(report), "served a second": round(good, 1), "at its capacity": round(most, 1)}
    counted |= {"503: p99 ms": round(refused * 1000, 1), "proxy grew MiB": (peak - before) // MIB}
    record(32, f"long form: 10 times the capacity for {seconds} s", counted)


FAILS = """
import os
from eagleray import serve
from noting import note
from starlette.responses import PlainTextResponse

@serve.deployment(num_replicas=3)
class App:
    async def __call__(self, request):
        identity = note(request)
        if os.path.exists({fault!r}):
            return PlainTextResponse("no", 503)
        return identity

app = App.bind()
"""


def test_replicas_that_all_fail_serve_as_soon_as_they_can(machine: Machine) -> None:
    ledger = Ledger(machine)
    fault = machine.work / "fault"
    script = machine.serve(FAILS.format(fault=str(fault)))
    quiet = calm(script.address).latency(0.99)
    recovered = []
    with OpenLoop(script.address, rate=200, methods=("GET", "POST"), prefix="bad") as load:
        end = time.monotonic() + CHAOS_SECONDS / 3
        while time.monotonic() < end:
            fault.write_text("")
            load.wait_for_more(200, "status 503")
            fault.unlink()
            at = time.monotonic()
            load.wait_for_more(200)
            recovered.append(min(one.ended for one in load.report.having("ok") if one.planned >= at) - at)
    assert set(load.report.tally()) == {"ok", "status 503"}, load.report.tally()
    tries = sum(times for name, times in ledger.times().items() if name.startswith("bad"))
    assert tries <= 1.2 * len(load.report), f"{tries} tries"
    assert max(recovered) <= 2 + 3 * quiet, recovered
    counted = {"requests": len(load.report), "tries": tries, "times": len(recovered)}
    record(33, "long form: all 3 replicas fail, then not", counted | {"well after s, most": round(max(recovered), 3)})


def test_nine_thousand_slow_connections_cost_little_and_end_in_time(machine: Machine) -> None:
    limit_s, each = 8.0, 3000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4 * each:
        pytest.skip(f"{4 * each} descriptors are wanted, {hard} may be had")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
    limits = f'{{"header_read_s": {limit_s}, "body_idle_s": {limit_s}, "answer_idle_s": {limit_s}}}'
    # A slot for each reader: it is connections that are short here.
    script = serve(machine, limits, TARGET.replace("max_ongoing_requests=2000", "max_ongoing_requests=20000"))
    proxy = machine.one("eagleray: proxy$")
    quiet = calm(script.address, answer="hello").latency(0.99)
    before = memory_of(proxy)
    slow = [connect(script) for _ in range(3 * each)]
    with all_closed(slow):
        heads, bodies, readers = slow[:each], slow[each : 2 * each], slow[2 * each :]
        begun = {}
        head_begins = b"GET / HTTP/1.1\r\nhost: test\r\nx: "
        body_begins = head("POST", "/upload", "content-length: 60000") + b"x"
        for kind, sent in ((heads, head_begins), (bodies, body_begins)):
            for one in kind:
                one.sendall(sent)
                begun[one.fileno()] = time.monotonic()
        for one in readers:
            one.sendall(head("GET", "/endless"))
        # To begin three thousand answers takes its time; the question is what it costs to have them.
        assert script.get("/").text == "hello"
        with OpenLoop(script.address, rate=100, answer="hello", prefix="storm") as load:
            most, ended = _watch(begun, lambda: memory_of(proxy))
            eventually(lambda: script.counters["slow_readers"] == each, f"slow readers are cut: {script.counters}")
            load.wait_for_more(100)
        counters = script.counters
    late = sorted(ended)[int(len(ended) * 0.99)] - limit_s
    each_kib = (most - before) // 1024 // (3 * each)
    assert load.report.failed == 0, load.report.tally()
    assert counters["panics"] == 0
    assert each_kib <= 40, f"{each_kib} KiB a connection"
    loud = load.report.latency(0.99)
    assert near(loud, quiet, 0.3), f"p99 {loud:.3f} s, without them {quiet:.3f} s"
    assert late <= 1 + 3 * quiet, f"ended {late:.2f} s after the limit"
    counted = {"connections": 3 * each, "KiB a connection": each_kib, "s after the limit, p99": round(late, 2)}
    counted |= {"requests beside them": len(load.report), "failed": 0, "p99 without ms": round(quiet * 1000, 1)}
    record(34, "long form: slow heads, bodies and readers", counted | dict(percentiles(load.report)))


def _watch(begun: dict[int, float], memory: Callable[[], int]) -> tuple[int, list[float]]:
    """Waits until the other side has ended all of these. Returns the most memory seen, and how long each lived."""
    poller, open_now, most, lived = select.epoll(), set(begun), 0, []
    for number in begun:
        poller.register(number, select.EPOLLRDHUP | select.EPOLLHUP)
    end = time.monotonic() + 60
    while open_now:
        assert time.monotonic() < end, f"{len(open_now)} are open"
        most = max(most, memory())
        for number, _ in poller.poll(0.2, 1000):
            poller.unregister(number)
            open_now.discard(number)
            lived.append(time.monotonic() - begun[number])
    poller.close()
    return most, lived


def test_a_proxy_that_had_no_descriptors_is_well_a_second_later(machine: Machine) -> None:
    script = serve(machine)
    proxy = machine.one("eagleray: proxy$")
    quiet = calm(script.address, answer="hello", fresh=1.0).latency(0.99)
    limits = resource.prlimit(proxy, resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path(f"/proc/{proxy}/fd").iterdir())
    resource.prlimit(proxy, resource.RLIMIT_NOFILE, (highest + 30, limits[1]))
    well, end = [], time.monotonic() + CHAOS_SECONDS / 4
    with Load(script.address, threads=2) as load:
        while time.monotonic() < end:
            errors = script.counters["accept_errors"]
            flood = [connect(script) for _ in range(200)]
            eventually(lambda errors=errors: script.counters["accept_errors"] >= errors + 5, "they are used up")
            load.wait_for_more(50)
            for one in flood:
                one.close()
            begun = time.monotonic()
            assert request("GET", script.address).status == 200
            well.append(time.monotonic() - begun)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert max(well) <= 1 + 3 * quiet, well
    counted = {"times": len(well), "requests beside": load.count(), "failed": 0, "restarts": 0}
    record(35, "long form: no descriptors left", counted | {"well after ms, most": round(max(well) * 1000)})


def test_hundreds_of_uploads_to_a_slow_replica_cost_their_buffers(machine: Machine) -> None:
    count, length = 256, 8 * MIB
    script = serve(machine)
    proxy, replica = machine.one("eagleray: proxy$"), machine.one("eagleray: replica ")
    assert script.post("/warm", b"x" * 100_000).status == 200
    before = memory_of(proxy), memory_of(replica)
    uploads = [connect(script) for _ in range(count)]
    with all_closed(uploads):
        for one in uploads:
            one.sendall(head("POST", "/upload", f"content-length: {length}"))
        push = Push(uploads, length)
        push.push()
        grown = memory_of(proxy) - before[0], memory_of(replica) - before[1]
        assert script.get("/go").status == 200
        while push.push():
            pass
        answers = [answer(one) for one in uploads]
    assert answers == [(200, str(length).encode())] * count
    for process, more in zip(("proxy", "replica"), grown, strict=True):
        assert more <= count * 256 * 1024 + 4 * MIB, f"{process}: {more // count // 1024} KiB each"
    counted = {"completed": count, "failed": 0, "KiB each in the proxy": grown[0] // count // 1024}
    record(36, "long form: 256 uploads of 8 MiB", counted | {"KiB each in the replica": grown[1] // count // 1024})


SMALL = """
import asyncio
from eagleray import serve

@serve.deployment(max_ongoing_requests=20_000)
class Answers:
    async def __call__(self, request):
        return "x" * 1_000

app = Answers.bind()
serve.start(http_options={"port": 0})
"""


def test_ten_thousand_stalled_streams_are_reset_within_their_time(machine: Machine) -> None:
    script = machine.serve(SMALL)
    proxy = machine.one("eagleray: proxy")
    assert request("GET", script.address + "/").status == 200
    before = memory_of(proxy)
    clients = [Client(script.address, window=0) for _ in range(100)]
    begun = time.monotonic()
    for client in clients:
        client.socket.sendall(
            b"".join(frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * number, block()) for number in range(100))
        )
    lived: list[float] = []
    threads = [threading.Thread(target=_drip, args=(client, lived, begun)) for client in clients]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, memory_of(proxy))
        time.sleep(0.1)
    for client in clients:
        client.socket.close()
    assert len(lived) == 10_000
    grown = (most - before) // MIB
    assert grown <= 64, f"the proxy grew by {grown} MiB"
    # h2_stall_s, and what ten thousand requests take.
    assert max(lived) <= 10 + 10, f"the last was reset after {max(lived):.1f} s"
    assert panics(machine) == 0
    counted = {"streams reset": len(lived), "MiB that the proxy grew": grown, "s, most": round(max(lived), 1)}
    record(41, "long form: 100 connections of 100 streams with a closed window, kept alive", counted)


def _drip(client: Client, lived: list[float], begun: float) -> None:
    """Opens the window of the connection by a byte with each answer's head, until all streams are reset."""
    waiting = 100
    with contextlib.suppress(ConnectionError):
        for kind, _, _, payload in client.frames():
            if kind == RST_STREAM:
                assert struct.unpack(">I", payload)[0] == CANCEL
                lived.append(time.monotonic() - begun)
                waiting -= 1
                if waiting == 0:
                    return
            elif kind == HEADERS:
                client.socket.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)))


def test_endless_answers_to_closed_windows_cost_their_buffers(machine: Machine) -> None:
    script = serve(machine, app=TARGET)
    proxy = machine.one("eagleray: proxy")
    assert script.get("/").status == 200
    before, count = memory_of(proxy), 4
    fields = block(path=b"/endless")
    clients = [Client(script.address, window=0) for _ in range(count)]
    for client in clients:
        client.socket.sendall(
            b"".join(frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * number, fields) for number in range(100))
        )
    sizes = [0]

    def still() -> bool:
        sizes.append(memory_of(proxy))
        time.sleep(0.5)
        return abs(sizes[-1] - sizes[-2]) < MIB and sizes[-1] > before + MIB

    eventually(still, "nothing grows any more")
    each = (sizes[-1] - before) // 1024 // (100 * count)
    for client in clients:
        client.socket.close()
    assert each <= 128, f"{each} KiB a stream"
    eventually(lambda: script.counters["connections_open"] == 0, "no connection is left")
    record(41, "long form: endless answers to closed windows", {"streams": 100 * count, "KiB each in the proxy": each})
