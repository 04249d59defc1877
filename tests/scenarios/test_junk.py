"""Junk on the sockets inside a node that serves: scenario 38, the part below HTTP.

A peer of the same user that speaks the protocol well, badly, or not at all. It may end its own connection and nothing
else. Frames are packed here, on their own, so that the codec under test is not also the one that writes.
"""

import mmap
import os
import random
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from parts import APP, dice, memory_of, panics, whole
from record import record

from ledger import Ledger, OpenLoop
from machine import PATIENCE, Machine, eventually

MIB = 1024 * 1024
HEADER = struct.Struct("<IBBBBQIIII")
HELLO, REQUEST, BODY, RESPONSE, CREDIT, CANCEL, WAIT, UNWAIT, GRANT, RETURN, REJECT, GONE, CONTROL = range(1, 14)
FRAMES_A_CONNECTION = 40


def frame(kind: int, payload: bytes = b"", **fields: int) -> bytes:
    get = fields.get
    return (
        HEADER.pack(
            get("length", len(payload)), kind, get("flags", 0), get("ignorable", 0), get("critical", 0),
            get("sequence", 0), get("slot", 0), get("a", 0), get("b", 0), get("c", 0),
        )
        + payload
    )  # fmt: skip


def number(draw: random.Random) -> int:
    return draw.choice(
        [0, 1, 2, 63, 64, 65, 1 << 16, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, draw.getrandbits(32)]
    )


def head(draw: random.Random) -> bytes:
    """A request head, right in part."""
    text = [draw.randbytes(draw.choice([0, 1, 9, 300])) for _ in range(3)]
    fields = b"".join(struct.pack("<H", len(one)) + one for one in text)
    rest = (
        struct.pack("<BB", 11, draw.getrandbits(8)) + b"\3\0GET\1\0/\0\0\0\0" + draw.randbytes(draw.choice([0, 4, 40]))
    )
    body = struct.pack("<BB", draw.choice([0, 0, 1, 2, 3, 9]), 0) + fields + rest
    return struct.pack("<I", draw.choice([len(body), len(body) + 1, 0, 0xFFFF_FFFF, 255 * 1024])) + body


def data_frame(draw: random.Random) -> bytes:
    """For a replica's socket: mostly what a router might send, with numbers that it might not."""
    kind = draw.choice(
        [REQUEST, REQUEST, REQUEST, BODY, CREDIT, CANCEL, WAIT, UNWAIT, RETURN, draw.getrandbits(8), HELLO]
    )
    payload = draw.choice([b"", head(draw), draw.randbytes(draw.randrange(200)), draw.randbytes(70_000)])
    fields = {name: number(draw) for name in ("slot", "a", "b", "c")} | {
        "sequence": draw.choice([1, 2, draw.getrandbits(64)])
    }
    fields |= {"flags": draw.getrandbits(8)}
    if draw.random() < 0.02:
        fields |= {"critical": draw.getrandbits(8), "ignorable": draw.getrandbits(8)}
    if draw.random() < 0.02:
        fields |= {"length": number(draw)}
    return frame(kind, payload, **fields)


def control_frame(draw: random.Random, harmless: Callable[[bytes], bool]) -> bytes:
    """For the sockets of node and controller: protobuf with the right tags and wrong insides, and plain junk."""
    while True:
        tag = struct.pack("B", draw.randrange(1, 16) << 3 | draw.choice([2, 2, 2, 0, 1, 5]))
        inside = draw.choice([b"", draw.randbytes(draw.randrange(1, 100)), b"\x0a" * draw.randrange(1, 60)])
        length = draw.choice([len(inside), len(inside), 0, 127])
        payload = draw.choice([tag + struct.pack("B", length) + inside, draw.randbytes(draw.randrange(60)), b""])
        if harmless(payload):
            break
    kind = draw.choice([CONTROL] * 12 + [HELLO, REQUEST, draw.getrandbits(8)])
    return frame(kind, payload, sequence=draw.choice([0, 1, draw.getrandbits(64)]), slot=number(draw))


def harmless_to_node(payload: bytes) -> bool:
    """No `Shutdown` (3) may be in it: it is a right of every client of this socket, and would be obeyed."""
    return b"\x1a" not in payload


def harmless_to_controller(payload: bytes) -> bool:
    """No `Delete` (3), `Rollback` (6) or `DeleteAll` (7): likewise."""
    return not any(tag in payload for tag in (b"\x1a", b"\x32", b"\x3a"))


class Fuzzer:
    """Connections one after the other, each with a few frames; counts what it sent."""

    def __init__(self, path: Path, make: Callable[[], bytes], draw: random.Random, hello: bool):
        self.sent, self._path, self._make, self._draw, self._hello = 0, path, make, draw, hello

    def connection(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(PATIENCE)
            peer.connect(str(self._path))
            page = self._greet(peer) if self._hello and self._draw.random() < 0.9 else None
            # Whoever writes and never reads fills the buffers, and must not hold up anybody but himself.
            peer.setblocking(False)
            try:
                for _ in range(FRAMES_A_CONNECTION):
                    data = self._make()
                    if page is not None:
                        self._scribble(page)
                    if self._draw.random() < 0.02:
                        data = self._draw.randbytes(len(data))
                    if peer.send(data) < len(data):
                        return
                    self.sent += 1
                    if self._draw.random() < 0.5:
                        self._drain(peer)
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                pass
            finally:
                if page is not None:
                    page.close()

    def _greet(self, peer: socket.socket) -> mmap.mmap | None:
        peer.sendall(frame(HELLO, a=1))
        try:
            data, descriptors, _, _ = socket.recv_fds(peer, 4096, 1)
        except ConnectionResetError:
            return None
        if not descriptors or len(data) < HEADER.size:
            return None
        words = HEADER.unpack_from(data)[7]
        try:
            return mmap.mmap(descriptors[0], 8 * (1 + words))
        finally:
            os.close(descriptors[0])

    def _scribble(self, page: mmap.mmap) -> None:
        """Words of the claim page that a router has no business to write, among those that it has."""
        slot = self._draw.randrange(len(page) // 8 - 1)
        word = self._draw.choice([1 << 2 | 1, 2 << 2 | 1, self._draw.getrandbits(64), self._draw.getrandbits(2)])
        struct.pack_into("<Q", page, 8 * (1 + slot), word)

    @staticmethod
    def _drain(peer: socket.socket) -> None:
        try:
            while peer.recv(1 << 16):
                pass
        except BlockingIOError:
            pass


@pytest.mark.parametrize("where", ["a replica", "the controller", "the node"])
def test_junk_on_an_inner_socket_harms_nobody(machine: Machine, where: str) -> None:
    ledger = Ledger(machine)
    script = machine.serve(APP)
    replicas = whole(machine)
    (node,) = machine.nodes()
    folder = next(machine.runtime.glob("*/node.json")).parent
    draw = dice()
    if where == "a replica":
        path, make = min((folder / "r").glob("*.sock")), lambda: data_frame(draw)
    elif where == "the controller":
        path, make = folder / "controller.sock", lambda: control_frame(draw, harmless_to_controller)
    else:
        path, make = folder / "node.sock", lambda: control_frame(draw, harmless_to_node)
    everybody = {node["pid"], machine.one("eagleray: controller$"), machine.one("eagleray: proxy$"), *replicas}
    before = {pid: memory_of(pid) for pid in everybody}
    fuzzer = Fuzzer(path, make, draw, hello=where == "a replica")
    with OpenLoop(script.address, rate=100, methods=("GET", "POST")) as load:
        load.wait_for_more(20)
        thread = threading.Thread(target=_until, args=(fuzzer, 12_000), daemon=True)
        thread.start()
        eventually(lambda: not thread.is_alive(), "the junk is taken", 60)
        load.wait_for_more(50)
        assert script.do('serve.status().applications["default"].status') == "RUNNING"
    assert fuzzer.sent >= 12_000, fuzzer.sent
    assert load.report.failed == 0, load.report.tally()
    audit = load.report.audit(ledger)
    assert not audit.lost
    assert not audit.doubled
    assert machine.replicas() == replicas
    assert everybody <= {process.pid for process in machine.left()}, "nobody was started again"
    assert panics(machine) == 0
    grown = max(memory_of(pid) - before[pid] for pid in everybody)
    assert grown < 64 * MIB, f"a process grew by {grown // MIB} MiB"
    counted = {"messages": fuzzer.sent, "panics": 0, "requests meanwhile": len(load.report), "of these failed": 0}
    record(38, f"junk on the socket of {where}", counted | {"processes restarted": 0, "grew at most MiB": grown // MIB})


def _until(fuzzer: Fuzzer, messages: int) -> None:
    while fuzzer.sent < messages:
        fuzzer.connection()
