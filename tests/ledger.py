"""The ledger client: load whose every request is accounted for.

**Open loop**: a request leaves at its planned time, whatever became of those before it, so a service that stalls meets
the load that its users would send. **It never repeats a request.** Every request has an id of its own, in the header
`x-ledger-id`; the handler under test writes it into a file, one `write` a line, just before it works (`note`). So what
became of each request is read from two sides and nothing is guessed: how it ended here (`Report`), and how often it ran
there (`Ledger`).

One thread with an event loop of its own; 500 requests a second cost it about a tenth of a core.
"""

import asyncio
import contextlib
import itertools
import random
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from machine import PATIENCE, Machine, eventually

IDENTITY = "x-ledger-id"
# Methods that a proxy may repeat by itself (RFC 9110, 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
# What the 502 says to a client whose request had started and may not be repeated.
MARK = b"may not be repeated"

# `noting.py`, which scripts of a test import.
NOTING = """
import os, time

_FILE = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

def note(request, word="ran"):
    identity = request.headers["x-ledger-id"]
    os.write(_FILE, f"{{identity}} {{word}} {{os.getpid()}} {{time.monotonic_ns()}}\\n".encode())
    return identity
"""


class Line(NamedTuple):
    """One line that a handler wrote."""

    identity: str
    word: str
    pid: int
    at: float


class Ledger:
    """What ran, as the handlers wrote it down: `from noting import note` in the script, `return note(request)`."""

    def __init__(self, machine: Machine):
        self.path = machine.work / "ledger"
        machine.write("noting.py", NOTING.format(path=str(self.path)))

    def lines(self, word: str = "ran") -> list[Line]:
        """In the order in which they were written."""
        text = self.path.read_text() if self.path.exists() else ""
        fields = (line.split() for line in text.splitlines())
        return [Line(one[0], one[1], int(one[2]), int(one[3]) / 1e9) for one in fields if one[1] == word]

    def times(self, word: str = "ran") -> Counter[str]:
        """How often each id was written."""
        return Counter(line.identity for line in self.lines(word))


class Outcome(NamedTuple):
    """How one request ended. Times are of the monotonic clock, in seconds."""

    identity: str
    method: str
    # "ok"; "status 503"; "marked 502"; "refused"; "reset"; "closed" (no byte of an answer came); "short" (it broke
    # off); "wrong" (it is not this request's answer, or not HTTP); "late" (nothing within the client's patience).
    result: str
    planned: float
    sent: float
    ended: float
    # When the attempt to open its connection began: before `sent`, if the connection was kept from an earlier request.
    opened: float
    # It had a connection of its own.
    fresh: bool
    headers: dict[str, str]

    @property
    def seconds(self) -> float:
        """From the planned time, so that a client held up hides nothing."""
        return self.ended - self.planned


class Audit(NamedTuple):
    """The two sides beside each other: ids."""

    lost: list[str]  # answered, but nobody ran it
    doubled: list[str]  # not idempotent, and ran more than once
    repeated: list[str]  # idempotent, and ran more than once
    unasked: list[str]  # ran, but nobody sent it


class Report:
    """How every request of a load ended."""

    def __init__(self, outcomes: Sequence[Outcome]):
        self.outcomes = list(outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    def tally(self) -> dict[str, int]:
        """Requests by result."""
        return dict(sorted(Counter(one.result for one in self.outcomes).items()))

    def count(self, result: str = "ok") -> int:
        return sum(one.result == result for one in self.outcomes)

    @property
    def failed(self) -> int:
        """Requests without their answer, whatever the reason."""
        return len(self) - self.count()

    def having(self, result: str) -> list[Outcome]:
        return [one for one in self.outcomes if one.result == result]

    def latency(self, share: float, result: str = "ok") -> float:
        """Seconds within which this share of the requests with this result had ended."""
        ended = sorted(one.seconds for one in self.outcomes if one.result == result)
        return ended[min(len(ended) - 1, int(len(ended) * share))] if ended else 0.0

    @property
    def behind(self) -> float:
        """Longest time in seconds by which a request left after its plan: the client's own fault, not the service's."""
        return max((one.sent - one.planned for one in self.outcomes), default=0.0)

    def audit(self, ledger: Ledger) -> Audit:
        """Compares how requests ended with what ran."""
        ran = ledger.times()
        methods = {one.identity: one.method for one in self.outcomes}
        twice = [identity for identity, times in ran.items() if times > 1 and identity in methods]
        return Audit(
            lost=[one.identity for one in self.outcomes if one.result == "ok" and not ran[one.identity]],
            doubled=[identity for identity in twice if methods[identity] not in IDEMPOTENT],
            repeated=[identity for identity in twice if methods[identity] in IDEMPOTENT],
            unasked=[identity for identity in ran if identity not in methods],
        )


class _Exchange:
    """One request on its way."""

    def __init__(self, load: "OpenLoop", identity: str, method: str, planned: float, fresh: bool):
        self.load, self.identity, self.method, self.planned, self.fresh = load, identity, method, planned, fresh
        self.sent = self.opened = planned
        self.connection: _Connection | None = None
        self.timer = asyncio.get_running_loop().call_later(load.patience, self._late)

    def _late(self) -> None:
        self.end("late")
        if self.connection is not None:
            self.connection.abort()

    def message(self) -> bytes:
        body = b"" if self.method in ("GET", "DELETE") else self.identity.encode().ljust(self.load.body_bytes, b".")
        lines = [f"{self.method} {self.load.path} HTTP/1.1", f"host: {self.load.host}", f"{IDENTITY}: {self.identity}"]
        lines += [f"{name}: {value}" for name, value in self.load.headers.items()]
        if self.fresh:
            lines.append("connection: close")
        if body:
            lines.append(f"content-length: {len(body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body

    def end(self, result: str, headers: dict[str, str] | None = None) -> None:
        if self.timer.cancelled():
            return
        self.timer.cancel()
        ended = time.monotonic()
        self.load.ended(
            Outcome(
                self.identity,
                self.method,
                result,
                self.planned,
                self.sent,
                ended,
                self.opened,
                self.fresh,
                headers or {},
            )
        )


class _Connection(asyncio.Protocol):
    """One connection of HTTP/1.1: one exchange at a time, kept for the next one if the answer allows it."""

    def __init__(self, load: "OpenLoop", opened: float):
        self._load, self._opened = load, opened
        self._transport: asyncio.Transport | None = None
        self._exchange: _Exchange | None = None
        self._data = b""

    @property
    def closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def abort(self) -> None:
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def ask(self, exchange: _Exchange) -> None:
        self._exchange, self._data = exchange, b""
        exchange.connection, exchange.opened = self, self._opened
        exchange.sent = time.monotonic()
        if self._transport is not None:
            self._transport.write(exchange.message())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._load.forget(self)
        if self._exchange is not None:
            answer = _read(self._data, over=True)
            if isinstance(answer, _Answer):
                self._finish(answer)
            elif self._data:
                self._end("short")
            else:
                self._end("reset" if error is not None else "closed")

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            # Nothing was asked, so nothing can be trusted that comes here.
            self.abort()
            return
        self._data += data
        try:
            answer = _read(self._data, over=False)
        except ValueError:
            self._end("wrong")
            self.abort()
            return
        if answer is not None:
            self._finish(answer)

    def _finish(self, answer: "_Answer") -> None:
        exchange = self._exchange
        assert exchange is not None
        if answer.status == 200:
            result = "ok" if answer.body.decode(errors="replace") == self._load.expected(exchange) else "wrong"
        elif answer.status == 502 and MARK in answer.body:
            result = "marked 502"
        else:
            result = f"status {answer.status}"
        self._end(result, answer.headers)
        if answer.reusable and not exchange.fresh and not self.closing:
            self._load.keep(self)
        elif self._transport is not None:
            self._transport.close()

    def _end(self, result: str, headers: dict[str, str] | None = None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.end(result, headers)


class _Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    reusable: bool


def _read(data: bytes, over: bool) -> _Answer | None:
    """A whole answer, or None while some of it is missing. `over`: no more will come. ValueError: it is none."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status = first.split(" ")[:2]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    reusable = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    body: bytes | None
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunk(rest)
    elif "content-length" in headers:
        length = int(headers["content-length"])
        body = rest if len(rest) == length else None
        if len(rest) > length:
            raise ValueError("more than one answer")
    else:
        body, reusable = rest if over else None, False
    return None if body is None else _Answer(int(status), headers, body, reusable)


def _unchunk(rest: bytes) -> bytes | None:
    body = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        if not found:
            return None
        length = int(size, 16)
        if length == 0:
            return body if rest.endswith(b"\r\n") else None
        if len(rest) < length + 2:
            return None
        body, rest = body + rest[:length], rest[length + 2 :]


class OpenLoop:
    """A load, as a context manager: requests leave from entry to exit; exit waits for every answer.

    Arguments beyond the address, which is `http://host:port`:
        rate: requests a second, evenly spaced.
        requests: how many leave at most.
        methods: one of them is drawn for each request; GET and DELETE have no body.
        fresh: share of requests that get a connection of their own. The rest use kept ones, opened as needed.
        body_bytes: length of a body, at least that of the id.
        patience: seconds after which a request without an answer is given up, as "late".
        prefix: of the ids, so that several loads of one test have different ones.
        seed: of what is drawn.
        answer: the right body of an answer, where it is not the id.
    """

    def __init__(
        self,
        address: str,
        *,
        rate: float = 200.0,
        requests: int | None = None,
        methods: Sequence[str] = ("GET",),
        path: str = "/",
        fresh: float = 0.2,
        body_bytes: int = 0,
        headers: dict[str, str] | None = None,
        patience: float = PATIENCE,
        prefix: str = "a",
        seed: int = 1,
        answer: str | None = None,
    ):
        parts = urlsplit(address)
        self.host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self.path, self.headers, self.body_bytes, self.patience = path, headers or {}, body_bytes, patience
        self._rate, self._methods, self._fresh, self._prefix = rate, tuple(methods), fresh, prefix
        self._numbers = itertools.count() if requests is None else iter(range(requests))
        self._answer = answer
        self._dice = random.Random(seed)
        self._idle: list[_Connection] = []
        self._open: set[asyncio.Task[None]] = set()
        self._outcomes: list[Outcome] = []
        self._sent = 0
        self._stop = threading.Event()
        self._broke: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="ledger client")

    def __enter__(self) -> "OpenLoop":
        _allow_many_sockets()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(self.patience + PATIENCE)
        assert not self._thread.is_alive(), "the ledger client does not end"
        if self._broke is not None:
            raise self._broke

    @property
    def report(self) -> Report:
        """What ended until now; after exit, everything."""
        return Report(list(self._outcomes))

    @property
    def in_flight(self) -> int:
        """Requests that left and have not ended."""
        return self._sent - len(self._outcomes)

    def wait_for_more(self, more: int = 50, result: str = "ok", seconds: float = PATIENCE) -> None:
        """Returns once `more` further requests ended with this result."""
        before = self.report.count(result)
        eventually(
            lambda: self._broke or self.report.count(result) >= before + more,
            f"{more} more {result}: {self.report.tally()}",
            seconds,
        )

    def expected(self, exchange: _Exchange) -> str:
        """The body of the right answer."""
        return exchange.identity if self._answer is None else self._answer

    def ended(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)

    def keep(self, connection: _Connection) -> None:
        self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._broke = error

    async def _main(self) -> None:
        start = time.monotonic()
        for number in self._numbers:
            planned = start + number / self._rate
            # Another thread stops it, and a wake-up a request is all that this may cost.
            while (wait := planned - time.monotonic()) > 0 and not self._stop.is_set():  # noqa: ASYNC110
                await asyncio.sleep(min(wait, 0.05))
            if self._stop.is_set():
                break
            self._leave(
                _Exchange(
                    self,
                    f"{self._prefix}{number}",
                    self._dice.choice(self._methods),
                    planned,
                    self._dice.random() < self._fresh,
                )
            )
        while self.in_flight:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.005)
        for connection in list(self._idle):
            connection.abort()

    def _leave(self, exchange: _Exchange) -> None:
        self._sent += 1
        while not exchange.fresh and self._idle:
            connection = self._idle.pop()
            if not connection.closing:
                connection.ask(exchange)
                return
        task = asyncio.get_running_loop().create_task(self._connect(exchange))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _connect(self, exchange: _Exchange) -> None:
        exchange.sent = exchange.opened = time.monotonic()
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self, exchange.opened), self.host, self._port, family=socket.AF_INET
            )
        except ConnectionRefusedError:
            exchange.end("refused")
        except OSError as error:
            exchange.end("reset" if isinstance(error, ConnectionResetError) else f"error {error.errno}")
        else:
            sent = exchange.sent
            connection.ask(exchange)
            exchange.sent = sent


def _allow_many_sockets() -> None:
    """An open loop against a stalled service holds a connection a request."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < min(hard, 16_384):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))


def percentiles(report: Report) -> Iterator[tuple[str, float]]:
    """p50, p99 and the maximum, in milliseconds, for `record`."""
    for name, share in (("p50 ms", 0.5), ("p99 ms", 0.99), ("max ms", 1.0)):
        yield name, round(report.latency(share) * 1000, 1)
