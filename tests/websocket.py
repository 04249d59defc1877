"""A WebSocket client over a plain socket: what goes over the wire is what a test says."""

import base64
import os
import socket
import struct
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FINAL = 0x80
# The first reserved bit: a compressed message.
COMPRESSED = 0x40


class Refused(Exception):
    """The handshake was answered by something else than 101."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(f"{status} {body!r}")
        self.status, self.headers, self.body = status, headers, body


class Closed(NamedTuple):
    """What the other side's closing frame says; 1005: no code, 1006: there was no such frame."""

    code: int
    reason: str


class WebSocket:
    """An open WebSocket. Every wait ends with an exception after `patience` seconds."""

    def __init__(
        self, url: str, *, subprotocols: str = "", headers: dict[str, str] | None = None, patience: float = 30.0
    ) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        fields = {
            "host": parts.netloc,
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(),
            **({"sec-websocket-protocol": subprotocols} if subprotocols else {}),
            **(headers or {}),
        }
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        self.status, self.headers = self._head()
        if self.status != 101:
            body = b""
            while len(body) < int(self.headers.get("content-length", 0)):
                body += self._take(1)
            self.socket.close()
            raise Refused(self.status, self.headers, body)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _1: type[BaseException] | None, _2: BaseException | None, _3: TracebackType | None) -> None:
        self.socket.close()

    def send(self, message: str | bytes, *, final: bool = True, opcode: int | None = None) -> None:
        """Sends one frame."""
        data = message.encode() if isinstance(message, str) else message
        if opcode is None:
            opcode = TEXT if isinstance(message, str) else BINARY
        self.socket.sendall(frame(opcode, data, final=final))

    def close(self, code: int = 1000, reason: str = "") -> Closed:
        """Closes in order, and returns what the other side says."""
        self.send(struct.pack("!H", code) + reason.encode(), opcode=CLOSE)
        answer = self.receive()
        self.socket.close()
        assert isinstance(answer, Closed), answer
        return answer

    def receive(self) -> str | bytes | Closed:
        """The next whole message, or the end. Pings are answered."""
        message, kind = b"", 0
        while True:
            try:
                first, opcode, data = self.frame()
            except ConnectionError:
                return Closed(1006, "")
            if opcode == CLOSE:
                if not data:
                    return Closed(1005, "")
                return Closed(struct.unpack("!H", data[:2])[0], data[2:].decode())
            if opcode == PING:
                self.send(data, opcode=PONG)
                continue
            if opcode == PONG:
                continue
            kind = opcode or kind
            message += data
            if first & FINAL:
                return message.decode() if kind == TEXT else message

    def frame(self) -> tuple[int, int, bytes]:
        """The next frame: its first byte, its opcode, its payload."""
        first, length = self._take(2)
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        return first, first & 0xF, self._take(length)

    def _head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        status, *lines = head.decode().split("\r\n")
        pairs = (line.split(":", 1) for line in lines)
        return int(status.split()[1]), {name.lower(): value.strip() for name, value in pairs}

    def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._fill()
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def _fill(self) -> None:
        chunk = self.socket.recv(1 << 16)
        if not chunk:
            raise ConnectionError("the connection has ended")
        self._buffer += chunk


def frame(opcode: int, data: bytes, *, final: bool = True) -> bytes:
    """A frame as a client sends it; its mask is all zeros, so that the data is as it is."""
    first = (FINAL if final else 0) | opcode
    if len(data) < 126:
        header = struct.pack("!BB", first, 0x80 | len(data))
    elif len(data) < 1 << 16:
        header = struct.pack("!BBH", first, 0x80 | 126, len(data))
    else:
        header = struct.pack("!BBQ", first, 0x80 | 127, len(data))
    return header + bytes(4) + data
