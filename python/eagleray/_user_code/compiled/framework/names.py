"""Names of FastAPI and Starlette that this package uses, and what is made of a few of them."""

from __future__ import annotations

import json
from typing import Any

import fastapi
import fastapi.exceptions
from fastapi import params, routing
from fastapi._compat import field_annotation_is_sequence
from fastapi._compat import v2 as _fields
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies import models as _models
from fastapi.dependencies import utils as _utils
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.security import api_key as _api_key
from fastapi.security import http as _http
from fastapi.security import oauth2 as _oauth2
from fastapi.utils import is_body_allowed_for_status_code
from starlette import _utils as _starlette_utils
from starlette._exception_handler import wrap_app_handling_exceptions
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

__all__ = [
    "SECURITY",
    "WEBSOCKET_MATCHES",
    "APIRoute",
    "CORSMiddleware",
    "DefaultPlaceholder",
    "IncludedRouter",
    "RequestValidationError",
    "ResponseValidationError",
    "TrustedHostMiddleware",
    "Undefined",
    "aliases_of",
    "body_values",
    "cache_key",
    "endpoint_context",
    "enter_generator",
    "is_async_generator",
    "is_body_allowed",
    "is_coroutine",
    "is_generator",
    "jsonable",
    "missing_error",
    "model_of",
    "oauth_scopes",
    "override",
    "parameter_values",
    "params",
    "parse_host_header",
    "render_json",
    "should_embed",
    "swallowed_error",
    "takes_several",
    "with_location",
    "wrap_app_handling_exceptions",
]

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
# An older Starlette has none, and its layer is not known.
parse_host_header: Any = getattr(_starlette_utils, "parse_host_header", None)
parameter_values = _utils.request_params_to_args
should_embed = _utils._should_embed_body_fields
enter_generator = _utils._solve_generator
with_location = _fields._regenerate_error_with_loc


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
