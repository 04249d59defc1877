"""FastAPI's own `root_path` under a route prefix.

FastAPI writes the `root_path` that it was made with into every scope, in the place of the prefix: then it looks for its
routes in the whole path, and finds none. What is meant is the path that a proxy in front takes off, before the prefix.
So here a scope says what the client has asked for: both, and the path below both.

A prefix that begins with FastAPI's own path has it already. There, and without a prefix, all is as FastAPI does it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote


def with_prefix(app: Callable[..., Any]) -> Callable[..., Any]:
    """`app`, or what prepares scopes for it if it is a FastAPI application with a `root_path`."""
    fastapi: Any = sys.modules.get("fastapi")
    served: Any = app
    if fastapi is None or not isinstance(served, fastapi.FastAPI):
        return app
    own = served.root_path.rstrip("/")
    if not own:
        return app

    async def call(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        prefix = scope.get("root_path", "")
        root_path = own
        if prefix and not f"{prefix}/".startswith(f"{own}/"):
            root_path = own + prefix
            scope["path"] = own + scope["path"]
            scope["raw_path"] = quote(own).encode() + scope["raw_path"]
        # Read before anything else runs; it differs from request to request only while the prefix changes.
        served.root_path = root_path
        await served(scope, receive, send)

    call.app = app  # type: ignore[attr-defined]
    return call
