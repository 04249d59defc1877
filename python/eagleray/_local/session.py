"""The client's end of a WebSocket in this process, with the names of Starlette's TestClient."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from starlette.websockets import WebSocketDisconnect

from eagleray._local.response import Response
from eagleray._local.websocket import End

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from eagleray._local.websocket import WebSocketRequest

# What an application may take to return after its client has left.
_RETURN_S = 10.0
_NO_FRAME = 1006


class WebSocketDenialResponse(Response, WebSocketDisconnect):
    """The application refused a WebSocket, or failed before it accepted: the HTTP answer, raised.

    Attributes:
        status_code: 403 for a close, 500 for a failure, or what the application chose.
        code: 1006, as for every connection that ends without a closing frame: a code that the application gives before
            it accepts does not reach a client.
    """

    def __init__(self, request: WebSocketRequest) -> None:
        Response.__init__(self, request)
        WebSocketDisconnect.__init__(self, _NO_FRAME, f"refused with HTTP status {self.status_code}")

    def __str__(self) -> str:
        return f"the WebSocket was refused with HTTP status {self.status_code}: {self.text}"


class WebSocketSession:
    """A WebSocket, from `with client.websocket_connect(...) as session`.

    Entering the block connects, and leaving it closes with 1000 and waits until the application has returned, up to
    10 s.

    Attributes:
        accepted_subprotocol: what the application chose, or None.
        extra_headers: of the answer that accepted, as pairs of bytes.
    """

    def __init__(self, request: WebSocketRequest, connect: Callable[[WebSocketRequest], None]) -> None:
        self._request = request
        self._connect = connect
        self.accepted_subprotocol: str | None = None
        self.extra_headers: list[tuple[bytes, bytes]] = []

    def __enter__(self) -> Self:
        """Connects.

        Raises:
            WebSocketDenialResponse: the application does not accept.
        """
        request = self._request
        self._connect(request)
        request.answer.wait()
        if request.answer.status != 101:
            denial = WebSocketDenialResponse(request)
            denial.read()
            raise denial
        headers = request.answer.headers
        self.extra_headers = [(name, value) for name, value in headers if name != b"sec-websocket-protocol"]
        self.extra_headers.append((b"x-request-id", request.request_id.encode()))
        for name, value in headers:
            if name == b"sec-websocket-protocol":
                self.accepted_subprotocol = value.decode()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._request.returned.wait(_RETURN_S)

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends an ASGI message: `websocket.receive` with `text` or `bytes`, or `websocket.disconnect`.

        Waits while the application does not receive: about 256 KiB may be under way. After the application has closed
        it goes nowhere.
        """
        if message["type"] == "websocket.disconnect":
            self.close(message.get("code", 1000), message.get("reason"))
            return
        if message["type"] != "websocket.receive":
            raise ValueError(f"a client sends 'websocket.receive' or 'websocket.disconnect', not {message['type']!r}")
        text, data = message.get("text"), message.get("bytes")
        if text is not None:
            self.send_text(text)
        else:
            self.send_bytes(data)  # type: ignore[arg-type]

    def send_text(self, data: str) -> None:
        """Sends a text message; waits as `send` does."""
        if not isinstance(data, str):
            raise TypeError(f"send_text takes str, got {type(data).__name__}; use send_bytes or send_json")
        self._put(data)

    def send_bytes(self, data: bytes) -> None:
        """Sends a binary message; waits as `send` does."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"send_bytes takes bytes, got {type(data).__name__}; use send_text or send_json")
        self._put(bytes(data))

    def send_json(self, data: Any, mode: Literal["text", "binary"] = "text") -> None:
        """Sends a value as JSON, in a text or a binary message; waits as `send` does."""
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        self._put(text if mode == "text" else text.encode())

    def _put(self, message: str | bytes) -> None:
        self._request.from_client.put(message)
        self._request.from_client.wait_for_room()

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Closes; the application hears of it after what was sent. Does nothing the second time.

        Raises:
            ValueError: `code` cannot be the code of a closing frame.
        """
        if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
            raise ValueError(f"{code} cannot be the code of a closing frame; use 1000, or one from 3000 to 4999")
        self._request.leave(code, reason or "")

    def receive(self) -> dict[str, Any]:
        """Waits for the next ASGI message: `websocket.send`, or `websocket.close` as the last."""
        found = self._request.to_client.wait()
        if isinstance(found, End):
            # As a client that answers the closing frame.
            self._request.leave(found.code, found.reason)
            return {"type": "websocket.close", "code": found.code, "reason": found.reason}
        kind = "text" if isinstance(found, str) else "bytes"
        return {"type": "websocket.send", kind: found}

    def receive_text(self) -> str:
        """Waits for the next message, which is text.

        Raises:
            WebSocketDisconnect: the application closed; `code` is 1000 when it returned, 1011 when it failed.
            TypeError: the message is binary.
        """
        return self._received("text")  # type: ignore[no-any-return]

    def receive_bytes(self) -> bytes:
        """Waits for the next message, which is binary.

        Raises:
            WebSocketDisconnect: as `receive_text`.
            TypeError: the message is text.
        """
        return self._received("bytes")  # type: ignore[no-any-return]

    def receive_json(self, mode: Literal["text", "binary"] = "text") -> Any:
        """Waits for the next message, and reads it as JSON; otherwise as `receive_text` and `receive_bytes`."""
        return json.loads(self._received("text" if mode == "text" else "bytes"))

    def _received(self, kind: Literal["text", "bytes"]) -> Any:
        message = self.receive()
        if message["type"] == "websocket.close":
            raise WebSocketDisconnect(message["code"], message["reason"])
        if kind not in message:
            (other,) = message.keys() - {"type"}
            raise TypeError(f"the application sent {other}, not {kind}: use receive_{other}")
        return message[kind]
