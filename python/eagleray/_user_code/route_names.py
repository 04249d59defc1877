"""The routes of a FastAPI application as they are declared, `/items/{item_id}`: what metrics and log lines call them.

Each has a number, by which the replica says which of them took a request. The rule: nothing is matched again. FastAPI
has noted in the scope what it found, and a compiled route knows its own name. What is not found there, as with a
mounted application, has no number and counts under the application's prefix. So does a route that is added later.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

logger = logging.getLogger("eagleray.serve")


class RouteNames:
    """Names of the routes of one application, and their numbers."""

    def __init__(self, app: Any, paths: Iterable[str]) -> None:
        self._app = app
        self.all = list(dict.fromkeys(paths))
        self._numbers = {path: number for number, path in enumerate(self.all, 1)}

    @classmethod
    def of(cls, app: Any) -> RouteNames | None:
        """Those of a FastAPI application; None: it is none, or has no routes."""
        fastapi: Any = sys.modules.get("fastapi")
        kind: Any = getattr(fastapi, "FastAPI", ())
        if not isinstance(app, kind):
            return None
        try:
            names = cls(app, _paths(app.router.routes))
        except Exception:
            logger.debug("the routes of the FastAPI application have no names for metrics", exc_info=True)
            return None
        return names if names.all else None

    def number(self, path: str) -> int:
        """Of a route by its name; 0: it has none."""
        return self._numbers.get(path, 0)

    def in_scope(self, scope: Mapping[str, Any]) -> int:
        """The number of the route that took a request; 0: none is known."""
        if scope.get("app") is not self._app:
            return 0
        noted = scope.get("fastapi")
        # A route of an included router, with the prefixes that it got there.
        context = noted.get("effective_route_context") if type(noted) is dict else None
        return self._numbers.get(_path(context or scope.get("route")), 0)


def _paths(routes: Iterable[Any]) -> Iterator[str]:
    for route in routes:
        included = getattr(route, "effective_candidates", None)
        if included is None:
            yield _path(route)
        else:
            yield from _paths(included())


def _path(route: Any) -> str:
    path = getattr(getattr(route, "starlette_route", None) or route, "path", "")
    return path if type(path) is str else ""
