"""One request while it is answered: what has been read of it, and what user code has been given.

Starlette's objects are made when somebody looks. What FastAPI writes into the scope on the way to an endpoint is
written here before user code can see the scope.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import anyio.to_thread
from fastapi import BackgroundTasks
from starlette.requests import Request
from starlette.responses import Response

from eagleray._user_code.compiled import framework

if TYPE_CHECKING:
    from eagleray._user_code.compiled.plan import Plan


in_thread = anyio.to_thread.run_sync


class Exchange(Protocol):
    """The server's side of a request."""

    async def receive(self) -> Any:
        """ASGI's."""

    async def send(self, message: Any, /) -> None:
        """ASGI's."""

    def whole_body(self) -> bytes | None:
        """The body, if all of it is there; None: it has to be received."""

    def answer(self, status: int, headers: Any, body: Any) -> Awaitable[None] | None:
        """All of an answer; it is sent when this returns, or when what it returns has been awaited."""


class Run:
    """See the module."""

    __slots__ = (
        "_request",
        "background",
        "body",
        "cache",
        "exchange",
        "files",
        "function_stack",
        "json",
        "path_params",
        "plan",
        "raw",
        "request_stack",
        "response",
        "scope",
        "started",
    )

    # Of a plan that is `whole`.
    files: AsyncExitStack

    def __init__(self, plan: Plan, path_params: dict[str, Any], scope: dict[str, Any], exchange: Exchange) -> None:
        self.plan = plan
        self.path_params = path_params
        self.scope = scope
        self.exchange = exchange
        # The bytes of the body, and their JSON, once they were read.
        self.raw: bytes | None = None
        self.json: Any = framework.Undefined
        # What parameters are taken from.
        self.body: Any = framework.Undefined
        self.cache: dict[Any, Any] = {}
        self.response: Response | None = None
        self.background: BackgroundTasks | None = None
        # Whether a part of the answer has been given to the server.
        self.started = False
        # By which dependencies with `yield` are left: when the answer was sent, and before it is.
        self.request_stack: AsyncExitStack | None = None
        self.function_stack: AsyncExitStack | None = None
        self._request: Request | None = None

    @property
    def request(self) -> Request:
        """The request that user code gets, always the same."""
        made = self._request
        if made is None:
            self.fill_scope()
            made = self._request = Request(self.scope, self.exchange.receive, self.exchange.send)
            if self.raw is not None:
                made._body = self.raw
                made._stream_consumed = True
                if self.json is not framework.Undefined:
                    made._json = self.json
        return made

    def fill_scope(self) -> None:
        """Writes what the way to the endpoint leaves in a scope."""
        scope, plan = self.scope, self.plan
        if "router" in scope:
            return
        app = plan.app
        scope["app"] = app
        scope["starlette.exception_handlers"] = plan.handlers
        scope["router"] = app.router
        scope["route"] = plan.original
        scope["endpoint"] = plan.endpoint
        scope["path_params"] = self.path_params
        if plan.context is not None:
            scope["fastapi"] = {"included_router": plan.inclusion, "effective_route_context": plan.context}
        elif plan.probed:
            scope["fastapi"] = {}

    def stacks(self) -> tuple[AsyncExitStack, AsyncExitStack]:
        """Those of the request and of the function; one that the plan did not foresee is made, and left like others."""
        of_request, of_function = self.request_stack, self.function_stack
        if of_request is None:
            of_request = self.request_stack = AsyncExitStack()
        if of_function is None:
            of_function = self.function_stack = AsyncExitStack()
        return of_request, of_function

    def sub_response(self) -> Response:
        """What user code sets headers, cookies and a status on."""
        made = self.response
        if made is None:
            made = self.response = Response()
            del made.headers["content-length"]
            made.status_code = None  # type: ignore[assignment]  # as FastAPI has it: nothing is set yet
        return made

    def tasks(self) -> BackgroundTasks:
        """What user code adds background tasks to."""
        if self.background is None:
            self.background = BackgroundTasks()
        return self.background

    async def send(self, message: Any) -> None:
        """Sends, and notes that the answer has begun."""
        if message["type"] == "http.response.start":
            self.started = True
        await self.exchange.send(message)
