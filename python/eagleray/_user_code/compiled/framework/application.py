"""What is around the routes of an application: its layers of middleware, telemetry, what makes it another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastapi
from fastapi import applications as _applications
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware

from eagleray._user_code.compiled.framework.middleware import is_known
from eagleray._user_code.compiled.framework.routes import is_standard_router

# The layers between the application and its router when the user adds none, outermost first; the user's are between
# those above and those below.
_ABOVE = (
    ServerErrorMiddleware,
    *(
        kind
        for kind in (
            getattr(_applications, "ExceptionTelemetryMiddleware", None),
            getattr(_applications, "AppBodyLimitMiddleware", None),
        )
        if kind is not None
    ),
)
_BELOW = (ExceptionMiddleware, AsyncExitStackMiddleware)

# Layers that are looked through, at most.
_DEPTH = 100


def layers(app: Any) -> list[Any] | None:
    """All layers, outermost first; None: there are unknown ones, or in another order."""
    found: list[Any] = []
    layer = app.middleware_stack
    for _ in range(_DEPTH):
        if layer is app.router:
            break
        found.append(layer)
        layer = getattr(layer, "app", None)
    of_user = found[len(_ABOVE) : -len(_BELOW)]
    is_own = layer is app.router and tuple(map(type, found)) == (*_ABOVE, *map(type, of_user), *_BELOW)
    is_own = is_own and len(of_user) == len(set(map(type, of_user)))
    return found if is_own and all(map(is_known, of_user)) else None


def exception_layer(app: Any) -> Any | None:
    """The layer below all middleware of the user's; None: it is not found, or there is more below it."""
    layer = app.middleware_stack
    for _ in range(_DEPTH):
        if type(layer) is ExceptionMiddleware:
            below: Any = layer.app
            found = type(below) is AsyncExitStackMiddleware and below.app is app.router
            return layer if found else None
        layer = getattr(layer, "app", None)
    return None


def handlers_of(layer: Any) -> tuple[Any, Any]:
    """Exception handlers by class and by status, as that layer hands them on."""
    return layer._exception_handlers, layer._status_handlers


def why_not(app: Any) -> str:
    """Why no route of `app` can be compiled, in a few words; empty: they may be."""
    kind, router = type(app), app.router
    own = vars(app)
    if "build_middleware_stack" in own or "router" not in own:
        return "changed by instrumentation"
    if kind.__call__ is not fastapi.FastAPI.__call__ or (
        kind.build_middleware_stack is not fastapi.FastAPI.build_middleware_stack
    ):
        return "own application class"
    if not is_standard_router(router) or getattr(router, "middleware_stack", None) != router.app:
        return "own router class"
    if app.root_path:
        return "root path set"
    if app.middleware_stack is None:
        return "not yet started"
    if getattr(app, "max_body_size", None) is not None:
        return "body size limit"
    if exception_layer(app) is None:
        return "middleware without app"
    if not telemetry_is_off(app):
        return "telemetry is on"
    return ""


def telemetry_is_off(app: Any) -> bool:
    """Whether FastAPI's own telemetry would do nothing for a request that comes now."""
    native = getattr(app, "_native_telemetry", None)
    return native is None or not native.enabled()


def _provider_globals() -> tuple[tuple[dict[str, Any], str], ...]:
    found = []
    for module, name in (
        ("opentelemetry.trace", "_TRACER_PROVIDER"),
        ("opentelemetry.metrics._internal", "_METER_PROVIDER"),
        ("opentelemetry._logs._internal", "_LOGGER_PROVIDER"),
    ):
        imported: Any = __import__(module, fromlist=["_"])
        if name not in vars(imported):
            return ()
        found.append((vars(imported), name))
    return tuple(found)


def telemetry_check(app: Any) -> Callable[[], bool]:
    """A cheap form of `telemetry_is_off` for each request: off while no global provider is set."""
    native = getattr(app, "_native_telemetry", None)
    if native is None:
        return lambda: True
    globals_ = _provider_globals()
    if len(globals_) != 3 or any(values[name] is not None for values, name in globals_):
        return lambda: not native.enabled()
    (traces, trace), (meters, meter), (logs, log) = globals_
    return lambda: traces[trace] is None and meters[meter] is None and logs[log] is None
