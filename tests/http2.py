"""A client of HTTP/2 on one connection, with just what tests of answers need: no header is read but the status."""

import socket
import struct
from typing import NamedTuple
from urllib.parse import urlsplit

from machine import PATIENCE

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
# As HPACK's table has them.
STATUSES = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}


class Answer(NamedTuple):
    """`status`: 0 if it is not in HPACK's table, or never came. `reset`: the code of RST_STREAM, if it broke off."""

    status: int
    body: bytes
    reset: int | None


class Connection:
    """Requests one after the other, each on a stream of its own."""

    def __init__(self, address: str) -> None:
        to = urlsplit(address)
        self.socket = socket.create_connection((to.hostname or "", to.port), timeout=PATIENCE)
        self._input = b""
        self._stream = -1
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        # Windows that no test fills.
        self._send(SETTINGS, 0, 0, struct.pack(">HI", 4, 0x7FFFFFFF))
        self._send(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFF0000 - 65_535))

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream)
        self.socket.sendall(head + payload)

    def _receive(self) -> tuple[int, int, int, bytes]:
        while True:
            length = int.from_bytes(self._input[:3])
            if len(self._input) >= 9 + length and len(self._input) >= 9:
                kind, flags, stream = struct.unpack(">BBI", self._input[3:9])
                payload, self._input = self._input[9 : 9 + length], self._input[9 + length :]
                return kind, flags, stream, payload
            more = self.socket.recv(65_536)
            if not more:
                raise ConnectionError("the connection ended")
            self._input += more

    def ask(self, path: str, method: str = "GET", body: bytes = b"", fields: dict[str, str] | None = None) -> Answer:
        """Sends a request, with up to 60 KB of body and more `fields` of its head, and reads its answer.

        Raises:
            ConnectionError: the proxy ended the connection.
        """
        self._stream += 2
        stream = self._stream
        head = {":method": method, ":scheme": "http", ":path": path, ":authority": "test", **(fields or {})}
        block = b"".join(bytes([0, len(n)]) + n.encode() + bytes([len(v)]) + v.encode() for n, v in head.items())
        self._send(HEADERS, END_HEADERS | (0 if body else END_STREAM), stream, block)
        for start in range(0, len(body), 16_384):
            piece = body[start : start + 16_384]
            self._send(DATA, END_STREAM if start + len(piece) == len(body) else 0, stream, piece)
        status, got = 0, b""
        while True:
            kind, flags, on, payload = self._receive()
            if kind == GOAWAY:
                raise ConnectionError(f"the proxy says goodbye: {payload!r}")
            if kind == SETTINGS and not flags & ACK:
                self._send(SETTINGS, ACK, 0)
            if kind == PING and not flags & ACK:
                self._send(PING, ACK, 0, payload)
            if on != stream:
                continue
            if kind == RST_STREAM:
                return Answer(status, got, int.from_bytes(payload))
            if kind == HEADERS:
                sizes = len(payload) - len(payload.lstrip(bytes(range(0x20, 0x40))))
                status = STATUSES.get(payload[sizes], 0)
            if kind == DATA:
                got += payload
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                return Answer(status, got, None)
