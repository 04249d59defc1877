"""What the compiled path knows of FastAPI and Starlette that they do not promise: the one module that imports it.

`differences` names the functions, among those that are done anew in this package, whose source is not one that the
tests have passed with. A newer FastAPI that changes one of them is so found before the first request, and also a
package that puts its own function in the place of one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import fastapi
import fastapi.exceptions
import starlette
from fastapi import applications as _applications
from fastapi import params, routing
from fastapi._compat import field_annotation_is_sequence
from fastapi._compat import v2 as _fields
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies import models as _models
from fastapi.dependencies import utils as _utils
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.security import api_key as _api_key
from fastapi.security import http as _http
from fastapi.security import oauth2 as _oauth2
from fastapi.utils import is_body_allowed_for_status_code
from starlette import _utils as _starlette_utils
from starlette import responses as _responses
from starlette import routing as _starlette_routing
from starlette._exception_handler import wrap_app_handling_exceptions
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware

from eagleray._user_code.compiled._hashes import FILES, PASSED

APIRoute = routing.APIRoute
Undefined = _fields.Undefined
IncludedRouter: Any = getattr(routing, "_IncludedRouter", ())
body_values = _utils.request_body_to_args
cache_key = _models._get_cache_key
endpoint_context = routing._extract_endpoint_context
is_async_generator = _models._is_async_gen_callable
is_body_allowed = is_body_allowed_for_status_code
is_coroutine = _models._is_coroutine_callable
is_generator = _models._is_gen_callable
WEBSOCKET_MATCHES = routing.APIWebSocketRoute.matches
jsonable = jsonable_encoder
missing_error = _fields.get_missing_field_error
model_of = _utils._get_param_model
aliases_of = _utils._get_param_aliases
oauth_scopes = _models._get_oauth_scopes
parameter_values = _utils.request_params_to_args
should_embed = _utils._should_embed_body_fields
enter_generator = _utils._solve_generator
with_location = _fields._regenerate_error_with_loc

__all__ = [
    "WEBSOCKET_MATCHES",
    "APIRoute",
    "AsyncExitStackMiddleware",
    "DefaultPlaceholder",
    "ExceptionMiddleware",
    "IncludedRouter",
    "RequestValidationError",
    "ResponseValidationError",
    "ServerErrorMiddleware",
    "Undefined",
    "aliases_of",
    "body_values",
    "cache_key",
    "differences",
    "endpoint_context",
    "enter_generator",
    "is_async_generator",
    "is_body_allowed",
    "is_coroutine",
    "is_generator",
    "is_standard_router",
    "jsonable",
    "missing_error",
    "model_of",
    "oauth_scopes",
    "override",
    "parameter_values",
    "params",
    "should_embed",
    "swallowed_error",
    "takes_several",
    "with_location",
    "wrap_app_handling_exceptions",
]


_OF_INCLUDED = ("effective_candidates", "_build_effective_context", "_match", "matches", "handle", "_handle_selected")


def _relied_on() -> dict[str, Any]:
    """The functions that are done anew here, or whose effects are."""
    found: dict[str, Any] = {
        "FastAPI.__call__": fastapi.FastAPI.__call__,
        "FastAPI.build_middleware_stack": fastapi.FastAPI.build_middleware_stack,
        "Starlette.__call__": Starlette.__call__,
        "ServerErrorMiddleware.__call__": ServerErrorMiddleware.__call__,
        "ExceptionMiddleware.__call__": ExceptionMiddleware.__call__,
        "AsyncExitStackMiddleware.__call__": AsyncExitStackMiddleware.__call__,
        "wrap_app_handling_exceptions": wrap_app_handling_exceptions,
        "APIRouter.app": routing.APIRouter.app,
        "APIRouter.handle": routing.APIRouter.handle,
        "APIRouter.matches": routing.APIRouter.matches,
        "APIRoute.matches": APIRoute.matches,
        "APIWebSocketRoute.matches": WEBSOCKET_MATCHES,
        "APIRoute.handle": APIRoute.handle,
        "APIRoute.get_route_handler": APIRoute.get_route_handler,
        "Route.matches": _starlette_routing.Route.matches,
        "Mount.matches": _starlette_routing.Mount.matches,
        "WebSocketRoute.matches": _starlette_routing.WebSocketRoute.matches,
        "get_route_path": _starlette_utils.get_route_path,
        "request_response": routing.request_response,
        "get_request_handler": routing.get_request_handler,
        "serialize_response": routing.serialize_response,
        "run_endpoint_function": routing.run_endpoint_function,
        "_build_response_args": getattr(routing, "_build_response_args", None),
        **{f"_IncludedRouter.{name}": getattr(IncludedRouter, name, None) for name in _OF_INCLUDED},
        "_EffectiveRouteContext.matches": getattr(getattr(routing, "_EffectiveRouteContext", None), "matches", None),
        "solve_dependencies": _utils.solve_dependencies,
        "request_params_to_args": parameter_values,
        "_solve_generator": enter_generator,
        "_asynccontextmanager_with_shielded_exit": getattr(_utils, "_asynccontextmanager_with_shielded_exit", None),
        "request_body_to_args": body_values,
        "_get_multidict_value": _utils._get_multidict_value,
        "_validate_value_with_model_field": _utils._validate_value_with_model_field,
        "jsonable_encoder": jsonable,
        "ModelField.validate": _fields.ModelField.validate,
        "ModelField.serialize_json": _fields.ModelField.serialize_json,
        "ModelField.get_default": _fields.ModelField.get_default,
        "Response.__init__": _responses.Response.__init__,
        "Response.init_headers": _responses.Response.init_headers,
        "Response.__call__": _responses.Response.__call__,
        "JSONResponse.render": _responses.JSONResponse.render,
    }
    return {name: function for name, function in found.items() if function}


@functools.lru_cache(maxsize=1024)
def _hash(function: Any) -> str:
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]


def hashes() -> dict[str, str]:
    """Of the functions that are there now, by name."""
    return {name: _hash(function) for name, function in _relied_on().items()}


@functools.lru_cache(maxsize=64)
def file_hash(name: str) -> str:
    """Of a source file; empty: it is not there."""
    try:
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


# What the standard library puts around a function that it makes a context manager of.
_MANAGER = contextlib.asynccontextmanager(lambda: None).__code__  # type: ignore[arg-type,return-value]


def _is_itself(function: Any) -> bool:
    """Whether it is the function that its source shows, and none that instrumentation has put around it."""
    # A proxy shows the code of what it is around, and a wrapper is unwrapped when its source is asked for.
    if type(function) is not FunctionType:
        return False
    return "__wrapped__" not in vars(function) or function.__code__ is _MANAGER


def _is_of_known_file(name: str, function: Any) -> bool:
    """Whether it is the function of that name in a file that is known as a whole, which is quicker to find out."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_name == name.rpartition(".")[2] and file_hash(code.co_filename) in FILES


def differences() -> list[str]:
    """Names of functions whose source is not known; empty: all is as it was when the tests passed."""
    found = []
    for name, function in _relied_on().items():
        if _is_itself(function) and _is_of_known_file(name, function):
            continue
        try:
            known = _is_itself(function) and _hash(function) in PASSED.get(name, ())
        except (OSError, TypeError):
            known = False  # there is no source
        if not known:
            found.append(name)
    return found


def versions() -> str:
    """Of what is installed, for the log."""
    return f"FastAPI {fastapi.__version__}, Starlette {starlette.__version__}"


# --- the application ------------------------------------------------------------------------------------------------

# The layers between the application and its router when the user adds none, outermost first.
_LAYERS = (
    ServerErrorMiddleware,
    *(
        kind
        for kind in (
            getattr(_applications, "ExceptionTelemetryMiddleware", None),
            getattr(_applications, "AppBodyLimitMiddleware", None),
        )
        if kind is not None
    ),
    ExceptionMiddleware,
    AsyncExitStackMiddleware,
)

# Layers that are looked through, at most.
_DEPTH = 100


def layers(app: Any) -> list[Any] | None:
    """The layers of its own middleware, outermost first; None: there are others, or in another order."""
    found: list[Any] = []
    layer = app.middleware_stack
    for kind in _LAYERS:
        if type(layer) is not kind:
            return None
        found.append(layer)
        layer = layer.app
    return found if layer is app.router else None


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


async def swallowed_error() -> Exception:
    """What FastAPI raises when a dependency has swallowed the exception that ended the request: raised by itself."""

    async def swallow(request: Any) -> Any:
        request.scope["fastapi_inner_astack"].push(lambda *_: True)
        raise RuntimeError

    try:
        await routing.request_response(swallow)({"type": "http"}, _nothing, _nothing)  # type: ignore[arg-type]
    except fastapi.exceptions.FastAPIError as error:
        return error.with_traceback(None)
    return RuntimeError("an exception was swallowed")


async def _nothing(*_: Any) -> None:
    pass


def override(dependant: Any, provider: Any) -> Any:
    """A dependency as it is with the overrides of now."""
    return _utils.get_dependant(
        path=dependant.path,
        call=provider.dependency_overrides.get(dependant.call, dependant.call),
        name=dependant.name,
        parent_oauth_scopes=oauth_scopes(dependant=dependant),
        scope=dependant.scope,
        **({"concurrency": dependant.concurrency} if hasattr(dependant, "concurrency") else {}),
    )


def takes_several(field: Any) -> bool:
    """Whether a parameter takes all values of its name, and not the first or last."""
    return bool(field_annotation_is_sequence(field.field_info.annotation))


# --- routes ---------------------------------------------------------------------------------------------------------


def is_standard_router(router: Any) -> bool:
    """Whether a router finds and calls its routes by FastAPI's own functions."""
    return type(router) is routing.APIRouter and not {"app", "handle", "matches"} & vars(router).keys()


def _code_in(function: Any, name: str) -> CodeType | None:
    """The code of a function that `function` makes."""
    parts = getattr(getattr(function, "__code__", None), "co_consts", ())
    return next((one for one in parts if isinstance(one, CodeType) and one.co_name == name), None)


_OUTER = _code_in(routing.request_response, "app")
_INNER = _code_in(routing.get_request_handler, "app")
# What a plan takes of a route, by what the function that answers the route calls it.
_TAKEN = {
    name: name
    for name in (
        *("body_field", "dependant", "dependency_overrides_provider", "response_class", "response_field"),
        *("response_model_by_alias", "response_model_exclude", "response_model_exclude_defaults"),
        *("response_model_exclude_none", "response_model_exclude_unset", "response_model_include", "status_code"),
    )
} | {"embed_body_fields": "_embed_body_fields"}


def _held(function: Any, code: CodeType | None) -> dict[str, Any] | None:
    """What a function with this code holds of the one that made it; None: it is another function."""
    if type(function) is not FunctionType or function.__code__ is not code:
        return None
    cells = function.__closure__ or ()
    return {name: cell.cell_contents for name, cell in zip(code.co_freevars, cells, strict=True)}


def is_standard_handler(route: Any, seen: Any) -> bool:
    """Whether what answers the route is FastAPI's own function around the endpoint, with nothing around it.

    Names are no proof: what `functools.wraps` makes has those of what it is around. And what the route says now is not
    what the function was made with, if somebody has changed the route since.
    """
    if {"handle", "get_route_handler"} & vars(route).keys():
        return False
    outer = _held(seen.app, _OUTER)
    inner = None if outer is None else _held(outer.get("f"), _INNER)
    return inner is not None and all(inner.get(name, inner) is getattr(seen, own) for name, own in _TAKEN.items())


def watched(router: Any) -> list[Any]:
    """The router and all that are included in it, at any depth, each once."""
    found: list[Any] = []
    left = [router]
    while left:
        one = left.pop()
        if any(one is other for other in found):
            continue
        found.append(one)
        if IncludedRouter:
            left += [route.original_router for route in one.routes if type(route) is IncludedRouter]
    return found


SECURITY = frozenset(
    kind
    for module in (_api_key, _http, _oauth2)
    for kind in vars(module).values()
    if isinstance(kind, type) and kind.__module__ == module.__name__
)
"""FastAPI's own security schemes: of the request that they are given they read headers, cookies and query only."""


def render_json(value: Any) -> bytes:
    """What `JSONResponse` makes of plain data."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=None, separators=(",", ":")).encode("utf-8")
