"""Test an application in this process: no node, no port, and breakpoints stop.

    from eagleray import testing

    def test_greeting():
        with testing.client(Greeter.bind("hello")) as client:
            assert client.get("/", params={"name": "Ann"}).text == "hello Ann"
            assert client.handle.greet.remote("Bo").result() == "hello Bo"

    def test_chat():
        with testing.client(Chat.bind()) as client, client.websocket_connect("/chat") as session:
            session.send_text("hi")
            assert session.receive_text() == "HI"

`client` asks over HTTP, `local` is for calls through handles alone. Both start the application in local testing mode,
as `serve.run(app, local_testing_mode=True)` does, and end it. User code, its handles, requests, answers and errors are
run by the code of production; what a test cannot see here is what needs processes: several replicas,
`max_ongoing_requests`, queues, restarts. docs/testing.md says more.
"""

from __future__ import annotations

import contextlib
import itertools
import json as _json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from eagleray import _runtime
from eagleray._local.http import HttpRequest
from eagleray._local.response import Response
from eagleray._local.session import WebSocketDenialResponse, WebSocketSession
from eagleray._local.websocket import WebSocketRequest

if TYPE_CHECKING:
    from eagleray.serve.deployment import Application
    from eagleray.serve.handle import DeploymentHandle

__all__ = ["Client", "Response", "WebSocketDenialResponse", "WebSocketSession", "client", "local"]

_numbers = itertools.count(1)
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@contextlib.contextmanager
def local(app: Application, *, name: str | None = None) -> Iterator[DeploymentHandle]:
    """Runs an application in this process for as long as the block takes, and gives the handle to its ingress.

    Args:
        app: what `bind()` returned.
        name: name of the application; one of its own by default, so that blocks may be inside each other.

    Raises:
        Exception: what a constructor, `reconfigure` or `check_health` raised.
    """
    from eagleray import serve

    name = name or f"test-{next(_numbers)}"
    handle = serve.run(app, name=name, local_testing_mode=True)
    try:
        yield handle
    finally:
        serve.delete(name)


@contextlib.contextmanager
def client(app: Application, *, route_prefix: str = "/", name: str | None = None) -> Iterator[Client]:
    """As `local`, for HTTP: a client whose requests the ingress answers.

    Args:
        app: what `bind()` returned.
        route_prefix: where the application would be; what is not below it is 404.
        name: as for `local`.
    """
    from eagleray import serve

    name = name or f"test-{next(_numbers)}"
    handle = serve.run(app, name=name, route_prefix=route_prefix, local_testing_mode=True)
    try:
        found = _runtime.local_applications.get(name)
        assert found is not None
        yield Client(found.ask, handle, route_prefix)
    finally:
        serve.delete(name)


class Client:
    """Asks the ingress of an application. `handle` is the way beside HTTP."""

    def __init__(self, ask: Any, handle: DeploymentHandle, route_prefix: str) -> None:
        self._ask = ask
        self._prefix = "" if route_prefix == "/" else route_prefix
        self.handle = handle

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | str | None = None,
        json: Any = None,
        data: Mapping[str, Any] | None = None,
    ) -> Response:
        """Sends a request and waits for the whole answer.

        Args:
            method: such as "GET".
            path: with the route prefix, as a client of the server writes it; may have a query.
            params: the query, or more of it.
            headers: those that Eagleray knows work too: `x-request-id`, `serve_multiplexed_model_id`, `x-session-id`,
                `x-request-timeout-seconds`.
            content: the body as it is.
            json: a value for a JSON body.
            data: fields of a form.

        Raises:
            ConnectionError: the answer broke off: user code raised after its head had left.
        """
        with self.stream(
            method, path, params=params, headers=headers, content=content, json=json, data=data
        ) as response:
            response.read()
        return response

    @contextlib.contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | str | None = None,
        json: Any = None,
        data: Mapping[str, Any] | None = None,
    ) -> Iterator[Response]:
        """As `request`, but gives the answer once its head is there; leaving the block leaves the request."""
        body, sent = _body(content, json, data)
        sent = {"host": "testserver", "content-length": str(len(body)), **sent}
        sent.update((name.lower(), value) for name, value in (headers or {}).items())
        target, query = _target(path, params)
        request = HttpRequest(method.upper(), target, query, _pairs(sent), body, **_options(sent, self._prefix))
        self._ask(request, self._prefix)
        request.answer.wait()
        response = Response(request)
        try:
            yield response
        finally:
            response.close()

    def websocket_connect(
        self,
        path: str,
        subprotocols: Sequence[str] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> WebSocketSession:
        """A WebSocket, which connects when it is entered::

            with client.websocket_connect("/chat") as session:
                session.send_text("hi")
                assert session.receive_text() == "HI"

        Args:
            path: with the route prefix.
            subprotocols: what the client offers, the best first.
            params: the query, or more of it.
            headers: as for `request`.

        Raises:
            WebSocketDenialResponse: (from the block's entry) the application does not accept: it has the status of
                the answer, 403 if the application closed, 500 if it raised.
        """
        sent = {
            "host": "testserver",
            "connection": "upgrade",
            "upgrade": "websocket",
            "sec-websocket-key": "dGVzdHNlcnZlcj09PT09PQ==",
            "sec-websocket-version": "13",
        }
        if subprotocols is not None:
            sent["sec-websocket-protocol"] = ", ".join(subprotocols)
        sent.update((name.lower(), value) for name, value in (headers or {}).items())
        target, query = _target(path, params)
        request = WebSocketRequest(target, query, _pairs(sent), **_options(sent, self._prefix))
        return WebSocketSession(request, lambda request: self._ask(request, self._prefix))

    def get(self, path: str, **options: Any) -> Response:
        """`request("GET", ...)`."""
        return self.request("GET", path, **options)

    def head(self, path: str, **options: Any) -> Response:
        """`request("HEAD", ...)`."""
        return self.request("HEAD", path, **options)

    def options(self, path: str, **options: Any) -> Response:
        """`request("OPTIONS", ...)`."""
        return self.request("OPTIONS", path, **options)

    def post(self, path: str, **options: Any) -> Response:
        """`request("POST", ...)`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Response:
        """`request("PUT", ...)`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Response:
        """`request("PATCH", ...)`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Response:
        """`request("DELETE", ...)`."""
        return self.request("DELETE", path, **options)


def _body(content: bytes | str | None, json: Any, data: Mapping[str, Any] | None) -> tuple[bytes, dict[str, str]]:
    if sum(given is not None for given in (content, json, data)) > 1:
        raise TypeError("a request has one body: give content, json or data")
    if json is not None:
        return _json.dumps(json).encode(), {"content-type": "application/json"}
    if data is not None:
        return urlencode(data, doseq=True).encode(), {"content-type": "application/x-www-form-urlencoded"}
    return content.encode() if isinstance(content, str) else content or b"", {}


def _target(path: str, params: Mapping[str, Any] | None) -> tuple[bytes, bytes]:
    """Path and query, as on the wire."""
    url = urlsplit(path)
    query = "&".join(part for part in (url.query, urlencode(params or {}, doseq=True)) if part)
    return quote(url.path, safe="/%:@!$&'()*+,;=~").encode("ascii"), query.encode("ascii")


def _pairs(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), str(value).encode("latin-1")) for name, value in headers.items()]


def _options(headers: Mapping[str, str], root_path: str) -> dict[str, Any]:
    """What the proxy and the router take from the headers."""
    given = headers.get("x-request-id", "")
    # Dashes and underscores are the same in these.
    models = [value for name, value in headers.items() if name.replace("-", "_") == "serve_multiplexed_model_id"]
    sessions = [value for name, value in headers.items() if name.replace("-", "_") == "x_session_id"]
    return {
        "root_path": root_path,
        "request_id": given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4()),
        "multiplexed_model_id": models[0] if models else "",
        "session_id": sessions[0] if sessions else "",
        "timeout_s": _timeout_s(headers.get("x-request-timeout-seconds", "")),
    }


def _timeout_s(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if seconds > 0 else None
