"""Hostile HTTP/1.1 clients: slow ones, too many of them, too much of everything. Others do not notice.

The short forms: counts are asserted, times are not. The clients are ours, raw sockets on loopback.
"""

import os
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from record import record

from machine import Load, Machine, Script, eventually, request

APP = """
import asyncio
from eagleray import serve
from starlette.responses import PlainTextResponse, StreamingResponse

CHUNK = b"x" * 65536

async def endless():
    while True:
        yield CHUNK

@serve.deployment(max_ongoing_requests=2000)
class Target:
    def __init__(self):
        self.go = asyncio.Event()

    async def __call__(self, request):
        path = request.url.path
        if path == "/endless":
            return StreamingResponse(endless())
        if path == "/go":
            self.go.set()
        if path == "/upload":
            length = 0
            async for chunk in request.stream():
                length += len(chunk)
                await self.go.wait()
            return PlainTextResponse(str(length))
        return PlainTextResponse("hello")

app = Target.bind()
"""


def serve(machine: Machine, limits: str = "{}", app: str = APP) -> Script:
    return machine.serve(app + f'\nserve.start(http_options={{"port": 0, "limits": {limits}}})\n')


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def connect(script: Script) -> socket.socket:
    address = urlsplit(script.address)
    return socket.create_connection((address.hostname, address.port), timeout=30)


def head(method: str, path: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: test", *fields, "", ""]).encode()


@contextmanager
def all_closed(sockets: list[socket.socket]) -> Iterator[None]:
    try:
        yield
    finally:
        for one in sockets:
            one.close()


class Drip:
    """Sends a byte at a time on many connections, and notices when the other side has ended them."""

    def __init__(self, sockets: list[socket.socket], byte: bytes):
        self.open = set(sockets)
        self._byte = byte
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for one in self.open:
            one.setblocking(False)
        while self.open and not self._stop.wait(0.1):
            for one in list(self.open):
                try:
                    one.send(self._byte)
                except BlockingIOError:
                    pass
                except OSError:
                    self.open.discard(one)

    def __enter__(self) -> "Drip":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)


def test_a_thousand_slow_connections_are_ended_and_nobody_else_notices(machine: Machine) -> None:
    each = 334
    script = serve(machine, '{"header_read_s": 1.5, "body_idle_s": 1.5, "answer_idle_s": 1.5}')
    proxy = machine.one("eagleray: proxy$")
    heads = [connect(script) for _ in range(each)]
    bodies = [connect(script) for _ in range(each)]
    readers = [connect(script) for _ in range(each)]
    with Load(script.address, threads=2) as load, all_closed(heads + bodies + readers):
        load.wait_for_more(20)
        before = rss(proxy)
        for one in heads:
            one.sendall(b"GET / HTTP/1.1\r\nhost: test\r\nx: ")
        for one in bodies:
            one.sendall(head("POST", "/upload", "content-length: 60000") + b"x")
        for one in readers:
            one.sendall(head("GET", "/endless"))
        most = 0
        with Drip(heads + bodies, b"x") as drip:

            def ended() -> bool:
                nonlocal most
                most = max(most, rss(proxy))
                return not drip.open

            eventually(ended, "slow heads and bodies are ended")
        eventually(lambda: script.counters["slow_readers"] == each, f"slow readers are cut: {script.counters}")
        load.wait_for_more(20)
        counted = script.counters
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert (counted["heads_timed_out"], counted["bodies_timed_out"]) == (each, each), counted
    assert counted["panics"] == 0
    eventually(lambda: script.counters["connections_open"] == 0, "no connection is left")
    assert machine.one("eagleray: proxy$") == proxy
    # What docs/limits.md allows a streamed answer, and a few KiB for everybody else.
    allowed = each * (128 + 20 + 20) * 1024
    assert most - before <= allowed, f"{(most - before) // 1024 // (3 * each)} KiB a connection"
    record(
        34,
        "1,002 slow connections: heads, bodies and readers, a third each",
        {
            "connections ended": 3 * each,
            "requests beside them": load.count(),
            "failed": 0,
            "KiB a connection": (most - before) // 1024 // (3 * each),
        },
    )


def test_a_proxy_without_descriptors_goes_on_and_is_well_afterwards(machine: Machine) -> None:
    script = serve(machine)
    proxy = machine.one("eagleray: proxy$")
    with Load(script.address, threads=2) as load:
        load.wait_for_more(20)
        highest = max(int(path.name) for path in Path(f"/proc/{proxy}/fd").iterdir())
        limits = resource.prlimit(proxy, resource.RLIMIT_NOFILE)
        resource.prlimit(proxy, resource.RLIMIT_NOFILE, (highest + 30, limits[1]))
        flood = [connect(script) for _ in range(200)]
        with all_closed(flood):
            eventually(lambda: script.counters["accept_errors"] >= 5, "descriptors are used up")
            load.wait_for_more(50)
        # Nobody gave it back its descriptors but those who left.
        assert request("GET", script.address).status == 200
        load.wait_for_more(20)
    counted = script.counters
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert machine.one("eagleray: proxy$") == proxy, "the same process"
    assert counted["panics"] == 0
    eventually(lambda: script.counters["connections_open"] == 0, "no connection is left")
    record(
        35,
        "200 connections to a proxy with 30 free descriptors",
        {"requests beside them": load.count(), "failed": 0, "accept errors": counted["accept_errors"], "restarts": 0},
    )


def test_a_proxy_in_little_memory_refuses_and_is_never_killed(machine: Machine) -> None:
    most, count, length = 128 * 1024 * 1024, 60, 8_000_000
    group = Path(f"/sys/fs/cgroup/memory/eagleray-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of memory can be made here: {error}")
    try:
        script = serve(machine, f'{{"memory_bytes": {most}}}', app=SYNC)
        proxy = machine.one("eagleray: proxy$")
        (group / "memory.limit_in_bytes").write_text(str(most))
        (group / "cgroup.procs").write_text(str(proxy))
        with Load(script.address, threads=1) as load:
            load.wait_for_more(20)
            uploads = [connect(script) for _ in range(count)]
            with all_closed(uploads):
                for one in uploads:
                    one.sendall(head("POST", "/", f"content-length: {length}"))
                # All but the last byte: nothing of these bodies may go on to the replica.
                Push(uploads, length - 1).push()
                resident = rss(proxy)
                load.wait_for_more(20)
            refused = script.counters["requests_refused_queued_bytes"]
            eventually(lambda: script.counters["connections_open"] <= 2, "they are gone")
            load.wait_for_more(20)
        assert script.post("/", b"x" * 100_000).text == "100000"
        assert set(load.outcomes) == {"200"}, load.outcomes
        assert machine.one("eagleray: proxy$") == proxy, "the same process"
        assert refused > count // 2, refused
    finally:
        machine.close()
        group.rmdir()
    record(
        35,
        f"a proxy in 128 MiB, {count} bodies of 8 MB at once",
        {
            "answered 503": refused,
            "kept": count - refused,
            "MiB at most": resident >> 20,
            "failed beside them": 0,
            "restarts": 0,
        },
    )


class Push:
    """Sends on many connections what they take, without ever waiting for one."""

    def __init__(self, sockets: list[socket.socket], length: int):
        self._left = dict.fromkeys(sockets, length)
        self._chunk = b"x" * 65536
        self._selector = selectors.DefaultSelector()
        for one in sockets:
            one.setblocking(False)
            self._selector.register(one, selectors.EVENT_WRITE)

    def push(self) -> int:
        """Sends until no connection takes more for a moment. Returns the bytes that are left."""
        while ready := self._selector.select(0.3):
            for key, _ in ready:
                one = key.fileobj
                assert isinstance(one, socket.socket)
                try:
                    self._left[one] -= one.send(self._chunk[: self._left[one]])
                except BlockingIOError:
                    continue
                except ConnectionError:
                    self._left[one] = 0  # refused, and closed
                if not self._left[one]:
                    self._selector.unregister(one)
        return sum(self._left.values())


def test_uploads_to_a_slow_replica_cost_their_buffers_and_no_more(machine: Machine) -> None:
    count, length = 64, 16 * 1024 * 1024
    script = serve(machine)
    proxy, replica = machine.one("eagleray: proxy$"), machine.one("eagleray: replica ")
    assert script.post("/warm", b"x" * 100_000).status == 200
    before = rss(proxy), rss(replica)
    uploads = [connect(script) for _ in range(count)]
    with all_closed(uploads):
        for one in uploads:
            one.sendall(head("POST", "/upload", f"content-length: {length}"))
        push = Push(uploads, length)
        left = push.push()
        grown = rss(proxy) - before[0], rss(replica) - before[1]
        assert left > count * length // 2, "most of it waits at the clients"
        for process, bytes_more in zip(("proxy", "replica"), grown, strict=True):
            assert bytes_more <= count * 256 * 1024 + 4 * 1024 * 1024, f"{process}: {bytes_more} for {count} uploads"
        assert script.get("/go").status == 200
        while push.push():
            pass
        answers = [answer(one) for one in uploads]
    assert answers == [(200, str(length).encode())] * count
    record(
        36,
        "64 uploads of 16 MiB to a replica that does not read",
        {
            "completed": count,
            "failed": 0,
            "KiB each in the proxy": grown[0] // 1024 // count,
            "KiB each in the replica": grown[1] // 1024 // count,
        },
    )


def answer(one: socket.socket) -> tuple[int, bytes]:
    """The status and body of a response with a length."""
    one.settimeout(30)
    data = b""
    while b"\r\n\r\n" not in data:
        data += one.recv(65536) or b"\r\n\r\n"
    top, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in top.lower().split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < length:
        body += one.recv(65536)
    return int(top.split()[1]), body


def test_answers_to_readers_that_do_not_read_cost_their_buffers_and_no_more(machine: Machine) -> None:
    count = 64
    script = serve(machine)
    proxy, replica = machine.one("eagleray: proxy$"), machine.one("eagleray: replica ")
    assert script.get("/").status == 200
    before = rss(proxy), rss(replica)
    readers = [connect(script) for _ in range(count)]
    with all_closed(readers):
        for one in readers:
            one.sendall(head("GET", "/endless"))
        for one in readers:
            one.recv(1)
        settled = [0]

        def still() -> bool:
            """Both processes have stopped to grow."""
            sizes = rss(proxy) + rss(replica)
            same = sizes == settled[-1]
            settled.append(sizes)
            time.sleep(0.3)
            return same

        eventually(still, "nothing grows any more")
        grown = rss(proxy) - before[0], rss(replica) - before[1]
    for process, bytes_more, most in zip(("proxy", "replica"), grown, (128, 128), strict=True):
        assert bytes_more <= count * most * 1024 + 4 * 1024 * 1024, f"{process}: {bytes_more} for {count} answers"
    eventually(lambda: script.counters["connections_open"] == 0, "no connection is left")
    assert script.get("/").status == 200
    record(
        36,
        "64 endless answers to clients that do not read",
        {
            "KiB each in the proxy": grown[0] // 1024 // count,
            "KiB each in the replica": grown[1] // 1024 // count,
        },
    )


SYNC = """
from eagleray import serve

@serve.deployment
class Sync:
    def __call__(self, request):
        return str(len(request.body()))

app = Sync.bind()
"""


def test_a_body_above_the_cap_is_413_by_its_length_and_by_its_chunks(machine: Machine) -> None:
    cap, rounds = 64 * 1024 * 1024, 100
    script = serve(machine, app=SYNC)
    proxy = machine.one("eagleray: proxy$")
    before = rss(proxy)
    for _ in range(rounds):
        with connect(script) as one:
            one.sendall(head("POST", "/", f"content-length: {cap + 1}"))
            assert answer(one)[0] == 413
            assert one.recv(1) == b"", "closed"
    with connect(script) as one:
        one.sendall(head("POST", "/", "transfer-encoding: chunked"))
        piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        try:
            for _ in range(cap // 0x100000 + 1):
                one.sendall(piece)
        except ConnectionError:
            pass  # it is not taken any more; the answer is there all the same
        assert answer(one)[0] == 413
    grown = rss(proxy) - before
    assert grown <= 32 * 1024 * 1024, "no body is kept whole"
    assert script.counters["bodies_too_large"] == rounds + 1
    assert script.post("/", b"x" * 100_000).text == "100000"
    record(
        36,
        "bodies above the cap, by their length and by their chunks",
        {"answered 413 and closed": rounds + 1, "others": 0, "KiB more in the proxy": grown // 1024},
    )


def test_heads_and_bodies_of_too_much_are_refused_and_leave_no_memory(machine: Machine) -> None:
    script = serve(machine)
    proxy = machine.one("eagleray: proxy$")
    chunked = head("POST", "/upload", "transfer-encoding: chunked")
    crumbs = "; ".join(f"c{number}=v" for number in range(20_000))
    kinds: dict[str, tuple[Callable[[], bytes], set[int]]] = {
        "header": (lambda: head("GET", "/", "x: " + "a" * 1_000_000), {431}),
        "headers": (lambda: head("GET", "/", *["x: y"] * 5000), {431}),
        "cookie crumbs": (lambda: head("GET", "/", f"cookie: {crumbs}"), {431}),
        "cookies": (lambda: head("GET", "/", *["cookie: a=b"] * 101), {431}),
        "target": (lambda: head("GET", "/" + "a" * 10_000), {414}),
        "query": (lambda: head("GET", "/?" + "a" * 1_000_000), {414, 431}),
        "extension": (lambda: chunked + b"5;" + b"a" * 100_000, {400}),
        "trailer": (lambda: chunked + b"0\r\nx: " + b"a" * 200_000, {400}),
        "trailers": (lambda: chunked + b"0\r\n" + b"x: y\r\n" * 200 + b"\r\n", {400}),
    }
    rounds = 30
    with Load(script.address, threads=1) as load:
        load.wait_for_more(20)
        for make, _ in kinds.values():
            send_and_read(script, make())
        before = rss(proxy)
        for name, (make, wanted) in kinds.items():
            for _ in range(rounds):
                status = send_and_read(script, make())
                assert status in wanted, f"{name}: {status}"
        grown = rss(proxy) - before
        load.wait_for_more(20)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert grown <= 4 * 1024 * 1024, f"{grown} bytes more after {rounds * len(kinds)} refusals"
    counted = script.counters
    sent = (rounds + 1) * len(kinds)
    refused = [counted[name] for name in ("heads_too_large", "uris_too_long", "bodies_malformed")]
    assert sum(refused) == sent, counted
    record(
        39,
        "too much of everything in nine ways",
        {
            "sent": sent,
            "refused with 400, 414 or 431 and closed": sent,
            "failed beside them": 0,
            "KiB more": grown // 1024,
        },
    )


def send_and_read(script: Script, data: bytes) -> int:
    """Status of the only answer; what the proxy does not take is not sent."""
    with connect(script) as one:
        try:
            one.sendall(data)
        except OSError:
            pass
        got = b""
        try:
            while chunk := one.recv(65536):
                got += chunk
        except ConnectionResetError:
            pass
        assert got.count(b"HTTP/1.1 ") == 1, got[:200]
        return int(got.split()[1])
