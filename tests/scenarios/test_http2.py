"""HTTP/2 as attackers use it, on the whole system: scenarios 40 and 41.

The frames are made by hand: a client library would not send them. What each rule of the protocol asks is tested in
`crates/proxy/tests/http`; here it is what an attack costs the machine, and everybody else.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from record import record

from machine import Load, Machine, Script, eventually, request

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL, ENHANCE_YOUR_CALM = 8, 11
MIB = 1024 * 1024

APP = """
from eagleray import serve

@serve.deployment(max_ongoing_requests=1000)
class Answers:
    async def __call__(self, request):
        return "x" * 10_000

app = Answers.bind()
serve.start(http_options={"port": 0, "limits": {"h2_stall_s": 1}})
"""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(method: bytes = b"GET", path: bytes = b"/") -> bytes:
    fields = ((b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"test"))
    return b"".join(bytes([0, len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


class Client:
    """A connection whose settings are sent."""

    def __init__(self, address: str, window: int = 65_535) -> None:
        to = urlsplit(address)
        self.socket = socket.create_connection((to.hostname, to.port), timeout=60)
        self.buffer = b""
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window)))

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of what comes, to the end of the connection."""
        with contextlib.suppress(ConnectionError):
            while chunk := self.socket.recv(65_536):
                self.buffer += chunk
                while len(self.buffer) >= 9:
                    length = int.from_bytes(self.buffer[:3])
                    if len(self.buffer) < 9 + length:
                        break
                    kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
                    payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
                    yield kind, flags, stream, payload


def rss(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def rapid_reset(number: int) -> bytes:
    stream = 1 + 2 * number
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block()) + frame(
        RST_STREAM, 0, stream, struct.pack(">I", CANCEL)
    )


def made_you_reset(number: int) -> bytes:
    stream = 1 + 2 * number
    return frame(HEADERS, END_HEADERS, stream, block(b"POST")) + frame(
        WINDOW_UPDATE, 0, stream, struct.pack(">I", 0x7FFFFFFF)
    )


def continuation(number: int) -> bytes:
    first = frame(HEADERS, END_STREAM, 1, block()) if number == 0 else b""
    return first + frame(CONTINUATION, 0, 1, b"\0\1x\1y" * 100)


def empty_data(number: int) -> bytes:
    first = frame(HEADERS, END_HEADERS, 1, block(b"POST")) if number == 0 else b""
    return first + frame(DATA, 0, 1)


FLOODS: dict[str, Callable[[int], bytes]] = {
    "rapid reset": rapid_reset,
    "made you reset": made_you_reset,
    "continuation": continuation,
    "empty data": empty_data,
    "ping": lambda _: frame(PING, 0, 0, b"a string"),
    "settings": lambda number: frame(SETTINGS, 0, 0, struct.pack(">HI", 4, number)),
    "priority": lambda number: frame(PRIORITY, 0, 1 + 2 * (number % 1000), b"\0\0\0\0\7"),
}
MOST_FRAMES = 1_000_000


def flood(address: str, make: Callable[[int], bytes]) -> tuple[int, bool]:
    """Sends until the proxy has had enough: how many, and whether it said so in the right words or hung up."""
    client = Client(address)
    codes: list[int] = []

    def read() -> None:
        codes.extend(struct.unpack(">I", payload[4:8])[0] for kind, *_, payload in client.frames() if kind == GOAWAY)

    reader = threading.Thread(target=read)
    reader.start()
    sent = 0
    with contextlib.suppress(ConnectionError):
        while reader.is_alive() and sent < MOST_FRAMES:
            client.socket.sendall(b"".join(make(number) for number in range(sent, sent + 50)))
            sent += 50
    reader.join(60)
    client.socket.close()
    return sent, all(code == ENHANCE_YOUR_CALM for code in codes)


@pytest.fixture
def served(machine: Machine) -> Script:
    return machine.serve(APP)


def test_floods_end_their_connection_and_nothing_else(machine: Machine, served: Script) -> None:
    proxy = machine.one("eagleray: proxy")
    with Load(served.address) as load:
        load.wait_for_more()
        before = rss(proxy)
        sent = {}
        for name, make in FLOODS.items():
            sent[name], right = flood(served.address, make)
            assert sent[name] < MOST_FRAMES, f"{name}: nobody ended it"
            assert right, f"{name}: another GOAWAY"
            load.wait_for_more()
        grown = rss(proxy) - before
    failed = {outcome: number for outcome, number in load.outcomes.items() if outcome != "200"}
    assert not failed
    assert grown <= 32 * MIB
    assert machine.one("eagleray: proxy") == proxy
    counted = served.counters
    assert counted["panics"] == 0
    assert counted["h2_reset_floods"] >= 2
    assert counted["h2_control_floods"] >= 3
    record(
        40,
        "HTTP/2 floods of 7 kinds beside ordinary load",
        {
            "connections ended": len(sent),
            "frames that the slowest to be ended sent": max(sent.values()),
            "requests of others": load.count(),
            "failed": 0,
            "MiB that the proxy grew": round(grown / MIB, 1),
        },
    )


def test_bombs_and_closed_windows_cost_little_and_end(machine: Machine, served: Script) -> None:
    proxy = machine.one("eagleray: proxy")
    assert request("GET", served.address + "/").status == 200
    before = rss(proxy)
    # A field of 3,900 bytes goes into the table once; each further byte of the block is all of it again.
    name = b"\x40\1x\x7f" + bytes([(3_900 - 127) & 127 | 128, (3_900 - 127) >> 7]) + b"a" * 3_900
    bombs = [Client(served.address) for _ in range(20)]
    for bomb in bombs:
        with contextlib.suppress(ConnectionError):
            bomb.socket.sendall(frame(HEADERS, END_STREAM | END_HEADERS, 1, block() + name))
            for number in range(1, 100):
                refs = block() + b"\xbe" * 10_000
                bomb.socket.sendall(frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * number, refs))
    # And answers that nobody takes, on streams that are kept alive with a byte of the connection's window.
    clients = [Client(served.address, window=0) for _ in range(20)]
    for client in clients:
        for number in range(100):
            client.socket.sendall(frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * number, block()))
    most = 0
    reset = 0
    for client in clients:
        waiting = 100
        for kind, _, _, payload in client.frames():
            if kind == RST_STREAM:
                assert struct.unpack(">I", payload)[0] == CANCEL
                reset += 1
                waiting -= 1
                if waiting == 0:
                    break
            elif kind == HEADERS:
                most = max(most, rss(proxy))
                client.socket.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)))
    grown = max(most, rss(proxy)) - before
    for client in (*bombs, *clients):
        client.socket.close()
    assert reset == 2_000
    assert grown <= 64 * MIB
    assert request("GET", served.address + "/").status == 200
    assert machine.one("eagleray: proxy") == proxy
    counted = served.counters
    assert (counted["panics"], counted["h2_streams_stalled"]) == (0, 2_000)
    eventually(lambda: served.counters["connections_open"] == 0, "no connection is left open")
    record(
        41,
        "20 HPACK bombs, 20 connections of 100 streams with a closed window",
        {"streams reset": reset, "MiB that the proxy grew": round(grown / MIB, 1)},
    )
