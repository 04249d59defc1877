"""Test an application in this process: no node, no port, and breakpoints stop.

    from eagleray import testing

    def test_greeting():
        with testing.client(Greeter.bind("hello")) as client:
            assert client.get("/", params={"name": "Ann"}).text == "hello Ann"
            assert client.handle.greet.remote("Bo").result() == "hello Bo"

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
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from starlette.datastructures import Headers

if TYPE_CHECKING:
    from eagleray._local.http import Answer, HttpRequest
    from eagleray.serve.deployment import Application
    from eagleray.serve.handle import DeploymentHandle

__all__ = ["Client", "Response", "client", "local"]

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
    from eagleray import _local, serve

    name = name or f"test-{next(_numbers)}"
    handle = serve.run(app, name=name, route_prefix=route_prefix, local_testing_mode=True)
    try:
        found = _local.find(name)
        assert found is not None
        yield Client(found.ask, handle, route_prefix)
    finally:
        serve.delete(name)


class Response:
    """The answer to one request, with the names of requests and httpx."""

    def __init__(self, request: HttpRequest, answer: Answer) -> None:
        self._request = request
        self._pieces = answer.pieces()
        self._content: bytes | None = None
        self.status_code = answer.status
        self.headers = Headers(raw=[*answer.headers, (b"x-request-id", request.request_id.encode())])

    def iter_bytes(self) -> Iterator[bytes]:
        """The body as it comes, piece by piece.

        Raises:
            ConnectionError: the answer broke off: user code raised after its head had left.
        """
        yield from self._pieces

    def iter_lines(self) -> Iterator[str]:
        """The body line by line."""
        rest = ""
        for piece in self._pieces:
            *lines, rest = (rest + piece.decode()).split("\n")
            yield from lines
        if rest:
            yield rest

    def read(self) -> bytes:
        """The whole body; waits for its end."""
        if self._content is None:
            self._content = b"".join(self._pieces)
        return self._content

    @property
    def content(self) -> bytes:
        """The whole body."""
        return self.read()

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON."""
        return _json.loads(self.content)

    def close(self) -> None:
        """Leaves: what is not answered yet is cancelled."""
        self._request.leave()

    def __repr__(self) -> str:
        return f"<Response {self.status_code}>"


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
            headers: those that Eagleray knows work too: `x-request-id`, `serve_multiplexed_model_id`,
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
        url = urlsplit(path)
        query = "&".join(part for part in (url.query, urlencode(params or {}, doseq=True)) if part)
        request = _request(method.upper(), quote(url.path, safe="/%:@!$&'()*+,;=~"), query, sent, body, self._prefix)
        self._ask(request, self._prefix)
        request.answer.wait()
        response = Response(request, request.answer)
        try:
            yield response
        finally:
            response.close()

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


def _request(method: str, path: str, query: str, headers: dict[str, str], body: bytes, root_path: str) -> HttpRequest:
    from eagleray._local.http import HttpRequest

    given = headers.get("x-request-id", "")
    # Dashes and underscores are the same in this one.
    models = [value for name, value in headers.items() if name.replace("-", "_") == "serve_multiplexed_model_id"]
    return HttpRequest(
        method,
        path.encode("ascii"),
        query.encode("ascii"),
        [(name.encode("latin-1"), str(value).encode("latin-1")) for name, value in headers.items()],
        body,
        root_path=root_path,
        request_id=given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4()),
        multiplexed_model_id=models[0] if models else "",
        timeout_s=_timeout_s(headers.get("x-request-timeout-seconds", "")),
    )


def _timeout_s(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if seconds > 0 else None
