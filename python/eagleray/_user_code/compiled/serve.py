"""The compiled routes of one application, and how a request to one of them runs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from eagleray import _core
from eagleray._user_code.compiled import body, errors, framework, middleware, reply
from eagleray._user_code.compiled.plan import ASYNC, Plan
from eagleray._user_code.compiled.run import Exchange, Run, in_thread
from eagleray._user_code.compiled.solve import solve, solve_leaf
from eagleray._user_code.compiled.table import Table

same_items = _core.same_items

Report = tuple[int, int, str, list[tuple[str, str]]]
"""How many routes are compiled and how many are not, why none is, and the first of the others with why not."""
# Of others in a report, and characters of a path.
MOST, LONGEST = 50, 200


def compile_routes(app: Any) -> Compiled:
    """What can be compiled of a FastAPI application that has started."""
    changed = framework.differences()
    if changed:
        return Compiled(app, f"{framework.versions()} not known: {', '.join(changed[:3])}")
    return Compiled(app, framework.why_not(app))


class Compiled:
    """See the module. With `reason`, nothing is compiled."""

    def __init__(self, app: Any, reason: str = "") -> None:
        self.reason = reason
        self._app = app
        self._router = app.router
        self._stack = app.middleware_stack
        self._table = None if reason else Table(app)
        if self._table is None:
            return
        layers = framework.layers(app)
        self.is_whole = layers is not None
        """Whether a compiled route takes the place of the application, and not only of what is below its middleware."""
        # For exceptions; what is left when files are closed needs none.
        self._layers = [middleware.known(layer) for layer in (layers or [])[:-1]]
        self._passing = [layer.passes for layer in self._layers if type(layer) in middleware.KNOWN]
        self._cors = next((layer for layer in self._layers if type(layer) is middleware.Cors), None)
        self._telemetry_is_off = framework.telemetry_check(app)
        # One that is put in the place of another leaves the number of routes as it was, so each is looked at.
        self._watched = [
            (one, one.routes, tuple(one.routes), getattr(one, "_routes_version", None))
            for one in framework.watched(app.router)
        ]

    @property
    def plans(self) -> list[Plan]:
        """Of all routes that have one."""
        entries = [] if self._table is None else self._table.entries
        return [entry.plan for entry in entries if entry is not None and entry.plan is not None]

    def summary(self) -> str:
        """For the log: the routes that are compiled, and of the others why not."""
        if self._table is None:
            return f"FastAPI routes are called as ASGI: {self.reason}"
        entries = [entry for entry in self._table.entries if entry is not None]
        compiled = [f"{','.join(sorted(one.methods))} {one.path}" for one in entries if one.plan is not None]
        others = [f"{one.path} ({one.reason})" for one in entries if one.reason]
        below = "" if self.is_whole else " below its middleware"
        count = f"{len(compiled)} FastAPI route{'' if len(compiled) == 1 else 's'} compiled{below}"
        text = f"{count}: {', '.join(compiled[:20])}" if compiled else count
        if len(compiled) > 20:
            text += f" and {len(compiled) - 20} more"
        return f"{text}; called as ASGI: {', '.join(others[:20])}" if others else text

    def report(self) -> Report:
        """The same for the status, where it is short."""
        if self._table is None:
            return 0, 0, self.reason, []
        others = [(one.path[:LONGEST], one.reason) for one in self._table.entries if one is not None and one.reason]
        return len(self.plans), len(others), "", others[:MOST]

    def find(self, scope: dict[str, Any]) -> tuple[Plan, dict[str, Any]] | None:
        """The plan for a request and its path parameters; None: the application is to be called as ASGI."""
        if self._table is None or not self.is_current():
            return None
        try:
            for passes in self._passing:
                if not passes(scope):
                    return None
            path = self._path(scope) if scope.get("root_path") else scope["path"]
            plan, values = self._table.find(scope["method"], path)
        except Exception:
            return None  # a converter of the user's raised: it does so again where FastAPI expects it
        return None if plan is None or plan.overridden() else (plan, values)

    def _path(self, scope: dict[str, Any]) -> str:
        """Where Starlette looks for a route."""
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if not root or not path.startswith(root):
            return path
        if path == root:
            return ""
        return path[len(root) :] if path[len(root)] == "/" else path

    def why_not(self, scope: dict[str, Any]) -> str:
        """Why a request is not answered by a compiled route, in a few words."""
        if self._table is None:
            return self.reason
        if not self.is_current():
            return "changed after the start"
        if not all(passes(scope) for passes in self._passing):
            return "answered by middleware"
        for entry in self._table.entries:
            if entry is None:
                return "unknown kind of route"
            if (not entry.methods or scope["method"] in entry.methods) and entry.match(self._path(scope)):
                return entry.reason or ("dependencies overridden" if entry.plan else "no FastAPI route")
        return "no route matches"

    def is_current(self) -> bool:
        """Whether the application is as it was when its routes were compiled."""
        if self._table is None:
            return False
        app = self._app
        if not self._telemetry_is_off() or app.root_path or app.router is not self._router:
            return False
        if app.middleware_stack is not self._stack:
            return False
        for router, routes, known, version in self._watched:
            if router.routes is not routes or not same_items(routes, known):
                return False
            if getattr(router, "_routes_version", None) != version:
                return False
        return True

    async def run(self, plan: Plan, path_params: dict[str, Any], scope: dict[str, Any], exchange: Exchange) -> None:
        """Answers a request; what it raises is what the application would raise."""
        if self._cors is not None:
            exchange = middleware.Answering(exchange, self._cors, scope)
        run = Run(plan, path_params, scope, exchange)
        if not self.is_whole:
            run.fill_scope()  # middleware looks at it too, when the answer comes
        if plan.whole:
            await self._run_whole(run)
            return
        try:
            if plan.enters:
                await _enter_and_answer(run)
            else:
                await _answer(run)
        except Exception as error:
            await errors.handle(self._layers, run, error)

    async def _run_whole(self, run: Run) -> None:
        """With the exit stacks that dependencies are left by, where FastAPI has them."""
        scope = run.scope
        async with AsyncExitStack() as run.files:
            scope["fastapi_middleware_astack"] = run.files
            run.fill_scope()
            try:
                sent = False
                async with AsyncExitStack() as run.request_stack:
                    scope["fastapi_inner_astack"] = run.request_stack
                    async with AsyncExitStack() as run.function_stack:
                        scope["fastapi_function_astack"] = run.function_stack
                        response = await _made(run)
                    await reply.send(run, response)
                    sent = True
                if not sent:
                    raise await framework.swallowed_error()
            except Exception as error:
                await errors.handle(self._layers, run, error)


class Below:
    """The compiled routes below middleware of the user's: in the place of the router, and called as ASGI like it.

    All layers stay as they are; the innermost is given this to call.
    """

    def __init__(self, compiled: Compiled, app: Any) -> None:
        self._compiled = compiled
        self.app = app

    @classmethod
    def put(cls, compiled: Compiled, app: Any) -> None:
        """Puts it below the middleware of `app`."""
        layer = framework.exception_layer(app)
        assert layer is not None
        layer.app = cls(compiled, layer.app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        # A scope that was routed before has traces of that, which FastAPI would take into account.
        if scope["type"] == "http" and "router" not in scope and "path_params" not in scope:
            found = self._compiled.find(scope)
            if found is not None:
                await self._compiled.run(*found, scope, Messages(receive, send))
                return
        await self.app(scope, receive, send)


class Messages:
    """A server that is ASGI."""

    __slots__ = ("receive", "send")

    def __init__(self, receive: Any, send: Any) -> None:
        self.receive = receive
        self.send = send

    def whole_body(self) -> bytes | None:
        """None: it has to be received."""
        return None

    async def answer(self, status: int, headers: Any, body: Any) -> None:
        """As Starlette sends a whole answer."""
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


# What is left early may swallow the error that ended the endpoint. FastAPI then fails at its variable `response`, which
# has no value, and says so by that name; the variable has this name here too.


async def _answer(run: Run) -> None:
    """Without exit stacks, unless a dependency has put one with `yield` in the place of a later one."""
    failure = None
    try:
        response = await _made(run)
    except BaseException as error:
        if run.request_stack is None:
            raise
        failure = error
    if run.request_stack is None:
        await reply.send(run, response)
        return
    of_request, of_function = run.stacks()
    sent = False
    async with of_request:
        async with of_function:
            if failure is not None:
                try:
                    raise failure
                finally:
                    failure = None  # or this frame and the error would keep each other until garbage is collected
        await reply.send(run, response)
        sent = True
    if not sent:
        raise await framework.swallowed_error()


async def _enter_and_answer(run: Run) -> None:
    """With the exit stacks that are used, where user code cannot look at them."""
    sent = False
    async with AsyncExitStack() as run.request_stack:
        if run.plan.is_left_early:
            async with AsyncExitStack() as run.function_stack:
                response = await _made(run)
        else:
            response = await _made_and_left(run)
        await reply.send(run, response)
        sent = True
    if not sent:
        raise await framework.swallowed_error()


async def _made_and_left(run: Run) -> Any:
    """What is to be answered, when what is left early has been; the plan knows of nothing such."""
    failure = None
    try:
        response = await _made(run)
    except BaseException as error:
        if run.function_stack is None:
            raise
        failure = error
    if run.function_stack is not None:
        async with run.function_stack:
            if failure is not None:
                try:
                    raise failure
                finally:
                    failure = None  # as in `_answer`
    return response


async def _made(run: Run) -> Any:
    """Reads the request, calls what is to be called, and makes the answer."""
    plan = run.plan
    if plan.reads_body:
        await body.read(run)
    node = plan.node
    values, wrong = await solve(node, run) if node.needs_loop(run) else solve_leaf(node, run)
    if wrong:
        raise body.validation_error(run, wrong, run.body)
    if node.kind == ASYNC:
        result = await node.call(**values)
    else:
        result = await in_thread(partial(node.call, **values))
    return await plan.answer.make(run, result)
