"""What a route needs, found out once: a `Plan`, or three words why there is none.

A plan holds what FastAPI computes for each request although it never changes: which parameters there are and how each
is validated, which dependencies, of which kind and under which key they are cached, how the answer is made. FastAPI
has parsed the declarations; nothing of that is done again here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eagleray._user_code.compiled import framework
from eagleray._user_code.compiled.body import Body
from eagleray._user_code.compiled.parameters import Parameters
from eagleray._user_code.compiled.run import Run

ASYNC, SYNC, GENERATOR = range(3)


class Node:
    """A function with parameters: an endpoint or a dependency."""

    __slots__ = (
        "background_name",
        "body",
        "cache_key",
        "call",
        "concurrency",
        "connection_name",
        "dependant",
        "embed",
        "in_function",
        "injects",
        "is_async_generator",
        "kind",
        "name",
        "parameters",
        "request_name",
        "response_name",
        "scopes",
        "scopes_name",
        "subs",
        "use_cache",
    )

    def __init__(self, dependant: Any, embed: bool) -> None:
        self.dependant = dependant
        self.call: Callable[..., Any] = dependant.call
        self.name: str | None = dependant.name
        if framework.is_generator(self.call) or framework.is_async_generator(self.call):
            self.kind = GENERATOR
        else:
            self.kind = ASYNC if framework.is_coroutine(self.call) else SYNC
        self.is_async_generator = framework.is_async_generator(self.call)
        self.use_cache: bool = dependant.use_cache
        self.cache_key: Any = framework.cache_key(dependant=dependant)
        self.in_function: bool = dependant.scope == "function"
        self.concurrency: Any = getattr(dependant, "concurrency", None)
        self.subs = [Node(sub, embed) for sub in dependant.dependencies]
        self.parameters = Parameters(dependant)
        self.body = Body(dependant.body_params, embed) if dependant.body_params else None
        self.embed = embed
        self.request_name: str | None = dependant.request_param_name
        self.connection_name: str | None = dependant.http_connection_param_name
        self.response_name: str | None = dependant.response_param_name
        self.background_name: str | None = dependant.background_tasks_param_name
        self.scopes_name: str | None = dependant.security_scopes_param_name
        self.scopes: list[str] = framework.oauth_scopes(dependant=dependant) if self.scopes_name else []
        self.injects = bool(
            self.request_name or self.connection_name or self.response_name or self.background_name or self.scopes_name
        )

    @property
    def sees_request(self) -> bool:
        """Whether user code gets the request, here or below; FastAPI's own security schemes are none."""
        own = bool(self.request_name or self.connection_name) and type(self.call) not in framework.SECURITY
        return own or any(sub.sees_request for sub in self.subs)

    @property
    def has_generator(self) -> bool:
        """Whether something is to be left when the request is over."""
        return any(sub.kind == GENERATOR or sub.has_generator for sub in self.subs)

    @property
    def is_left_early(self) -> bool:
        """Whether something is to be left before the answer is sent."""
        return any(sub.in_function or sub.is_left_early for sub in self.subs)

    def needs_loop(self, run: Run) -> bool:
        """Whether finding its arguments may have to wait."""
        return bool(self.subs) or (run.plan.is_form and self.body is not None)


class Plan:
    """How a request to a route is answered. See the module."""

    __slots__ = (
        "answer",
        "app",
        "context",
        "endpoint",
        "enters",
        "handlers",
        "inclusion",
        "is_form",
        "is_left_early",
        "node",
        "number",
        "original",
        "overrides",
        "path",
        "path_format",
        "probed",
        "reads_body",
        "strict",
        "whole",
    )

    def __init__(self, app: Any, seen: Any, original: Any, context: Any, inclusion: Any, probed: bool) -> None:
        from eagleray._user_code.compiled.reply import Answer

        self.app = app
        self.handlers = framework.handlers_of(framework.exception_layer(app))
        self.original = original
        self.context = context
        self.inclusion = inclusion
        # Whether routers were asked before it, which leaves a trace in the scope.
        self.probed = probed
        self.endpoint = seen.endpoint
        self.node = Node(seen.dependant, seen._embed_body_fields)
        self.path_format: str = seen.dependant.path
        # As it is declared, behind the prefixes of its routers.
        self.path: str = (getattr(context, "starlette_route", None) or seen).path
        # Of the route, for the router; 0: none.
        self.number = 0
        self.overrides = seen.dependency_overrides_provider
        self.reads_body = bool(seen.body_field)
        self.is_form = self.reads_body and isinstance(seen.body_field.field_info, framework.params.Form)
        strict = seen.strict_content_type
        self.strict: bool = strict.value if isinstance(strict, framework.DefaultPlaceholder) else strict
        self.answer = Answer(seen, self.node.kind == ASYNC)
        # With exit stacks and a scope as FastAPI makes them, since user code can look.
        self.whole = self.is_form or self.node.sees_request
        # With those exit stacks only that are used.
        self.enters = self.node.has_generator or self.node.is_left_early
        self.is_left_early = self.node.is_left_early

    def overridden(self) -> bool:
        """Whether somebody has put other dependencies in the place of those that the plan knows."""
        return self.overrides is not None and bool(self.overrides.dependency_overrides)


def plan_of(app: Any, route: Any, context: Any, inclusion: Any, probed: bool) -> tuple[Plan | None, str]:
    """The plan of a route, or why there is none.

    Args:
        app: The application.
        route: The route as it was declared.
        context: What it is in an included router; None: it is the application's own.
        inclusion: The included router.
        probed: Whether routers that are included before it were asked whether they match.
    """
    seen = route if context is None else context
    reason = _why_not(app, route, seen)
    if reason:
        return None, reason
    return Plan(app, seen, route, context, inclusion, probed), ""


def _why_not(app: Any, route: Any, seen: Any) -> str:
    if not framework.is_standard_handler(route, seen):
        limited = getattr(seen, "max_body_size", None) is not None
        return "body size limit" if limited else "own request handler"
    call = seen.dependant.call
    if call is None or call is not seen.endpoint:
        return "endpoint was wrapped"
    if seen.is_sse_stream or seen.is_json_stream or framework.is_generator(call) or framework.is_async_generator(call):
        return "streams its answer"
    is_form = seen.body_field and isinstance(seen.body_field.field_info, framework.params.Form)
    if is_form and any(getattr(one, "form_limits", None) for one in (route, seen, *framework.watched(app.router))):
        return "form limits set"
    return ""
