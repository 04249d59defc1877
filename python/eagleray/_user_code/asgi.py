"""HTTP requests to an ASGI application: `receive` and `send` over one request, and what a broken protocol costs.

The head of an answer is held back until the first bytes of its body, so that a small answer is one frame; if the
application waits before them, the head leaves without them. Whatever the application does wrong, its own request gets
one 500, or an answer that visibly breaks off when part of it has left; nothing else notices.

The slot stays taken until the application returns: background tasks run after the end of the answer. An application
that never returns, and asks or sends on and on although nobody is there, takes its turn with all others: what would be
answered at once for ever is answered after a turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, MutableMapping
from typing import TYPE_CHECKING, Any

from eagleray._closing import is_closed
from eagleray._request import current
from eagleray._user_code import children, compiled, failure, log, websocket
from eagleray._user_code.data import as_bytes
from eagleray._user_code.route_names import RouteNames

if TYPE_CHECKING:
    from eagleray import _core
    from eagleray._user_code.compiled.serve import Report

_GONE, _WAIT = 0, 2
# What the application has sent.
_NOTHING, _HEAD, _PART, _ALL = range(4)


def on_loop(
    app: Callable[..., Any],
    state: dict[str, Any],
    *,
    may_compile: bool = True,
    told: Callable[[Report], None] | None = None,
    named: Callable[[list[str]], None] | None = None,
) -> Callable[[_core.Request], Coroutine[Any, Any, None]]:
    """What a task runs for each request to `app`; `state` is what its lifespan left for requests.

    With `may_compile`, routes of a FastAPI application are answered without its machinery, where nobody can tell; which
    ones, `told` is told. `named` is given what its routes are called, in the order of their numbers.
    """
    set_current = current.set
    routes = compiled.of_application(app, told, is_on=may_compile)
    names = None if named is None else RouteNames.of(app)
    if names is not None and named is not None:
        named(names.all)
        if routes is not None:
            for plan in routes.plans:
                plan.number = names.number(plan.path)

    async def run(request: _core.Request) -> None:
        scope = request.begin()
        if scope is None:
            return
        set_current(request)
        scope["state"] = state.copy()
        if scope["type"] == "websocket":
            await websocket.serve(app, request, scope)
            return
        scope["extensions"] = {}
        exchange = Exchange(request)
        try:
            if routes is None or (found := routes.find(scope)) is None:
                if names is not None:
                    exchange.names, exchange.scope = names, scope
                await app(scope, exchange.receive, exchange.send)
            else:
                plan, path_params = found
                if plan.number:
                    request.set_route(plan.number)
                await routes.run(plan, path_params, scope, exchange)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and is_closed(request.task):
                request.done()
                raise
            exchange.failed(error)
        else:
            exchange.returned()

    return run


def limit_threads(number: int) -> None:
    """Sync endpoints of FastAPI and Starlette run in as many threads as the replica takes requests."""
    from anyio.to_thread import current_default_thread_limiter

    current_default_thread_limiter().total_tokens = number


class Exchange:
    """`receive` and `send` of one request."""

    __slots__ = ("_head", "_phase", "_problem", "_request", "_sending", "_waiting", "names", "scope")
    # Where there are names.
    scope: dict[str, Any]

    def __init__(self, request: _core.Request) -> None:
        self._request = request
        # To find the route that took the request, when its answer begins; None: it is known, or has no name.
        self.names: RouteNames | None = None
        self._phase = _NOTHING
        self._head: MutableMapping[str, Any] = {}
        # Sends the head on the loop's next turn.
        self._sending: asyncio.Handle | None = None
        # What was wrong with a head that was sent so.
        self._problem: Exception | None = None
        self._waiting: asyncio.Future[Any] | None = None

    async def receive(self) -> dict[str, Any]:
        """The next piece of the body, or that nobody waits for the answer any more."""
        while self._waiting is not None and not self._waiting.done():
            await asyncio.wait([self._waiting])  # two calls at a time: each message goes to one
        if self._phase == _ALL:
            await asyncio.sleep(0)
            return {"type": "http.disconnect"}
        waiting: Any = self._request.receive()
        if isinstance(waiting, asyncio.Future):
            self._waiting = waiting
        message: dict[str, Any] = await waiting
        if message["type"] == "http.disconnect":
            await asyncio.sleep(0)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Takes the head, or part of the body; returns when there is room for more.

        Raises:
            RuntimeError: the protocol has no such message at this point.
            ValueError, TypeError: the message cannot be sent.
            OSError: nobody takes the answer any more.
        """
        kind = message["type"]
        if kind == "http.response.body":
            if self._phase == _HEAD:
                await self._first(message)
                return
            if self._phase == _PART:
                await self._more(message.get("body", b""), message.get("more_body", False))
                return
        elif kind == "http.response.start" and self._phase == _NOTHING:
            self._head = message
            self._phase = _HEAD
            if self.names is not None and (number := self.names.in_scope(self.scope)):
                self._request.set_route(number)
            self._sending = asyncio.get_running_loop().call_soon(self._send_head)
            return
        raise RuntimeError(f"the ASGI application sent {kind!r} {_SAID[self._phase]}")

    def whole_body(self) -> bytes | None:
        """The body, if it is all there and nothing of it was received."""
        return self._request.body()

    def answer(self, status: int, headers: Any, body: Any) -> None:
        """All of an answer, at once: as its start and its only part would be sent."""
        if self._phase != _NOTHING:
            raise RuntimeError(f"the ASGI application sent 'http.response.start' {_SAID[self._phase]}")
        self._head = {"status": status}
        if status == 500 and self._request.remaining_s == 0.0:
            status, headers, body = failure.LATE
        self._request.respond(status, headers, as_bytes(body), False)
        self._end()

    async def _first(self, message: MutableMapping[str, Any]) -> None:
        """The head, if it has not left, with the first of the body."""
        if self._problem is not None:
            raise self._problem
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
            if not more:
                status, headers = self._head["status"], self._head.get("headers", ())
                if status == 500 and self._request.remaining_s == 0.0:
                    # Its own handler saw a call end for the deadline: the same words, whoever is quicker.
                    status, headers, body = failure.LATE
                self._request.respond(status, headers, as_bytes(body), False)
                self._end()
                return
            self._start()
        self._phase = _PART
        await self._more(body, more)

    async def _more(self, body: Any, more: bool) -> None:
        request = self._request
        room = request.send(as_bytes(body), not more)
        if not more:
            self._end()
        elif room == _WAIT:
            await request.writable()
        elif room == _GONE:
            await asyncio.sleep(0)
            raise OSError("nobody takes this answer any more")
        elif not body:
            await asyncio.sleep(0)

    def _send_head(self) -> None:
        self._sending = None
        try:
            self._start()
        except Exception as error:
            self._problem = error

    def _start(self) -> None:
        self._request.start(self._head["status"], self._head.get("headers", ()))

    def _end(self) -> None:
        self._phase = _ALL
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result({"type": "http.disconnect"})

    def returned(self) -> None:
        """The application is done with the request."""
        if self._phase == _ALL:
            self._request.done()
        else:
            self.failed(self._problem or RuntimeError(f"the ASGI application returned {_SAID[self._phase]}"))

    def failed(self, error: BaseException) -> None:
        """The application raised."""
        children.end_if_came_back(error)
        if self._sending is not None:
            self._sending.cancel()
        if self._phase == _ALL:
            # An application's own handler of errors answers 500, then raises what it was.
            after = "user code raised after its answer"
            log.failure("request failed: user code raised" if self._head.get("status") == 500 else after, error)
            self._request.done()
        else:
            failure.failed(self._request, error)


_SAID = ("before the start of an answer", "after the start of an answer", "in the middle of an answer", "after the end")
