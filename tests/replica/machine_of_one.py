"""A replica process between a node and a router that the test plays."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import frames
from frames import Answer, Connection, Frame, message, parse

CONDITION = 6
WITHOUT_UVLOOP = """
import sys
sys.modules["uvloop"] = None
from eagleray._bootstrap import Paths
from eagleray._replica.main import main
main(Paths(None))
"""
OPTIONS = {"f2": 100, "f4": "", "f6": 20.0, "f8": 5.0, "f15": 1 << 20}


class Node:
    """Starts the process and speaks its control connection."""

    def __init__(self, folder: Path, *, uvloop: bool = True, **environment: str) -> None:
        self.folder = folder
        self.socket_path = str(folder / "replica.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.socket_path)
        listener.listen()
        ours, theirs = socket.socketpair()
        self.log_path = folder / "stderr"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(["-m", "eagleray._replica"] if uvloop else ["-c", WITHOUT_UVLOOP])],
                env={
                    **os.environ,
                    "EAGLERAY_CONTROL_FD": str(theirs.fileno()),
                    "EAGLERAY_LISTEN_FD": str(listener.fileno()),
                    "EAGLERAY_REPLICA": "abc12345",
                    "EAGLERAY_RUN_DIR": str(folder),
                    **environment,
                },
                pass_fds=[theirs.fileno(), listener.fileno()],
                cwd=folder,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        theirs.close()
        listener.close()
        self.control = Connection(ours)
        self.routers: list[Router] = []

    def command(self, **body: Any) -> None:
        self.control.send(Frame(frames.CONTROL, payload=message(**body)))

    def event(self) -> tuple[int, dict[int, Any]]:
        """The next event but what it says of its condition: its tag and fields."""
        while True:
            frame = self.control.receive()
            assert frame is not None, f"the replica ended:\n{self.log}"
            ((tag, content),) = parse(frame.payload).items()
            if tag != CONDITION:
                return tag, parse(content)

    def start(self, target: Any, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Sends the command that starts `target`."""
        path = self.folder / "callable"
        path.write_bytes(cloudpickle.dumps((target, args, kwargs), protocol=5))
        config = message(
            f1=message(f1="app", f2="Deployment"), f2="abc12345", f3="v1", f4="r1", f5=str(path),
            f8=message(**{**OPTIONS, **(options or {})}), f9=0, f10=1, f11="/",
        )  # fmt: skip
        self.command(f1=config)

    def ready(self) -> dict[int, Any]:
        tag, fields = self.event()
        assert tag == 1, fields
        return fields

    def router(self) -> Router:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.socket_path)
        router = Router(Connection(sock))
        self.routers.append(router)
        return router

    def stop(self, grace_milliseconds: int = 10_000) -> int:
        self.command(f5=message(f1=grace_milliseconds))
        return self.process.wait(20)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def printed(self) -> list[str]:
        """Lines as user code wrote them, without the marks that are for the node."""
        return [re.sub("^(\x1f{1,2}[^\x1f]*\x1f|[\x1c-\x1e])", "", line) for line in self.log.split("\n")]

    def close(self) -> None:
        for router in self.routers:
            router.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.control.socket.close()


class Router:
    """One connection to the replica's socket."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        connection.send(Frame(frames.HELLO, a=1))
        hello = connection.receive()
        assert hello is not None
        assert hello.kind == frames.HELLO
        assert connection.descriptor is not None
        self.replica_id = hello.payload.decode()
        self.slots, self.limit = hello.b, hello.c
        self.page = frames.Page(connection.descriptor, hello.b)
        self._sequence = 0
        self._answers: dict[int, Answer] = {}
        self._finished: set[int] = set()
        self.others: list[Frame] = []

    def request(self, payload: bytes, *, flags: int = frames.END, slot: int | None = None) -> Frame:
        """Queues and sends a REQUEST; returns what was sent, which names it."""
        self._sequence += 1
        slot = self._sequence % self.slots if slot is None else slot
        frame = Frame(frames.REQUEST, flags, self._sequence, slot, c=frames.NO_DEADLINE, payload=payload)
        self.page.queue(slot, self._sequence)
        self.connection.send(frame)
        return frame

    def send(self, kind: int, request: Frame, *, flags: int = 0, a: int = 0, payload: bytes = b"") -> None:
        self.connection.send(Frame(kind, flags, request.sequence, request.slot, a=a, payload=payload))

    def read(self) -> Frame:
        """The next frame; answers are collected as they come, and credit is given back at once."""
        frame = self.connection.receive()
        assert frame is not None, "the replica closed the connection"
        if frame.kind != frames.RESPONSE:
            self.others.append(frame)
            return frame
        answer = self._answers.setdefault(frame.sequence, Answer())
        answer.frames.append(frame)
        data = frame.payload
        if frame.flags & frames.HEAD:
            answer.status, answer.headers, data = frames.parse_head(data)
        answer.body += data
        answer.error |= bool(frame.flags & frames.ERROR)
        if frame.flags & frames.DONE:
            self._finished.add(frame.sequence)
        elif data:
            self.connection.send(Frame(frames.CREDIT, 0, frame.sequence, frame.slot, a=len(data)))
        return frame

    def answer(self, request: Frame) -> Answer:
        """The whole answer to a request."""
        while request.sequence not in self._finished:
            self.read()
        return self._answers[request.sequence]

    def get(self, path: str = "/", *, method: str = "GET", body: bytes = b"", **head: Any) -> Answer:
        path, _, query = path.partition("?")
        first, rest = body[: 1 << 16], body[1 << 16 :]
        flags = 0 if rest else frames.END
        request = self.request(frames.http_head(method, path, query, **head) + first, flags=flags)
        if rest:
            self.send_body(request, rest)
        return self.answer(request)

    def send_body(self, request: Frame, rest: bytes) -> None:
        """Sends more body as far as there is credit for it; an answer that comes first ends it."""
        credit = 0
        while rest and request.sequence not in self._finished:
            while credit == 0 and request.sequence not in self._finished:
                frame = self.read()
                if frame.kind == frames.CREDIT and frame.sequence == request.sequence:
                    credit += frame.a
            piece, rest = rest[:credit], rest[credit:]
            credit -= len(piece)
            self.send(frames.BODY, request, flags=0 if rest else frames.END, payload=piece)

    def call(self, method: str, *args: Any, stream: bool = False, **kwargs: Any) -> Answer:
        payload = frames.call_head(method, stream=stream) + cloudpickle.dumps((args, kwargs), protocol=5)
        return self.answer(self.request(payload))

    def close(self) -> None:
        self.connection.socket.close()


def code(source: str) -> dict[str, Any]:
    """Names that a piece of source defines, as by a script's `__main__`."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(textwrap.dedent(source), "<script>", "exec", dont_inherit=True), names)
    return names


@contextlib.contextmanager
def serving(folder: Path, target: Any, *args: Any, **kwargs: Any) -> Iterator[tuple[Node, Router]]:
    """A replica that serves `target`, and a router connected to it."""
    node = Node(folder)
    try:
        node.start(target, *args, **kwargs)
        node.ready()
        yield node, node.router()
    except BaseException:
        print(node.log)
        raise
    finally:
        node.close()


def eventually(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Waits for a condition that nothing announces."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come true"


def as_json(answer: Answer) -> Any:
    return json.loads(answer.body)
