"""The wire as a test sees it: frames, heads, claim page and control messages, written down a second time.

Nothing here is shared with the code under test, so that the two cannot agree on the same mistake.
"""

from __future__ import annotations

import array
import mmap
import os
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

HELLO, REQUEST, BODY, RESPONSE, CREDIT, CANCEL, WAIT, UNWAIT, GRANT, RETURN, REJECT, GONE, CONTROL = range(1, 14)
END, HEAD, DONE, GRANTED, TRAILERS, ERROR, END_OF_MESSAGE, TEXT = (1 << bit for bit in range(8))
NO_DEADLINE = 0xFFFF_FFFF
FREE, QUEUED, STARTED, TAKEN = range(4)

_HEADER = struct.Struct("<IBBHQIIII")


@dataclass
class Frame:
    kind: int
    flags: int = 0
    sequence: int = 0
    slot: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    payload: bytes = b""

    def encode(self) -> bytes:
        header = _HEADER.pack(
            len(self.payload), self.kind, self.flags, 0, self.sequence, self.slot, self.a, self.b, self.c
        )
        return header + self.payload


class Connection:
    """Frames over a blocking socket; a read that takes longer than the timeout fails the test."""

    def __init__(self, sock: socket.socket, timeout: float = 20.0) -> None:
        self.socket = sock
        sock.settimeout(timeout)
        self._input = b""
        self.descriptor: int | None = None

    def send(self, frame: Frame) -> None:
        self.socket.sendall(frame.encode())

    def receive(self) -> Frame | None:
        """The next frame; None at the end of the connection."""
        while True:
            if len(self._input) >= _HEADER.size:
                length, kind, flags, _, sequence, slot, a, b, c = _HEADER.unpack_from(self._input)
                if len(self._input) >= _HEADER.size + length:
                    payload = self._input[_HEADER.size : _HEADER.size + length]
                    self._input = self._input[_HEADER.size + length :]
                    return Frame(kind, flags, sequence, slot, a, b, c, payload)
            data, ancillary, _, _ = self.socket.recvmsg(1 << 16, socket.CMSG_SPACE(4))
            for level, what, content in ancillary:
                if (level, what) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self.descriptor = array.array("i", content[:4])[0]
            if not data:
                return None
            self._input += data


class Page:
    """A claim page, from the router's end."""

    def __init__(self, descriptor: int, slots: int) -> None:
        self._map = mmap.mmap(descriptor, (slots + 1) * 8)
        os.close(descriptor)

    def queue(self, slot: int, sequence: int) -> None:
        struct.pack_into("<Q", self._map, (slot + 1) * 8, sequence << 2 | QUEUED)

    def take(self, slot: int, sequence: int) -> None:
        struct.pack_into("<Q", self._map, (slot + 1) * 8, sequence << 2 | TAKEN)

    def read(self, slot: int) -> tuple[int, int]:
        (word,) = struct.unpack_from("<Q", self._map, (slot + 1) * 8)
        return word >> 2, word & 3

    def turns(self) -> int:
        (word,) = struct.unpack_from("<Q", self._map, 0)
        return int(word & ~(1 << 63))


def _short(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<H", len(data)) + data


def http_head(
    method: str = "GET",
    path: str = "/",
    query: str = "",
    headers: tuple[tuple[str, str], ...] = (),
    request_id: str = "id",
    root_path: str = "",
) -> bytes:
    fields = b"".join(
        struct.pack("<HI", len(name), len(value)) + name.encode() + value.encode() for name, value in headers
    )
    head = (
        struct.pack("<BB", 0, 0) + _short(request_id) + _short("revision") + _short("") + struct.pack("<BB", 11, 0)
        + _short(method) + _short(path) + _short(query) + _short(root_path)
        + _short("127.0.0.1") + struct.pack("<H", 4242) + _short("127.0.0.1") + struct.pack("<H", 8000)
        + struct.pack("<H", len(headers)) + fields
    )  # fmt: skip
    return struct.pack("<I", len(head)) + head


def call_head(method: str = "__call__", *, stream: bool = False, request_id: str = "id") -> bytes:
    head = (
        struct.pack("<BB", 3, 0) + _short(request_id) + _short("revision") + _short("") + _short(method)
        + _short("") + _short("") + struct.pack("<B", stream) + _short("") + struct.pack("<H", 0)
    )  # fmt: skip
    return struct.pack("<I", len(head)) + head


def parse_head(payload: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the data after them."""
    status, count = struct.unpack_from("<HH", payload)
    at, headers = 4, {}
    for _ in range(count):
        name_length, value_length = struct.unpack_from("<HI", payload, at)
        at += 6
        name = payload[at : at + name_length].decode()
        headers[name] = payload[at + name_length : at + name_length + value_length].decode()
        at += name_length + value_length
    return status, headers, payload[at:]


# --- protobuf, as little of it as control messages need ----------------------------------------------------------


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(**fields: Any) -> bytes:
    """Encodes fields named `f1`, `f2`...: int, float, str, bytes (messages too), lists of those."""
    out = b""
    for name, value in fields.items():
        tag = int(name[1:])
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                out += _varint(tag << 3) + _varint(item)
            elif isinstance(item, float):
                out += _varint(tag << 3 | 1) + struct.pack("<d", item)
            else:
                data = item.encode() if isinstance(item, str) else item
                out += _varint(tag << 3 | 2) + _varint(len(data)) + data
    return out


def parse(data: bytes) -> dict[int, Any]:
    """Decodes one level: varints, doubles and byte strings by tag; a repeated field keeps its last value."""
    fields: dict[int, Any] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return number

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            fields[key >> 3] = varint()
        elif key & 7 == 1:
            (fields[key >> 3],) = struct.unpack_from("<d", data, at)
            at += 8
        else:
            length = varint()
            fields[key >> 3] = data[at : at + length]
            at += length
    return fields


@dataclass
class Answer:
    """All frames of one answer put together."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: bool = False
    frames: list[Frame] = field(default_factory=list)
