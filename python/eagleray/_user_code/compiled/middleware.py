"""Middleware that is not called for each request, since what it does is known before the first.

CORS adds header fields to an answer, always the same or the origin of the request; a check of hosts lets a request
pass or answers it. Nothing else of these layers can be seen below or above them, so compiled routes take their place
too: the fields are written with the answer (`Cors`), and what a layer would answer itself, a preflight or a wrong host,
goes the usual way, as a whole (`passes`).

What is set when the layer is made may be changed later by whoever holds it: flags, origins and hosts are read at each
request, as the layer does. An answer in pieces goes through the layer's own function.
"""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers

from eagleray._user_code.compiled import framework
from eagleray._user_code.compiled.run import Exchange, Run

_ALLOW_ORIGIN, _VARY, _ORIGIN = b"access-control-allow-origin", b"vary", b"Origin"

Fields = list[tuple[bytes, bytes]]


class Cors:
    """A layer of CORS, for answers to requests that it lets pass."""

    __slots__ = ("_layer", "_names", "_of_origin", "_simple")

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._note()

    def _note(self) -> None:
        """What it adds where there is an origin, and the names of all that it may add."""
        self._simple = dict(self._layer.simple_headers)
        self._of_origin: Fields = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self._simple.items()
        ]
        self._names = frozenset((_ALLOW_ORIGIN, _VARY, *(name for name, _ in self._of_origin)))

    def passes(self, scope: dict[str, Any]) -> bool:
        """Whether the layer calls what is below it; all OPTIONS, which preflights are, are left to it."""
        return bool(scope["method"] != "OPTIONS")

    def around(self, app: Any, run: Run) -> Any:
        """`app` below the layer, for a request that has passed it."""
        assert isinstance(run.exchange, Answering)
        asked = run.exchange.asked

        async def simple(scope: Any, receive: Any, send: Any) -> None:
            async def added(message: Any) -> None:
                await self.send(message, send, asked)

            await app(scope, receive, added)

        return simple

    async def send(self, message: Any, send: Any, asked: Fields) -> None:
        """Sends a message with what the layer adds; by its own function."""
        await self._layer.send(message, send=send, request_headers=Headers(raw=asked))

    def added(self, headers: Any, asked: Fields) -> Fields:
        """The header fields of an answer with those that the layer adds, in its order."""
        fields: Fields = list(headers)
        layer = self._layer
        origin = _first(asked, b"origin")
        if origin is None:
            _vary(fields)
            return fields
        if layer.simple_headers != self._simple:
            self._note()
        if self._names.isdisjoint([name for name, _ in fields]):
            fields += self._of_origin
        else:
            for field in self._of_origin:
                _put(fields, field)
        if layer.allow_all_origins:
            allowed = layer.allow_credentials
        else:
            allowed = layer.is_allowed_origin(origin=origin.decode("latin-1"))
        if allowed:
            _put(fields, (_ALLOW_ORIGIN, origin))
        _vary(fields)
        return fields


def _first(fields: Fields, name: bytes) -> bytes | None:
    for other, value in fields:
        if other == name:
            return value
    return None


def _vary(fields: Fields) -> None:
    """Says that the answer depends on the origin."""
    varies = [value for name, value in fields if name == _VARY]
    if varies:
        _put(fields, (_VARY, b", ".join((*varies, _ORIGIN))))
    else:
        fields.append((_VARY, _ORIGIN))


def _put(fields: Fields, field: tuple[bytes, bytes]) -> None:
    """Sets a field in the place of the first of its name, and takes the others out."""
    name = field[0]
    found = [index for index, (other, _) in enumerate(fields) if other == name]
    if not found:
        fields.append(field)
        return
    for index in reversed(found[1:]):
        del fields[index]
    fields[found[0]] = field


class TrustedHost:
    """A layer that checks the host, for requests that it lets pass."""

    __slots__ = ("_layer",)

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def around(self, app: Any, run: Run) -> Any:
        """`app` below the layer, for a request that has passed it: nothing more is done."""
        return app

    def passes(self, scope: dict[str, Any]) -> bool:
        """Whether the layer calls what is below it."""
        layer = self._layer
        if layer.allow_any:
            return True
        sent = _first(scope["headers"], b"host")
        parsed = framework.parse_host_header(None if sent is None else sent.decode("latin-1"))
        if parsed is None:
            return False
        host = parsed.host.lower()
        return any(
            host == pattern or (pattern.startswith("*") and host.endswith(pattern[1:]))
            for pattern in layer.allowed_hosts
        )


class Answering:
    """A server that writes the fields of CORS with each answer."""

    __slots__ = ("_cors", "asked", "receive", "server", "whole_body")

    def __init__(self, server: Exchange, cors: Cors, scope: dict[str, Any]) -> None:
        self.server = server
        self.receive = server.receive
        self.whole_body = server.whole_body
        self._cors = cors
        # A list of its own, as the layer has it: user code may change the one in the scope.
        self.asked: Fields = list(scope["headers"])

    async def send(self, message: Any) -> None:
        """As ASGI."""
        if message["type"] == "http.response.start":
            await self._cors.send(message, self.server.send, self.asked)
        else:
            await self.server.send(message)

    def answer(self, status: int, headers: Any, body: Any) -> Any:
        """All of an answer."""
        return self.server.answer(status, self._cors.added(headers, self.asked), body)


KNOWN = {Cors, TrustedHost}


def known(layer: Any) -> Any:
    """What takes the place of a layer of the user's; the layer itself: it is none."""
    kinds: dict[Any, Any] = {framework.CORSMiddleware: Cors, framework.TrustedHostMiddleware: TrustedHost}
    made = kinds.get(type(layer))
    return layer if made is None else made(layer)
