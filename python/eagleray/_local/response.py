"""What a client in this process gets for a request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers

if TYPE_CHECKING:
    from eagleray._local.http import HttpRequest


class Response:
    """The answer to one request, with the names of requests and httpx."""

    def __init__(self, request: HttpRequest) -> None:
        answer = request.answer
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
        return json.loads(self.content)

    def close(self) -> None:
        """Leaves: what is not answered yet is cancelled."""
        self._request.leave()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status_code}>"
