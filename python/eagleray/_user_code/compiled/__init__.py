"""FastAPI applications, run without the machinery that finds out at each request what is known before the first.

An application that is called as ASGI passes five layers of middleware, a router and a solver of dependencies, which
look at the same declarations every time. Here each route is looked at once, when the replica starts (`plan`); a request
then only does what its route needs: take the parameters out (`parameters`), call the dependencies (`solve`), call the
endpoint, write the answer (`reply`). `table` finds the route as Starlette does. `serve` puts it together.

The rule: nobody can tell, except by the time. The same calls to user code in the same order, the same bytes of the
answer, the same exceptions. It is kept in these ways:

- What is seldom needed is not written anew but called in FastAPI: forms, dependencies with `yield`, models of
  parameters. Errors always are: an exception goes through the application's own handlers, by its own code (`errors`).
- Middleware of the user's is called as ever; the compiled routes are then below it, in the place of the router.
- Doubt means ASGI. A route that has anything which is not known here, a path that no compiled route takes, an
  application whose routes have changed: the request goes the usual way, as a whole, before any user code has run.
- What this package knows of FastAPI and Starlette beyond their documentation is in one place, `framework`. It has the
  hashes of the functions that are done anew here; when one of them is another than those that the tests have passed
  with, nothing is compiled.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from eagleray._user_code.compiled.serve import Compiled, Report

__all__ = ["OFF", "of_application"]

OFF = "EAGLERAY_COMPILED_FASTAPI"
"""The environment variable that switches it off when it is `0`."""

logger = logging.getLogger("eagleray.serve")


def of_application(app: Any, told: Callable[[Report], None] | None = None, *, is_on: bool = True) -> Compiled | None:
    """The compiled routes of `app`, if it is a FastAPI application that has any.

    Says in the log what it found, and gives it to `told` for the status.

    An application with middleware of the user's is called as ASGI, and None is returned: its compiled routes are put
    below the middleware.
    """
    fastapi: Any = sys.modules.get("fastapi")
    if fastapi is None or not isinstance(app, getattr(fastapi, "FastAPI", ())):
        return None
    if not is_on or os.environ.get(OFF, "1") == "0":
        if told is not None:
            told((0, 0, "switched off", []))
        return None
    try:
        from eagleray._user_code.compiled import serve

        compiled = serve.compile_routes(app)
    except Exception:
        # A FastAPI that is built otherwise than the one that is known here; it serves as it always does.
        logger.warning(
            "the routes of the FastAPI application could not be compiled, it is called as ASGI", exc_info=True
        )
        if told is not None:
            told((0, 0, "could not be compiled", []))
        return None
    logger.info("%s", compiled.summary())
    if told is not None:
        told(compiled.report())
    if not compiled.plans:
        return None
    if compiled.is_whole:
        return compiled
    serve.Below.put(compiled, app)
    return None
