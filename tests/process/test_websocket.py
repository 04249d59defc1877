"""WebSockets end to end: FastAPI and plain ASGI applications behind one proxy, with a client of raw frames."""

import contextlib
import os
import re
import signal
import time
import zlib
from collections.abc import Iterator

import pytest

from machine import Machine, Script, eventually
from websocket import BINARY, COMPRESSED, FINAL, PING, PONG, TEXT, Closed, Refused, WebSocket

SERVICE = """
import asyncio, json, os
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from eagleray import serve

fast = FastAPI()

@serve.deployment(max_ongoing_requests=20)
@serve.ingress(fast)
class Chat:
    def __init__(self):
        self.rooms, self.ends, self.cancelled = {}, [], 0

    @fast.websocket("/echo/{name}")
    async def echo(self, socket: WebSocket, name: str, greeting: str = "hi"):
        await socket.accept(subprotocol=socket.scope["subprotocols"][-1] if socket.scope["subprotocols"] else None)
        await socket.send_json({"name": name, "greeting": greeting, "scheme": socket.url.scheme,
                                "root": socket.scope["root_path"], "path": socket.scope["path"],
                                "agent": socket.headers.get("user-agent"), "named": socket.headers.get("x-named"),
                                "asked": [socket.headers.get("connection"), socket.headers.get("upgrade")]})
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message["code"], message["reason"])
                if message.get("text") is not None:
                    await socket.send_text(message["text"])
                else:
                    await socket.send_bytes(message["bytes"])
        except WebSocketDisconnect as end:
            self.ends.append([name, end.code, end.reason])
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    @fast.websocket("/room")
    async def room(self, socket: WebSocket):
        await socket.accept()
        self.rooms[id(socket)] = socket
        try:
            async for text in socket.iter_text():
                await asyncio.gather(*(other.send_text(text) for other in self.rooms.values()))
        finally:
            del self.rooms[id(socket)]

    @fast.websocket("/patient")
    async def patient(self, socket: WebSocket):
        await socket.accept()
        timeouts = 0
        while True:
            try:
                text = await asyncio.wait_for(socket.receive_text(), 0.002)
            except TimeoutError:
                timeouts += 1
            else:
                await socket.send_text(f"{text} {timeouts > 0}")

    @fast.websocket("/raises")
    async def raises(self, socket: WebSocket):
        await socket.accept()
        raise ValueError("of the user")

    @fast.get("/ends")
    async def seen(self):
        return {"ends": self.ends, "cancelled": self.cancelled, "rooms": len(self.rooms)}

    @fast.get("/pid")
    async def pid(self):
        return os.getpid()

async def raw(scope, receive, send):
    path = scope["path"].removeprefix("/raw")
    if scope["type"] != "websocket":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": json.dumps(raw.notes).encode()})
        return
    assert (await receive()) == {"type": "websocket.connect"}
    assert "method" not in scope and scope["extensions"] == {"websocket.http.response": {}}
    accept, close = {"type": "websocket.accept"}, {"type": "websocket.close"}
    if path == "/close-first":
        await send(close)
        raw.notes.append((await receive())["type"])
    elif path == "/deny":
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"X-Why", b"no key")]})
        await send({"type": "websocket.http.response.body", "body": b"show ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"a key"})
    elif path == "/return":
        pass
    elif path == "/raise":
        raise ValueError("before acceptance")
    elif path == "/send-first":
        await send({"type": "websocket.send", "text": "too early"})
    elif path == "/twice":
        await send(accept)
        await send(accept)
    elif path == "/both":
        await send(accept)
        await send({"type": "websocket.send", "text": "a", "bytes": b"b"})
    elif path == "/http":
        await send(accept)
        await send({"type": "http.response.start", "status": 200})
    elif path == "/bad-code":
        await send(accept)
        await send({**close, "code": 1006})
    elif path == "/unoffered":
        await send({**accept, "subprotocol": "mine"})
    elif path == "/headers":
        await send({**accept, "headers": [(b"X-Mine", b"yes")]})
    elif path == "/closes":
        await send(accept)
        await send({**close, "code": 4001, "reason": "enough"})
        try:
            await send({"type": "websocket.send", "text": "after"})
        except RuntimeError as error:
            raw.notes.append(str(error))
    elif path == "/leaves":
        await send(accept)
        raw.notes.append((await receive())["type"])
        try:
            await send({"type": "websocket.send", "text": "after"})
        except OSError as error:
            raw.notes.append("OSError")
    elif path == "/flood":
        await send(accept)
        raw.notes.clear()
        for number in range(100_000):
            await send({"type": "websocket.send", "bytes": bytes(10_000)})
            raw.notes[:] = [number]
    elif path == "/deaf":
        await send(accept)
        await asyncio.sleep(3600)
    elif path == "/slow-accept":
        await asyncio.sleep(3600)

raw.notes = []

@serve.deployment(max_ongoing_requests=20)
@serve.ingress(raw)
class Raw:
    pass

@serve.deployment
class Plain:
    async def __call__(self, request):
        return "plain"

@serve.deployment
def in_thread(request):
    return "plain"
"""

RUN = """\
serve.run(Chat.bind(), name="chat", route_prefix="/chat")
serve.run(Chat.options(graceful_shutdown_timeout_s=0.5).bind(), name="mortal", route_prefix="/mortal")
serve.run(Raw.bind(), name="raw", route_prefix="/raw")
serve.run(Plain.bind(), name="plain", route_prefix="/plain")
serve.run(in_thread.bind(), name="thread", route_prefix="/thread")
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    machine = Machine(tmp_path_factory.mktemp("websocket"))
    try:
        yield machine.serve(SERVICE, run=RUN)
    finally:
        survivors = machine.close()
    assert not survivors, f"left running: {survivors}"


def connect(script: Script, path: str, **options: object) -> WebSocket:
    return WebSocket(script.address + path, **options)  # type: ignore[arg-type]


def refused(script: Script, path: str, **options: object) -> Refused:
    with pytest.raises(Refused) as caught:
        connect(script, path, **options).socket.close()
    return caught.value


@pytest.mark.contract("4.4/websocket", "4.4/websocket-upgrade")
def test_fastapi_gets_path_query_headers_and_subprotocol_and_answers_every_kind_of_message(script: Script) -> None:
    with connect(
        script,
        "/chat/echo/jo%20e?greeting=hello",
        subprotocols="a, b",
        headers={"user-agent": "test", "connection": "keep-alive, Upgrade, x-named", "x-named": "ends here"},
    ) as socket:
        assert socket.headers["sec-websocket-protocol"] == "b"
        assert "x-request-id" in socket.headers
        said = socket.receive()
        assert said == (
            '{"name":"jo e","greeting":"hello","scheme":"ws","root":"/chat","path":"/chat/echo/jo e","agent":"test",'
            '"named":null,"asked":["keep-alive, Upgrade, x-named","websocket"]}'
        )
        for message in ["grüße", "", b"\x00\xff", b"", "x" * 1_000_000, b"y" * 5_000_000]:
            socket.send(message)
            assert socket.receive() == message
        euro = "€".encode()
        socket.send(euro[:1], final=False, opcode=TEXT)
        socket.send(b"ping", opcode=PING)
        socket.send(euro[1:], opcode=0)
        assert socket.frame()[1:] == (PONG, b"ping")
        assert socket.receive() == "€"
        assert socket.close(1000, "bye") == Closed(1000, "bye")


@pytest.mark.contract("4.4/websocket-disconnect")
def test_the_end_is_told_with_code_and_reason_and_nothing_is_cancelled(script: Script) -> None:
    for name, end in [("ordered", (4000, "done")), ("gone", None)]:
        socket = connect(script, f"/chat/echo/{name}")
        socket.receive()
        if end is not None:
            socket.close(*end)
        socket.socket.close()
    wanted = [["ordered", 4000, "done"], ["gone", 1006, ""]]

    def told() -> bool:
        seen = script.get("/chat/ends").json()
        return all(end in seen["ends"] for end in wanted) and seen["cancelled"] == 0

    eventually(told, "the application hears of both ends")


def test_many_talk_in_one_room(script: Script) -> None:
    sockets = [connect(script, "/chat/room") for _ in range(8)]
    eventually(lambda: script.get("/chat/ends").json()["rooms"] == len(sockets), "all are in the room")
    for number, socket in enumerate(sockets):
        socket.send(f"from {number}")
    wanted = {f"from {number}" for number in range(len(sockets))}
    for socket in sockets:
        assert {socket.receive() for _ in sockets} == wanted
        socket.close()
    eventually(lambda: script.get("/chat/ends").json()["rooms"] == 0, "all have left the room")


def test_waiting_for_a_message_with_a_time_limit_loses_none(script: Script) -> None:
    with connect(script, "/chat/patient") as socket:
        for number in range(200):
            socket.send(str(number))
            if number % 5 == 0:
                time.sleep(0.002)
        got = [socket.receive() for _ in range(200)]
    assert [str(text).split()[0] for text in got] == [str(number) for number in range(200)]


def test_what_is_refused_is_an_http_answer(script: Script) -> None:
    assert refused(script, "/raw/close-first").status == 403
    denied = refused(script, "/raw/deny")
    assert (denied.status, denied.headers["x-why"]) == (401, "no key")
    assert refused(script, "/chat/nowhere").status == 403
    assert refused(script, "/nowhere").status == 404
    for path in ("/plain", "/thread"):
        answer = refused(script, path)
        assert answer.status == 403
        assert b"ASGI" in answer.body
    assert refused(script, "/raw/slow-accept", headers={"x-request-timeout-seconds": "0.2"}).status == 408


def test_an_application_that_breaks_the_protocol_costs_its_own_connection(script: Script) -> None:
    for path in ("/raw/return", "/raw/raise", "/raw/send-first", "/raw/unoffered"):
        assert refused(script, path).status == 500, path
    with connect(script, "/chat/echo/bystander") as bystander:
        bystander.receive()
        for path in ("/raw/twice", "/raw/both", "/raw/http", "/raw/bad-code", "/chat/raises"):
            with connect(script, path) as socket:
                assert socket.receive() == Closed(1011, "the code of the deployment failed"), path
        bystander.send("still there")
        assert bystander.receive() == "still there"


@pytest.mark.contract("4.4/websocket-close")
def test_the_application_s_close_reaches_the_client_and_the_access_log(script: Script) -> None:
    with connect(script, "/raw/closes") as socket:
        assert socket.receive() == Closed(4001, "enough")
    with connect(script, "/raw/headers") as socket:
        assert socket.headers["x-mine"] == "yes"
        # It returns without a close.
        assert socket.receive() == Closed(1000, "")
    with connect(script, "/raw/leaves") as socket:
        socket.close()
    eventually(
        lambda: (
            script.get("/raw/").json()[-3:]
            == [
                "the ASGI application sent 'websocket.send' to a WebSocket after it was closed",
                "websocket.disconnect",
                "OSError",
            ]
        ),
        "the application notes what it saw",
    )
    assert refused(script, "/raw/close-first").status == 403
    # Gone without a close frame.
    vanished = connect(script, "/chat/echo/vanished")
    vanished.receive()
    vanished.socket.close()
    logs = script.machine.logs
    for line in (r" WS /raw 4001 ", r" WS /raw 1000 ", r" WS /raw 403 ", r" WS /chat 1006 "):
        eventually(lambda line=line: re.search(line, logs()), f"an access line{line}")


def test_a_client_that_does_not_read_stops_the_application(script: Script) -> None:
    with connect(script, "/raw/flood") as socket:
        assert socket.frame()[1] == BINARY

        def stands() -> bool:
            before = script.get("/raw/").json()
            time.sleep(0.2)
            return bool(before == script.get("/raw/").json() and before)

        eventually(stands, "the application waits")
        # What is under way: buffers of the kernel, of the proxy, and the credit of the replica.
        assert script.get("/raw/").json()[0] * 10_000 < 32 << 20


@pytest.mark.contract("4.4/websocket-compression")
def test_messages_are_compressed_both_ways_and_user_code_sees_them_as_they_were(script: Script) -> None:
    fields = {"sec-websocket-extensions": "permessage-deflate; client_max_window_bits"}
    with connect(script, "/chat/echo/a", headers=fields) as socket:
        assert socket.headers["sec-websocket-extensions"] == "permessage-deflate"
        said = socket.receive()
        assert isinstance(said, str)
        assert said.startswith('{"name":"a"'), "short, so as it is"
        # zlib of C, which refers to the messages before.
        out, back = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
        for number in range(20):
            message = f"größer als vorher {number} ".encode() * (100 * number + 60)
            packed = (out.compress(message) + out.flush(zlib.Z_SYNC_FLUSH))[:-4]
            socket.send(packed, opcode=TEXT | COMPRESSED)
            came, first = b"", 0
            while True:
                head, _, data = socket.frame()
                first, came = first or head, came + data
                if head & FINAL:
                    break
            assert first & COMPRESSED, "the first frame says it"
            assert len(came) < len(message) / 4
            assert back.decompress(came + b"\0\0\xff\xff") == message
        assert socket.close() == Closed(1000, "")


def test_a_bomb_is_closed_before_more_of_it_is_inflated_than_a_message_may_have(script: Script) -> None:
    fields = {"sec-websocket-extensions": "permessage-deflate"}
    out = zlib.compressobj(9, wbits=-15)
    with connect(script, "/chat/echo/bomb", headers=fields) as socket:
        socket.receive()
        before = script.counters["websocket_messages_too_long"]
        packed = b"".join(out.compress(bytes(1 << 20)) for _ in range(256)) + out.flush(zlib.Z_SYNC_FLUSH)
        assert len(packed) < 300_000
        with contextlib.suppress(ConnectionError):
            socket.send(packed[:-4], opcode=BINARY | COMPRESSED)
        closed = socket.receive()
        assert isinstance(closed, Closed)
        assert closed.code == 1009
        assert script.counters["websocket_messages_too_long"] == before + 1
        assert script.counters["panics"] == 0


def test_a_message_that_is_too_long_and_counters(script: Script) -> None:
    with connect(script, "/raw/deaf") as socket:
        before = script.counters["websocket_messages_too_long"]
        # Nothing of it is waited for.
        socket.socket.sendall(b"\x82\xff" + (1 << 30).to_bytes(8, "big") + bytes(4))
        closed = socket.receive()
        assert isinstance(closed, Closed)
        assert closed.code == 1009
        assert script.counters["websocket_messages_too_long"] == before + 1
        assert script.counters["panics"] == 0


def test_a_replica_that_dies_is_1011_and_one_that_is_replaced_says_1012(script: Script) -> None:
    with connect(script, "/mortal/echo/a") as socket:
        socket.receive()
        os.kill(script.get("/mortal/pid").json(), signal.SIGKILL)
        assert socket.receive() == Closed(1011, "the replica died")
    eventually(lambda: script.get("/mortal/pid").status == 200, "another replica answers")
    with connect(script, "/mortal/echo/b") as socket:
        socket.receive()
        script.do('serve.delete("mortal", _blocking=False)')
        assert socket.receive() == Closed(1012, "the replica is shutting down")
