"""`eagleray.testing`: WebSockets to an application in this process, with the names of Starlette's TestClient."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Header, WebSocket, WebSocketException
from starlette.websockets import WebSocketDisconnect

from eagleray import serve, testing
from eagleray.serve.context import get_request_context
from eagleray.serve.handle import DeploymentHandle

NOTES: list[Any] = []

app = FastAPI()


@serve.deployment
class Upper:
    async def __call__(self, text: str) -> str:
        return text.upper()


def key(x_key: str = Header(default="")) -> str:
    if x_key != "open":
        raise WebSocketException(code=1008, reason="no key")
    return x_key


@serve.deployment
@serve.ingress(app)
class Chat:
    def __init__(self, upper: DeploymentHandle) -> None:
        self.upper = upper

    @app.websocket("/chat/{name}")
    async def chat(self, socket: WebSocket, name: str, greeting: str = "hi") -> None:
        offered = socket.scope["subprotocols"]
        headers = [(b"x-mine", b"yes")]
        await socket.accept(subprotocol=offered[-1] if offered else None, headers=headers)
        context = get_request_context()
        assert context is not None
        url = [socket.url.scheme, socket.url.path, socket.scope["root_path"]]
        await socket.send_json([name, greeting, *url, context.request_id, context.multiplexed_model_id])
        try:
            while True:
                await socket.send_text(await self.upper.remote(await socket.receive_text()))
        except WebSocketDisconnect as end:
            NOTES.append([end.code, end.reason])

    @app.websocket("/guarded")
    async def guarded(self, socket: WebSocket, key: str = Depends(key)) -> None:
        await socket.accept()
        await socket.send_text(key)
        await socket.close(4001, "enough")

    @app.websocket("/raises")
    async def raises(self, socket: WebSocket) -> None:
        await socket.accept()
        raise ValueError("of the user")

    @app.websocket("/cancelled")
    async def cancelled(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            NOTES.append("cancelled")
            raise


async def raw(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await RAW[scope["path"]](receive, send)


async def connected(receive: Any, send: Any) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})


async def echo(receive: Any, send: Any) -> None:
    await connected(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    NOTES.append(message)


async def listens(receive: Any, send: Any) -> None:
    await connected(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        NOTES.append(message.get("text", message.get("bytes")))
    NOTES.append(message)
    try:
        await send({"type": "websocket.send", "text": "too late"})
    except OSError:
        NOTES.append("OSError")


async def returns_first(receive: Any, send: Any) -> None:
    await receive()


async def raises_first(receive: Any, send: Any) -> None:
    raise ValueError("a secret")


async def closes_first(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 4000})


async def denies(receive: Any, send: Any) -> None:
    await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"X-Why", b"no key")]})
    await send({"type": "websocket.http.response.body", "body": b"show ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"a key"})


async def returns(receive: Any, send: Any) -> None:
    await connected(receive, send)
    await send({"type": "websocket.send", "text": "bye"})


async def accepts_twice(receive: Any, send: Any) -> None:
    await connected(receive, send)
    await send({"type": "websocket.accept"})


async def both(receive: Any, send: Any) -> None:
    await connected(receive, send)
    await send({"type": "websocket.send", "text": "a", "bytes": b"b"})


async def unoffered(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "mine"})
    NOTES.append((await receive())["type"])


async def bad_header(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"x-bad", b"a\r\nb: c")]})


async def slow(receive: Any, send: Any) -> None:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        NOTES.append("cancelled")
        raise


async def floods(receive: Any, send: Any) -> None:
    await connected(receive, send)
    for number in range(20):
        NOTES.append(number)
        await send({"type": "websocket.send", "bytes": bytes([number]) * 100_000})


async def deaf(receive: Any, send: Any) -> None:
    await connected(receive, send)
    await asyncio.to_thread(GATE.wait)
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": str(len(message["bytes"]))})


async def patient(receive: Any, send: Any) -> None:
    await connected(receive, send)
    while True:
        try:
            message = await asyncio.wait_for(receive(), 0.001)
        except TimeoutError:
            continue
        if message["type"] == "websocket.disconnect":
            break
        await send({**message, "type": "websocket.send"})


async def stays(receive: Any, send: Any) -> None:
    await connected(receive, send)
    await asyncio.sleep(3600)


RAW = {
    f"/{function.__name__}": function
    for function in (
        echo, listens, returns_first, raises_first, closes_first, denies, returns, accepts_twice, both, unoffered,
        bad_header, slow, floods, deaf, patient, stays,
    )
}  # fmt: skip
GATE = threading.Event()


@serve.deployment(graceful_shutdown_timeout_s=0.2)
@serve.ingress(raw)
class Raw:
    pass


@serve.deployment
class Plain:
    async def __call__(self, request: Any) -> str:
        return "plain"


@serve.deployment
def in_thread(request: Any) -> str:
    return "plain"


@pytest.fixture(autouse=True)
def forgotten() -> None:
    NOTES.clear()
    GATE.clear()


@pytest.fixture(scope="module")
def chat() -> Iterator[testing.Client]:
    with testing.client(Chat.bind(Upper.bind()), route_prefix="/app") as client:
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[testing.Client]:
    with testing.client(Raw.bind()) as client:
        yield client


def denial(client: testing.Client, path: str, **options: Any) -> testing.WebSocketDenialResponse:
    with pytest.raises(testing.WebSocketDenialResponse) as caught, client.websocket_connect(path, **options):
        pass
    return caught.value


@pytest.mark.contract("4.4/websocket")
def test_an_endpoint_of_fastapi_talks_as_it_does_when_served(chat: testing.Client) -> None:
    headers = {"x-request-id": "mine", "serve-multiplexed-model-id": "m1"}
    with chat.websocket_connect(
        "/app/chat/jo%20e", ["a", "b"], params={"greeting": "hello"}, headers=headers
    ) as session:
        assert session.accepted_subprotocol == "b"
        assert dict(session.extra_headers) == {b"x-mine": b"yes", b"x-request-id": b"mine"}
        assert session.receive_json() == ["jo e", "hello", "ws", "/app/chat/jo e", "/app", "mine", "m1"]
        for text in ("one", "two", ""):
            session.send_text(text)
            assert session.receive_text() == text.upper()
    # The block ends when the application has returned.
    assert NOTES == [[1000, ""]]
    assert chat.get("/app/chat/x").status_code == 404


@pytest.mark.contract("4.4/websocket-disconnect")
def test_an_application_hears_of_the_end_after_what_was_sent_and_is_not_cancelled(client: testing.Client) -> None:
    with client.websocket_connect("/listens") as session:
        session.send({"type": "websocket.receive", "text": "a"})
        session.send_bytes(b"\0\xff")
        session.send_json({"k": "grüße"})
        session.send_json([1], mode="binary")
        session.close(4000, "done")
        session.close(4001, "the first counts")
    assert NOTES[:4] == ["a", b"\0\xff", '{"k":"grüße"}', b"[1]"]
    assert NOTES[4:] == [{"type": "websocket.disconnect", "code": 4000, "reason": "done"}, "OSError"]


def test_messages_have_their_kind(client: testing.Client) -> None:
    with client.websocket_connect("/echo") as session:
        session.send_json({"k": "grüße"})
        assert session.receive() == {"type": "websocket.send", "text": '{"k":"grüße"}'}
        session.send_json([1], mode="binary")
        assert session.receive_json(mode="binary") == [1]
        session.send_text("text")
        with pytest.raises(TypeError, match="use receive_text"):
            session.receive_bytes()
        for wrong in (lambda: session.send_text(b"x"), lambda: session.send_bytes("x")):  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="send_json"):
                wrong()
        with pytest.raises(ValueError, match="from 3000"):
            session.close(1006)
        with pytest.raises(ValueError, match=r"websocket\.receive"):
            session.send({"type": "websocket.connect"})
        session.send({"type": "websocket.disconnect", "code": 1001})
    assert NOTES[0]["code"] == 1001


@pytest.mark.contract("4.4/websocket-close")
def test_the_application_s_close_is_raised_after_its_messages(chat: testing.Client, client: testing.Client) -> None:
    with chat.websocket_connect("/app/guarded", headers={"x-key": "open"}) as session:
        assert session.receive_text() == "open"
        for _ in range(2):
            with pytest.raises(WebSocketDisconnect) as caught:
                session.receive_text()
            assert (caught.value.code, caught.value.reason) == (4001, "enough")
        session.send_text("goes nowhere")
    with client.websocket_connect("/returns") as session:
        assert session.receive_text() == "bye"
        assert session.receive() == {"type": "websocket.close", "code": 1000, "reason": ""}


def test_what_is_refused_raises_with_the_answer(chat: testing.Client, client: testing.Client) -> None:
    refused = denial(chat, "/app/guarded")
    assert (refused.status_code, refused.content, refused.code) == (403, b"", 1006)
    assert isinstance(refused, WebSocketDisconnect)
    assert denial(client, "/closes_first").status_code == 403
    denied = denial(client, "/denies", headers={"x-request-id": "mine"})
    assert (denied.status_code, denied.text, denied.headers["x-why"]) == (401, "show a key", "no key")
    assert denied.headers["x-request-id"] == "mine"
    assert "401: show a key" in str(denied)
    assert denial(chat, "/app/nowhere").status_code == 403
    assert denial(chat, "/nowhere").status_code == 404
    for deployment in (Plain, in_thread):
        with testing.client(deployment.bind()) as other:
            answer = denial(other, "/")
            assert answer.status_code == 403
            assert "ASGI" in answer.text
            assert other.get("/").text == "plain"


def test_a_time_limit_holds_until_the_application_accepts(client: testing.Client) -> None:
    limit = {"x-request-timeout-seconds": "0.1"}
    assert denial(client, "/slow", headers=limit).status_code == 408
    with client.websocket_connect("/echo", headers=limit) as session:
        threading.Event().wait(0.3)
        session.send_text("still there")
        assert session.receive_text() == "still there"
    assert NOTES[0] == "cancelled"


def test_an_application_that_breaks_the_protocol_costs_its_own_connection(
    chat: testing.Client, client: testing.Client
) -> None:
    for path in ("/returns_first", "/raises_first", "/unoffered", "/bad_header"):
        answer = denial(client, path)
        assert (answer.status_code, answer.text) == (500, "Internal Server Error"), path
    with client.websocket_connect("/echo") as bystander:
        for of, path in ((client, "/accepts_twice"), (client, "/both"), (chat, "/app/raises")):
            with of.websocket_connect(path) as session, pytest.raises(WebSocketDisconnect) as caught:
                session.receive_text()
            assert (caught.value.code, caught.value.reason) == (1011, "the code of the deployment failed"), path
        bystander.send_text("still there")
        assert bystander.receive_text() == "still there"
    assert NOTES[0] == "websocket.disconnect", "what chose a subprotocol of its own has no client"


def test_an_application_waits_for_a_client_that_does_not_take_its_messages(client: testing.Client) -> None:
    with client.websocket_connect("/floods") as session:
        assert session.receive_bytes() == bytes(100_000)
        for _ in range(10):
            threading.Event().wait(0.01)
            assert len(NOTES) <= 5
        for number in range(1, 20):
            assert session.receive_bytes() == bytes([number]) * 100_000
    with client.websocket_connect("/floods"):
        pass
    assert len(NOTES) < 20 + 10, "it is told that nobody takes them"


def test_a_client_waits_for_an_application_that_does_not_receive(client: testing.Client) -> None:
    with client.websocket_connect("/deaf") as session:
        sent: list[int] = []

        def send() -> None:
            for number in range(8):
                session.send_bytes(bytes(100_000))
                sent.append(number)

        thread = threading.Thread(target=send)
        thread.start()
        for _ in range(10):
            threading.Event().wait(0.01)
            assert len(sent) <= 2
        GATE.set()
        assert [session.receive_text() for _ in range(8)] == ["100000"] * 8
        thread.join()


def test_waiting_for_a_message_with_a_time_limit_loses_none(client: testing.Client) -> None:
    with client.websocket_connect("/patient") as session:
        for number in range(100):
            session.send_text(str(number))
            if number % 10 == 0:
                threading.Event().wait(0.002)
        assert [session.receive_text() for _ in range(100)] == [str(number) for number in range(100)]


def test_the_end_of_the_application_is_1012() -> None:
    with testing.client(Raw.bind()) as other:
        session = other.websocket_connect("/stays").__enter__()
    with pytest.raises(WebSocketDisconnect) as caught:
        session.receive_text()
    assert (caught.value.code, caught.value.reason) == (1012, "the replica is shutting down")


def test_an_answer_that_is_not_as_long_as_it_says_is_one_500_here_too() -> None:
    async def lies(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            length = scope["path"].strip("/").encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", length)]})
            await send({"type": "http.response.body", "body": b"four"})

    with testing.client(serve.deployment(serve.ingress(lies)()).bind()) as other:
        for length, status in (("4", 200), ("3", 500), ("5", 500), ("x", 500)):
            assert other.get(f"/{length}").status_code == status, length
        head = other.head("/4")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "4")
