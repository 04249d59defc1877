"""Which functions of FastAPI and Starlette are done anew in this package, and whether they are those that are known.

A newer FastAPI that changes one of them is found before the first request, and so is a package that puts its own
function in the place of one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import fastapi
import starlette
from fastapi import routing
from fastapi._compat import v2 as _fields
from fastapi.dependencies import utils as _utils
from fastapi.encoders import jsonable_encoder
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette import _utils as _starlette_utils
from starlette import responses as _responses
from starlette import routing as _starlette_routing
from starlette._exception_handler import wrap_app_handling_exceptions
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from eagleray._user_code.compiled.framework import _hashes

_INCLUDED: Any = getattr(routing, "_IncludedRouter", None)
_OF_INCLUDED = ("effective_candidates", "_build_effective_context", "_match", "matches", "handle", "_handle_selected")


def _of_routes() -> dict[str, Any]:
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
        "APIRoute.matches": routing.APIRoute.matches,
        "APIWebSocketRoute.matches": routing.APIWebSocketRoute.matches,
        "APIRoute.handle": routing.APIRoute.handle,
        "APIRoute.get_route_handler": routing.APIRoute.get_route_handler,
        "Route.matches": _starlette_routing.Route.matches,
        "Mount.matches": _starlette_routing.Mount.matches,
        "WebSocketRoute.matches": _starlette_routing.WebSocketRoute.matches,
        "get_route_path": _starlette_utils.get_route_path,
        "request_response": routing.request_response,
        "get_request_handler": routing.get_request_handler,
        "serialize_response": routing.serialize_response,
        "run_endpoint_function": routing.run_endpoint_function,
        "_build_response_args": getattr(routing, "_build_response_args", None),
        **{f"_IncludedRouter.{name}": getattr(_INCLUDED, name, None) for name in _OF_INCLUDED},
        "_EffectiveRouteContext.matches": getattr(getattr(routing, "_EffectiveRouteContext", None), "matches", None),
        "solve_dependencies": _utils.solve_dependencies,
        "request_params_to_args": _utils.request_params_to_args,
        "_solve_generator": _utils._solve_generator,
        "_asynccontextmanager_with_shielded_exit": getattr(_utils, "_asynccontextmanager_with_shielded_exit", None),
        "request_body_to_args": _utils.request_body_to_args,
        "_get_multidict_value": _utils._get_multidict_value,
        "_validate_value_with_model_field": _utils._validate_value_with_model_field,
        "jsonable_encoder": jsonable_encoder,
        "ModelField.validate": _fields.ModelField.validate,
        "ModelField.serialize_json": _fields.ModelField.serialize_json,
        "ModelField.get_default": _fields.ModelField.get_default,
        "Response.__init__": _responses.Response.__init__,
        "Response.init_headers": _responses.Response.init_headers,
        "Response.__call__": _responses.Response.__call__,
        "JSONResponse.render": _responses.JSONResponse.render,
    }
    return {name: function for name, function in found.items() if function}


def _of_middleware() -> dict[str, Any]:
    """The same of layers that compiled routes take the place of."""
    found: dict[str, Any] = {
        "CORSMiddleware.__init__": CORSMiddleware.__init__,
        "CORSMiddleware.__call__": CORSMiddleware.__call__,
        "CORSMiddleware.is_allowed_origin": CORSMiddleware.is_allowed_origin,
        "CORSMiddleware.simple_response": CORSMiddleware.simple_response,
        "CORSMiddleware.send": CORSMiddleware.send,
        "CORSMiddleware.allow_explicit_origin": CORSMiddleware.allow_explicit_origin,
        "Headers.__init__": Headers.__init__,
        "Headers.__getitem__": Headers.__getitem__,
        "Headers.getlist": Headers.getlist,
        "MutableHeaders.__setitem__": MutableHeaders.__setitem__,
        "MutableHeaders.update": MutableHeaders.update,
        "TrustedHostMiddleware.__init__": TrustedHostMiddleware.__init__,
        "TrustedHostMiddleware.__call__": TrustedHostMiddleware.__call__,
        "parse_host_header": getattr(_starlette_utils, "parse_host_header", None),
    }
    return {name: function for name, function in found.items() if function}


ROUTES, MIDDLEWARE = _of_routes, _of_middleware


@functools.lru_cache(maxsize=1024)
def _hash(function: Any) -> str:
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]


def hashes() -> dict[str, str]:
    """Of the functions that are there now, by name."""
    return {name: _hash(function) for name, function in (_of_routes() | _of_middleware()).items()}


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
    return code is not None and code.co_name == name.rpartition(".")[2] and file_hash(code.co_filename) in _hashes.FILES


def differences(of: Callable[[], dict[str, Any]] = ROUTES) -> list[str]:
    """Names of functions whose source is not known; empty: all is as it was when the tests passed."""
    found = []
    for name, function in of().items():
        if _is_itself(function) and _is_of_known_file(name, function):
            continue
        try:
            known = _is_itself(function) and _hash(function) in _hashes.PASSED.get(name, ())
        except (OSError, TypeError):
            known = False  # there is no source
        if not known:
            found.append(name)
    return found


def versions() -> str:
    """Of what is installed, for the log."""
    return f"FastAPI {fastapi.__version__}, Starlette {starlette.__version__}"
