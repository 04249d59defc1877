"""What the compiled path knows of FastAPI and Starlette that they do not promise: the one package that imports it.

`names` are the private names that the rest of the compiled path uses. `functions` tells whether what is done anew there
is still what the tests have passed with, by hashes of sources. `application` knows what stands around the routes, and
`routes` what a router or route of FastAPI's own looks like.
"""

from __future__ import annotations

from eagleray._user_code.compiled.framework.application import (
    exception_layer,
    handlers_of,
    layers,
    telemetry_check,
    why_not,
)
from eagleray._user_code.compiled.framework.functions import differences, hashes, versions
from eagleray._user_code.compiled.framework.names import (
    SECURITY,
    WEBSOCKET_MATCHES,
    APIRoute,
    DefaultPlaceholder,
    IncludedRouter,
    RequestValidationError,
    ResponseValidationError,
    Undefined,
    aliases_of,
    body_values,
    cache_key,
    endpoint_context,
    enter_generator,
    is_async_generator,
    is_body_allowed,
    is_coroutine,
    is_generator,
    jsonable,
    missing_error,
    model_of,
    oauth_scopes,
    override,
    parameter_values,
    params,
    render_json,
    should_embed,
    swallowed_error,
    takes_several,
    with_location,
    wrap_app_handling_exceptions,
)
from eagleray._user_code.compiled.framework.routes import is_standard_handler, is_standard_router, watched

__all__ = [
    "SECURITY",
    "WEBSOCKET_MATCHES",
    "APIRoute",
    "DefaultPlaceholder",
    "IncludedRouter",
    "RequestValidationError",
    "ResponseValidationError",
    "Undefined",
    "aliases_of",
    "body_values",
    "cache_key",
    "differences",
    "endpoint_context",
    "enter_generator",
    "exception_layer",
    "handlers_of",
    "hashes",
    "is_async_generator",
    "is_body_allowed",
    "is_coroutine",
    "is_generator",
    "is_standard_handler",
    "is_standard_router",
    "jsonable",
    "layers",
    "missing_error",
    "model_of",
    "oauth_scopes",
    "override",
    "parameter_values",
    "params",
    "render_json",
    "should_embed",
    "swallowed_error",
    "takes_several",
    "telemetry_check",
    "versions",
    "watched",
    "why_not",
    "with_location",
    "wrap_app_handling_exceptions",
]
