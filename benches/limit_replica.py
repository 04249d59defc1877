"""The Python end of the limit program: an asyncio loop that reads frames and answers "ok", and nothing else.

Standard input is the socket. The head of every request is taken apart, with its headers as a list of tuples, since
a replica that hands requests to user code cannot do without; there is no task, no context and no framework.
"""

import asyncio
import contextlib
import socket
import struct

FRAME = struct.Struct("<IBBHQIIII")
HEADER_FIELD = struct.Struct("<HI")
SHORT = struct.Struct("<H")
RESPONSE = 4
END_HEAD_DONE = 0b111


def text(view, at):
    """Returns a length-prefixed string and where it ends."""
    start = at + 2
    end = start + SHORT.unpack_from(view, at)[0]
    return view[start:end], end


def parse_head(data, at):
    """Takes a request head apart, as `docs/protocol.md` lays it out, and returns it as an ASGI-like dict."""
    at += 4 + 2
    for _ in range(3):  # request id, an unused one, traceparent
        _, at = text(data, at)
    at += 2  # version, tls
    method, at = text(data, at)
    path, at = text(data, at)
    query, at = text(data, at)
    root_path, at = text(data, at)
    client, at = text(data, at)
    client_port = SHORT.unpack_from(data, at)[0]
    server, at = text(data, at + 2)
    server_port = SHORT.unpack_from(data, at)[0]
    count = SHORT.unpack_from(data, at + 2)[0]
    at += 4
    headers = []
    for _ in range(count):
        name_length, value_length = HEADER_FIELD.unpack_from(data, at)
        name_end = at + 6 + name_length
        at_next = name_end + value_length
        headers.append((data[at + 6 : name_end], data[name_end:at_next]))
        at = at_next
    return {
        "method": method.decode("latin-1"),
        "path": path.decode("latin-1"),
        "query_string": query,
        "root_path": root_path.decode("latin-1"),
        "client": (client.decode("latin-1"), client_port),
        "server": (server.decode("latin-1"), server_port),
        "headers": headers,
    }


def response_payload():
    """A response head with the two headers that a plain answer has, and its body."""
    body = b"ok"
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    head = struct.pack("<HH", 200, len(fields))
    for name, value in fields:
        head += HEADER_FIELD.pack(len(name), len(value)) + name + value
    return head + body


class Replica:
    """Reads what is there, answers all of it with one write."""

    def __init__(self, loop, connection):
        """Starts to read."""
        self.loop = loop
        self.connection = connection
        self.buffer = b""
        self.unsent = bytearray()
        self.answer = response_payload()
        loop.add_reader(connection, self.readable)

    def readable(self):
        """Answers every whole request in the buffer."""
        data = self.connection.recv(256 * 1024)
        if not data:
            self.loop.stop()
            return
        if self.buffer:
            data = self.buffer + data
        at = 0
        size = len(data)
        out = []
        answer = self.answer
        while size - at >= FRAME.size:
            length, _kind, _flags, _reserved, sequence, slot, _a, _b, _c = FRAME.unpack_from(data, at)
            end = at + FRAME.size + length
            if end > size:
                break
            parse_head(data, at + FRAME.size)
            out.append(FRAME.pack(len(answer), RESPONSE, END_HEAD_DONE, 0, sequence, slot, 0, 0, 0))
            out.append(answer)
            at = end
        self.buffer = data[at:]
        if out:
            self.send(b"".join(out))

    def send(self, data):
        """Writes at once what fits; the rest when the socket takes it."""
        if not self.unsent:
            with contextlib.suppress(BlockingIOError):
                data = data[self.connection.send(data) :]
            if not data:
                return
            self.loop.add_writer(self.connection, self.writable)
        self.unsent += data

    def writable(self):
        """Goes on with what did not fit."""
        with contextlib.suppress(BlockingIOError):
            del self.unsent[: self.connection.send(self.unsent)]
        if not self.unsent:
            self.loop.remove_writer(self.connection)


def main():
    """Runs until the other end closes."""
    try:
        import uvloop

        loop = uvloop.new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    connection = socket.socket(fileno=0)
    connection.setblocking(False)
    Replica(loop, connection)
    loop.run_forever()


if __name__ == "__main__":
    main()
