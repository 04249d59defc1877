"""Which route of an ASGI application answers a request, as its pattern: `/users/{name}`.

The application is asked as it asks itself: each of its routes whether it matches, the first whole match wins, and what
is mounted is asked in turn. Nothing here is on the path of a request; whoever wants to know pays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

# A route that matches all but the method, and one that matches (`starlette.routing.Match`).
_PARTIAL, _FULL = 1, 2
# Wrappers around an application, at most.
_DEPTH = 20


def pattern(app: Any, scope: dict[str, Any]) -> str:
    """The pattern of the route that answers, below the root path; empty: no route does, or `app` has no routes."""
    for _ in range(_DEPTH):
        routes = getattr(app, "routes", None)
        if routes is not None:
            return _find(routes, scope) or ""
        # As middleware has what it is around.
        app = getattr(app, "app", None)
    return ""


def _find(routes: Iterable[Any], scope: dict[str, Any]) -> str | None:
    partial = None
    for route in _all(routes):
        match, below = route.matches(scope)
        known = getattr(route, "starlette_route", None) or route
        path: str = getattr(known, "path", "")
        if match.value == _FULL:
            inside = getattr(known, "routes", None)
            if not inside:
                return path
            found = _find(inside, {**scope, **below})
            return None if found is None else path + found
        if match.value == _PARTIAL and partial is None:
            partial = path
    return partial


def _all(routes: Iterable[Any]) -> Iterator[Any]:
    """Routes with those of routers that FastAPI has included, which it keeps apart since 0.137."""
    for route in routes:
        included = getattr(route, "effective_route_contexts", None)
        if included is None:
            yield route
        else:
            yield from included()
