"""User code that does its worst (scenario 18), and clients that leave in the middle (scenario 19)."""

import concurrent.futures
import http.client
import random
import socket
import time
from urllib.parse import urlsplit

from record import record

from machine import Machine, eventually, request

WORST = """
import asyncio, sys
from eagleray import serve
from starlette.responses import PlainTextResponse, Response, StreamingResponse

class Own(BaseException):
    pass

class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("not even its text")
    __repr__ = __str__

def deep(depth):
    return 0 if depth == 0 else 1 + deep(depth - 1)

def split():
    return PlainTextResponse("x", headers={"x-evil": "a\\r\\nset-cookie: hacked=1\\r\\n\\r\\nHTTP/1.1 200 OK"})

def broken_list():
    yield "first"
    raise ValueError("secret-detail midway")

def huge():
    return PlainTextResponse("x", headers={"x-huge": "h" * (300 * 1024)})

def bad_name():
    response = PlainTextResponse("x")
    response.raw_headers.append((b"bad name\\r\\n", b"x"))
    return response

def bad_status(number):
    response = PlainTextResponse("x")
    response.status_code = number
    return response

def loop_of_lists():
    value = []
    value.append(value)
    return value

def go(what):
    if what == "base": raise Own("secret-detail")
    if what == "exit": sys.exit(3)
    if what == "interrupt": raise KeyboardInterrupt
    if what == "generator-exit": raise GeneratorExit
    if what == "cancelled": raise asyncio.CancelledError
    if what == "stop": raise StopIteration("secret-detail")
    if what == "unprintable": raise Unprintable
    if what == "recursion": return str(deep(10_000))
    if what == "object": return object()
    if what == "set": return {1, 2}
    if what == "function": return go
    if what == "nested": return {"a": object()}
    if what == "cycle": return loop_of_lists()
    if what == "surrogate": return "\\ud800"
    if what == "split": return split()
    if what == "huge": return huge()
    if what == "bad-name": return bad_name()
    if what == "status-0": return bad_status(0)
    if what == "status-70000": return bad_status(70000)
    if what == "status-99": return bad_status(99)
    if what == "midway": return broken_list()
    if what == "non-ascii": return PlainTextResponse("x", headers={"x-name": "caf\\u00e9"})
    if what == "memory": raise MemoryError
    return "fine"

@serve.deployment(max_ongoing_requests=5)
class Async:
    async def __call__(self, request):
        return go(request.query_params["what"])

@serve.deployment(max_ongoing_requests=5)
class Sync:
    def __call__(self, request):
        return go(request.query_params["what"])

serve.run(Sync.bind(), name="sync", route_prefix="/sync")
app = Async.bind()
"""

RAISES = (
    "base", "exit", "interrupt", "generator-exit", "cancelled", "stop", "unprintable", "recursion", "object",
    "function", "nested", "cycle", "surrogate", "split", "huge", "bad-name", "status-0", "status-70000", "status-99",
    "memory",
)  # fmt: skip


BROKEN = ("IncompleteRead", "RemoteDisconnected")


def ask(address: str, path: str, what: str) -> str:
    """What a client sees: a status, or how the answer broke; fails on anything that should not be seen."""
    try:
        answer = request("POST", f"{address}{path}?what={what}")
    except (http.client.HTTPException, OSError) as error:
        return type(error).__name__
    text = answer.body.decode(errors="replace") + repr(answer.headers)
    for word in ("secret-detail", "Traceback", "app.py", "set-cookie", "hacked"):
        assert word not in text, f"{what}: {text}"
    return str(answer.status)


def test_whatever_user_code_raises_or_returns_is_one_answer_and_the_replica_lives(machine: Machine) -> None:
    script = machine.serve(WORST)
    before = machine.replicas()
    dice = random.Random(18)
    kinds = [*RAISES, "midway", "non-ascii", "set", "fine"]
    rounds = [(dice.choice(["/", "/sync"]), dice.choice(kinds)) for _ in range(2000)]
    rounds += [(path, what) for path in ("/", "/sync") for what in kinds]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda one: ask(script.address, *one), rounds))
    found: dict[str, set[str]] = {}
    for (_, what), outcome in zip(rounds, outcomes, strict=True):
        found.setdefault(what, set()).add(outcome)
    assert {what: found[what] for what in RAISES} == {what: {"500"} for what in RAISES}
    assert found["fine"] == found["set"] == found["non-ascii"] == {"200"}
    assert found["midway"] <= set(BROKEN), "the answer breaks off, at its head or later, and the client can tell"
    assert machine.replicas() == before, "no replica died of it"
    # No slot is lost: as many at once as there are slots, many times over.
    for path in ("/", "/sync"):
        with concurrent.futures.ThreadPoolExecutor(5) as threads:
            assert set(threads.map(lambda _, path=path: ask(script.address, path, "fine"), range(50))) == {"200"}
    record(
        18,
        "user code raises, returns junk, breaks off, splits headers",
        {
            "requests": len(rounds),
            "answered 500 once": sum(outcome == "500" for outcome in outcomes),
            "broken streams": sum(outcome in BROKEN for outcome in outcomes),
            "replicas lost": 0,
        },
    )


LEAVES = """
import asyncio, os
from eagleray import serve
from starlette.responses import StreamingResponse


@serve.deployment(max_ongoing_requests=4)
class Streams:
    async def __call__(self, request):
        if "quick" in request.query_params:
            return "ok"
        ledger = os.open({ledger!r}, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        async def chunks():
            os.write(ledger, b"began\\n")
            try:
                for _ in range(10_000):
                    yield b"x" * 997
                    await asyncio.sleep(0)
                await asyncio.sleep(3600)
            finally:
                os.write(ledger, b"ended\\n")
                os.close(ledger)
        return StreamingResponse(chunks())

app = Streams.bind()
"""


def leave(address: str, after_bytes: int, abort: bool) -> None:
    """Reads so many bytes of a stream and goes: in order, or by a reset."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), 30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        left = after_bytes
        while left > 0:
            data = client.recv(min(left, 65536))
            assert data, "the stream has no end"
            left -= len(data)
        if abort:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_clients_that_leave_at_any_byte_of_a_stream_cost_no_slot(machine: Machine) -> None:
    ledger = machine.work / "ledger"
    script = machine.serve(LEAVES.format(ledger=str(ledger)))
    before = machine.replicas()
    dice = random.Random(19)
    count = 300
    leaving = [(dice.choice([0, 1, 17, 200]) or dice.randrange(400_000), dice.random() < 0.5) for _ in range(count)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda one: leave(script.address, *one), leaving))

    def ended() -> bool:
        words = ledger.read_text().split()
        return words.count("began") == words.count("ended")

    eventually(ended, "user code of every stream ends")
    began = ledger.read_text().split().count("began")
    # All four slots at once, or one of these would wait for ever.
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: script.get("/?quick=1").status, range(40)))
    assert set(answers) == {200}
    assert machine.replicas() == before
    record(19, "clients leave a stream at a random byte", {"clients": count, "streams begun": began, "slots lost": 0})


WAITS = """
import asyncio, os, time
from eagleray import serve

@serve.deployment(max_ongoing_requests=1)
class Waits:
    def __init__(self):
        self.ledger = os.open({ledger!r}, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    async def __call__(self, request):
        os.write(self.ledger, b"began\\n")
        try:
            await asyncio.sleep(3600)
        finally:
            os.write(self.ledger, f"{{time.monotonic()}}\\n".encode())

app = Waits.bind()
"""


def test_a_client_that_leaves_frees_the_only_slot_for_the_next(machine: Machine) -> None:
    ledger = machine.work / "ledger"
    script = machine.serve(WAITS.format(ledger=str(ledger)))
    parts = urlsplit(script.address)
    took_ms = []
    for number in range(1, 51):
        with socket.create_connection((parts.hostname, parts.port), 30) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            eventually(lambda number=number: ledger.exists() and ledger.read_text().count("began") == number, "it runs")
            left = time.monotonic()
        eventually(lambda number=number: len(ledger.read_text().split()) == 2 * number, "it is cancelled")
        took_ms.append((float(ledger.read_text().split()[-1]) - left) * 1000)
    took_ms.sort()
    record(
        19,
        "clients leave while user code waits, one slot in all",
        {
            "clients": len(took_ms),
            "slots lost": 0,
            "until user code is cancelled: ms, median": round(took_ms[25], 2),
            "most": round(took_ms[-1], 2),
        },
    )
