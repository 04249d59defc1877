"""An ASGI application that breaks the protocol costs its own request one 500, or an answer that visibly breaks off.

Each break of the ASGI specification is tried on one connection of HTTP/1.1 and on one of HTTP/2, and after each the
next request on that connection is answered as if nothing had been; only an answer that broke off ends a connection of
HTTP/1.1.
"""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

import http2
from machine import PATIENCE, Machine, Script
from websocket import WebSocket

APP = """
import asyncio
from eagleray import serve

def start(status=200, headers=()):
    return {"type": "http.response.start", "status": status, "headers": headers}

def body(data=b"", more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}

APPS = {}

def case(group):
    def add(function):
        APPS[function.__name__] = group, function
        return function
    return add

# What is sent, in its order; an application of only that.
def sends(group, **cases):
    for name, messages in cases.items():
        async def app(scope, receive, send, messages=messages):
            for message in messages:
                await send(message)
        APPS[name] = group, app

# --- fails before anything has left ---

sends(
    "fails",
    nothing=[],
    start_only=[start()],
    body_first=[body(b"x")],
    starts_twice=[start(), start()],
    message_is_none=[None],
    message_is_text=["http.response.start"],
    message_is_a_list=[[("type", "http.response.start")]],
    no_type=[{}],
    type_is_bytes=[{"type": b"http.response.start", "status": 200}],
    type_is_unhashable=[{"type": [], "status": 200}],
    unknown_type=[{"type": "http.response.nonsense"}],
    websocket_accepts=[{"type": "websocket.accept"}],
    websocket_sends=[{"type": "websocket.send", "text": "x"}],
    websocket_closes=[{"type": "websocket.close"}],
    websocket_denies=[{"type": "websocket.http.response.start", "status": 401}],
    lifespan=[{"type": "lifespan.startup.complete"}],
    receives_by_sending=[{"type": "http.request", "body": b""}],
    # Extensions that are not offered.
    pushes=[{"type": "http.response.push", "path": "/", "headers": []}],
    early_hint=[{"type": "http.response.early_hint", "links": []}],
    zero_copy=[start(), {"type": "http.response.zerocopysend", "file": 0}],
    path_send=[start(), {"type": "http.response.pathsend", "path": "/etc/hostname"}],
    trailers=[start(), {"type": "http.response.trailers", "headers": []}],
    no_status=[{"type": "http.response.start"}, body(b"x")],
    status_is_text=[start("200"), body(b"x")],
    status_is_none=[start(None), body(b"x")],
    status_is_a_float=[start(200.0), body(b"x")],
    status_is_99=[start(99), body(b"x")],
    status_is_1000=[start(1000), body(b"x")],
    status_is_negative=[start(-200), body(b"x")],
    status_is_huge=[start(1 << 70), body(b"x")],
    status_is_100=[start(100), body(b"x")],
    status_is_101=[start(101), body(b"x")],
    status_is_103=[start(103), body(b"x")],
    headers_are_none=[start(headers=None), body(b"x")],
    headers_are_a_number=[start(headers=3), body(b"x")],
    headers_are_a_dict=[start(headers={b"x-a": b"b"}), body(b"x")],
    headers_are_text=[start(headers=["x-a: b"]), body(b"x")],
    header_of_three=[start(headers=[(b"x-a", b"b", b"c")]), body(b"x")],
    header_of_one=[start(headers=[(b"x-a",)]), body(b"x")],
    header_is_none=[start(headers=[None]), body(b"x")],
    name_is_text=[start(headers=[("x-a", b"b")]), body(b"x")],
    value_is_text=[start(headers=[(b"x-a", "b")]), body(b"x")],
    value_is_a_number=[start(headers=[(b"content-length", 1)]), body(b"x")],
    value_is_none=[start(headers=[(b"x-a", None)]), body(b"x")],
    name_is_empty=[start(headers=[(b"", b"b")]), body(b"x")],
    name_has_a_space=[start(headers=[(b"x a", b"b")]), body(b"x")],
    name_has_a_colon=[start(headers=[(b"x-a:", b"b")]), body(b"x")],
    name_has_a_newline=[start(headers=[(b"x-a\\r\\nx-b", b"b")]), body(b"x")],
    name_is_pseudo=[start(headers=[(b":status", b"200")]), body(b"x")],
    name_is_not_ascii=[start(headers=[("x-\u00e4".encode(), b"b")]), body(b"x")],
    value_has_a_newline=[start(headers=[(b"x-a", b"a\\r\\nx-b: c")]), body(b"x")],
    value_has_a_line_feed=[start(headers=[(b"x-a", b"a\\nx-b: c")]), body(b"x")],
    value_has_a_carriage_return=[start(headers=[(b"x-a", b"a\\rb")]), body(b"x")],
    value_has_a_nul=[start(headers=[(b"x-a", b"a\\0b")]), body(b"x")],
    body_is_text=[start(), body("text")],
    body_is_none=[start(), body(None)],
    body_is_a_number=[start(), body(1)],
    body_is_a_list=[start(), body([b"x"])],
    length_too_long=[start(headers=[(b"content-length", b"3")]), body(b"four")],
    length_too_short=[start(headers=[(b"content-length", b"5")]), body(b"four")],
    length_and_nothing=[start(headers=[(b"content-length", b"5")]), body()],
    length_twice=[start(headers=[(b"content-length", b"4"), (b"Content-Length", b"5")]), body(b"four")],
    length_is_negative=[start(headers=[(b"content-length", b"-4")]), body(b"four")],
    length_is_signed=[start(headers=[(b"content-length", b"+4")]), body(b"four")],
    length_is_text=[start(headers=[(b"content-length", b"four")]), body(b"four")],
    length_is_empty=[start(headers=[(b"content-length", b"")]), body(b"four")],
    length_is_huge=[start(headers=[(b"content-length", b"9" * 30)]), body(b"four")],
)

@case("fails")
async def raises(scope, receive, send):
    raise ValueError("a secret")

@case("fails")
async def raises_after_start(scope, receive, send):
    await send(start())
    raise ValueError("a secret")

@case("fails")
async def raises_a_group(scope, receive, send):
    raise ExceptionGroup("a secret", [ValueError("a"), KeyError("b")])

@case("fails")
async def exits(scope, receive, send):
    raise SystemExit(3)

@case("fails")
async def interrupts(scope, receive, send):
    raise KeyboardInterrupt

@case("fails")
async def cancels_itself(scope, receive, send):
    asyncio.current_task().cancel()
    await asyncio.sleep(3600)

@case("fails")
async def stops_iteration(scope, receive, send):
    raise StopAsyncIteration

@case("fails")
async def recurses(scope, receive, send):
    await recurses(scope, receive, send)

@case("fails")
async def receives_too_often(scope, receive, send):
    await receive()
    async with asyncio.timeout(0.05):
        await receive()

@case("fails")
async def bad_header_and_waits(scope, receive, send):
    await send(start(headers=[(b"x-bad", b"a\\r\\nb: c")]))
    await asyncio.sleep(0.02)
    await send(body(b"x"))

# --- breaks off: part of it has left ---

sends(
    "breaks off",
    no_end=[start(), body(b"part", True)],
    starts_in_the_middle=[start(), body(b"part", True), start()],
    text_in_the_middle=[start(), body(b"part", True), body("text")],
    nonsense_in_the_middle=[start(), body(b"part", True), {"type": "http.response.nonsense"}],
    too_long_in_the_middle=[start(headers=[(b"content-length", b"5")]), body(b"part", True), body(b"part", True)],
    too_short_in_the_middle=[start(headers=[(b"content-length", b"5")]), body(b"part", True), body()],
)

@case("breaks off")
async def raises_in_the_middle(scope, receive, send):
    await send(start())
    await send(body(b"part", True))
    raise ValueError("a secret")

@case("breaks off")
async def start_only_and_waits(scope, receive, send):
    await send(start())
    await asyncio.sleep(0.02)

# --- the answer is whole before ---

sends(
    "whole",
    body_after_the_end=[start(), body(b"whole"), body(b"more")],
    start_after_the_end=[start(), body(b"whole"), start(500)],
    nonsense_after_the_end=[start(), body(b"whole"), {"type": "nonsense"}],
)

@case("whole")
async def raises_after_the_end(scope, receive, send):
    await send(start())
    await send(body(b"whole"))
    raise ValueError("a secret")

# --- what is right, however odd ---

sends(
    "right",
    usual=[start(headers=[(b"content-length", b"5")]), body(b"whole")],
    upper_case=[start(headers=[(b"X-Upper", b"Yes"), (b"Content-Length", b"5")]), body(b"whole")],
    headers_of_lists=[start(headers=[[b"x-a", b"b"], [b"content-length", b"5"]]), body(b"whole")],
    no_headers=[{"type": "http.response.start", "status": 200}, body(b"whole")],
    in_pieces=[start(), body(b"wh", True), body(b"", True), body(b"ole", True), body()],
    memory=[start(), body(memoryview(bytearray(b"whole")))],
    no_more_body=[start(), {"type": "http.response.body", "body": b"whole"}],
    same_length_twice=[start(headers=[(b"content-length", b"5"), (b"content-length", b"5")]), body(b"whole")],
    more_fields=[{**start(), "unknown": 1, "trailers": False}, {**body(b"whole"), "unknown": 1}],
    hop_by_hop=[start(headers=[(b"transfer-encoding", b"chunked"), (b"connection", b"keep-alive, x-a"),
                               (b"keep-alive", b"1"), (b"upgrade", b"x")]), body(b"whole")],
)

@case("right")
async def headers_of_a_generator(scope, receive, send):
    await send(start(headers=((name, b"v") for name in (b"x-a", b"x-b"))))
    await send(body(b"whole"))

@case("right")
async def looks_whether_trailers_are_offered(scope, receive, send):
    # They would be lost, as would be what another extension sends.
    extensions = scope["extensions"]
    assert "http.response.trailers" not in extensions
    await send(start())
    await send(body(b"whole" if extensions == {} else repr(extensions).encode()))

@case("right")
async def never_receives(scope, receive, send):
    await send(start())
    await send(body(b"whole"))

@case("right")
async def reads_after_the_end(scope, receive, send):
    await send(start())
    await send(body(b"whole"))
    for _ in range(3):
        assert (await receive()) == {"type": "http.disconnect"}

# --- what never ends by itself ---

go_on = asyncio.Event()

@case("endless")
async def receives_without_end(scope, receive, send):
    await send(start())
    await send(body(b"whole"))
    while not go_on.is_set():
        await receive()

@case("endless")
async def sends_nothing_without_end(scope, receive, send):
    await send(start())
    while not go_on.is_set():
        await send(body(b"", True))
    await send(body(b"whole"))

@case("endless")
async def sends_to_nobody_without_end(scope, receive, send):
    await send(start())
    while not go_on.is_set():
        try:
            await send(body(b"x", True))
        except OSError:
            pass

async def talks_without_end(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while not go_on.is_set():
        message = await receive()
        if scope["path"] == "/sends":
            try:
                await send({"type": "websocket.send", "text": "x"})
            except OSError:
                pass
        if scope["path"] == "/closes" and message["type"] != "websocket.disconnect":
            await send({"type": "websocket.close"})

async def dispatch(scope, receive, send):
    if scope["type"] == "websocket":
        await talks_without_end(scope, receive, send)
        return
    if scope["type"] != "http":
        return
    path = scope["path"][1:]
    if path == "go":
        go_on.set()
        await asyncio.sleep(0)
        go_on.clear()
        path = "usual"
    if path == "cases":
        import json
        await send(start())
        await send(body(json.dumps({name: group for name, (group, _) in APPS.items()}).encode()))
        return
    await APPS[path][1](scope, receive, send)

app = serve.deployment(serve.ingress(dispatch)(), max_ongoing_requests=20).bind()
"""


class Served(NamedTuple):
    script: Script
    cases: dict[str, str]

    def of(self, group: str) -> list[str]:
        return [name for name, one in self.cases.items() if one == group]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    machine = Machine(tmp_path_factory.mktemp("breaks"))
    try:
        script = machine.serve(APP)
        yield Served(script, json.loads(script.get("/cases").text))
        # It was one replica all the time.
        assert "replica died" not in machine.logs()
    finally:
        survivors = machine.close()
    assert not survivors


class Http1:
    """One connection, never opened anew without being told to."""

    def __init__(self, served: Served) -> None:
        to = urlsplit(served.script.address)
        self._connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=PATIENCE)
        self._connection.connect()
        self._connection.auto_open = False  # type: ignore[assignment]

    def __enter__(self) -> "Http1":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def is_closed(self) -> bool:
        """Whether the proxy has ended it."""
        return self._connection.sock is None or self._connection.sock.recv(1) == b""

    def ask(self, path: str, method: str = "GET", body: bytes = b"") -> http2.Answer:
        """`reset` is 0 if the answer broke off."""
        self._connection.request(method, path, body or None)
        status, got = 0, b""
        try:
            with self._connection.getresponse() as response:
                status = response.status
                got = response.read()
        except http.client.IncompleteRead as error:
            return http2.Answer(status, error.partial, 0)
        except (http.client.RemoteDisconnected, ConnectionResetError):
            return http2.Answer(status, got, 0)
        return http2.Answer(status, got, None)


def connect(served: Served, protocol: str) -> Http1 | http2.Connection:
    return Http1(served) if protocol == "HTTP/1.1" else http2.Connection(served.script.address)


PROTOCOLS = pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/2"])
RIGHT = http2.Answer(200, b"whole", None)


@PROTOCOLS
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_wrong_before_anything_has_left_is_one_500(served: Served, protocol: str, method: str) -> None:
    with connect(served, protocol) as connection:
        for name in served.of("fails"):
            answer = connection.ask(f"/{name}", method, b"some body" * 100 if method == "POST" else b"")
            assert answer == (500, b"Internal Server Error", None), name
            assert connection.ask("/usual") == RIGHT, f"after {name}"


@PROTOCOLS
def test_what_is_wrong_later_breaks_the_answer_off(served: Served, protocol: str) -> None:
    with connect(served, "HTTP/2") as kept:
        for name in served.of("breaks off"):
            # HTTP/1.1 has no other way to say so than the end of the connection.
            with Http1(served) as new:
                connection: Http1 | http2.Connection = new if protocol == "HTTP/1.1" else kept
                answer = connection.ask(f"/{name}")
                assert answer.reset is not None, name
                assert b"part".startswith(answer.body), name
                if connection is new:
                    assert new.is_closed(), name
            assert kept.ask("/usual") == RIGHT, f"after {name}"


@PROTOCOLS
def test_what_is_wrong_after_the_end_and_what_is_right_changes_nothing(served: Served, protocol: str) -> None:
    with connect(served, protocol) as connection:
        for name in served.of("whole") + served.of("right"):
            assert connection.ask(f"/{name}") == RIGHT, name
            assert connection.ask("/usual") == RIGHT, f"after {name}"


@PROTOCOLS
@pytest.mark.parametrize("name", ["usual", "length_too_long", "length_too_short", "raises", "in_pieces"])
def test_an_answer_to_head_has_no_body_whatever_is_sent(served: Served, protocol: str, name: str) -> None:
    with connect(served, protocol) as connection:
        answer = connection.ask(f"/{name}", "HEAD")
        assert answer == (500 if name == "raises" else 200, b"", None)
        assert connection.ask("/usual") == RIGHT


@PROTOCOLS
@pytest.mark.parametrize(("name", "status"), [("never_receives", 200), ("raises", 500), ("nothing", 500)])
def test_a_body_that_is_never_received_is_not_taken_for_a_request(
    served: Served, protocol: str, name: str, status: int
) -> None:
    # It looks like requests, and is more than the replica is given before it asks.
    body = b"GET /usual HTTP/1.1\r\nhost: x\r\n\r\n" * (1 << 15)
    if protocol == "HTTP/2":
        with http2.Connection(served.script.address) as connection:
            assert connection.ask(f"/{name}", "POST", body[:60_000]).status == status
            assert connection.ask("/usual") == RIGHT
        return
    with socket.create_connection(_host(served), timeout=PATIENCE) as stream:
        stream.sendall(f"POST /{name} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        sender = threading.Thread(target=_send_all, args=(stream, body + b"GET /usual HTTP/1.1\r\nhost: x\r\n\r\n"))
        sender.start()
        answers = b""
        # Either it goes on after the body, with the one request that follows, or it ends.
        while answers.count(b"HTTP/1.1 ") < 2 or not answers.endswith(b"whole"):
            more = _receive(stream)
            if not more:
                break
            answers += more
        sender.join()
    assert answers.startswith(f"HTTP/1.1 {status} ".encode())
    assert answers.count(b"HTTP/1.1 ") <= 2


def _send_all(stream: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        stream.sendall(data)


def _receive(stream: socket.socket) -> bytes:
    try:
        return stream.recv(65_536)
    except ConnectionResetError:
        return b""


@PROTOCOLS
@pytest.mark.parametrize("name", ["receives_without_end", "sends_nothing_without_end"])
def test_an_application_that_never_ends_leaves_others_their_turn(served: Served, protocol: str, name: str) -> None:
    with connect(served, protocol) as other, socket.create_connection(_host(served), timeout=PATIENCE) as endless:
        endless.sendall(f"GET /{name} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert endless.recv(1), "it runs"
        for _ in range(5):
            assert other.ask("/usual") == RIGHT
        assert other.ask("/go") == RIGHT


@pytest.mark.parametrize("path", ["/receives", "/sends", "/closes"])
def test_a_websocket_whose_application_never_ends_leaves_others_their_turn(served: Served, path: str) -> None:
    with WebSocket(served.script.address + path) as talking:
        talking.send("go on")
        if path != "/receives":
            talking.receive()
    with Http1(served) as other:
        for _ in range(5):
            assert other.ask("/usual") == RIGHT
        assert other.ask("/go") == RIGHT


@PROTOCOLS
def test_an_application_that_sends_on_to_nobody_leaves_others_their_turn(served: Served, protocol: str) -> None:
    with socket.create_connection(_host(served), timeout=PATIENCE) as endless:
        endless.sendall(b"GET /sends_to_nobody_without_end HTTP/1.1\r\nhost: x\r\n\r\n")
        assert endless.recv(1), "it runs"
    with connect(served, protocol) as other:
        for _ in range(5):
            assert other.ask("/usual") == RIGHT
        assert other.ask("/go") == RIGHT


def _host(served: Served) -> tuple[str, int]:
    to = urlsplit(served.script.address)
    return to.hostname or "", to.port or 0
