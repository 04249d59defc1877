"""What the compiled path knows of FastAPI and Starlette that they do not promise: the one package that imports it.

`names` are the private names that the rest of the compiled path uses. `functions` tells whether what is done anew there
is still what the tests have passed with, by hashes of sources. `application` knows what stands around the routes,
`middleware` which layers of the user's are known, and `routes` what a router or route of FastAPI's own looks like.
"""

from __future__ import annotations

from eagleray._user_code.compiled.framework import names
from eagleray._user_code.compiled.framework.application import (
    exception_layer,
    handlers_of,
    layers,
    telemetry_check,
    why_not,
)
from eagleray._user_code.compiled.framework.functions import differences, hashes, versions
from eagleray._user_code.compiled.framework.names import *  # noqa: F403  # its own list says which
from eagleray._user_code.compiled.framework.routes import is_standard_handler, is_standard_router, watched

__all__ = [
    "differences",
    "exception_layer",
    "handlers_of",
    "hashes",
    "is_standard_handler",
    "is_standard_router",
    "layers",
    "telemetry_check",
    "versions",
    "watched",
    "why_not",
]
__all__ += names.__all__
