"""Which route takes a request: the first that matches path and method, as Starlette's router finds it.

Paths without parameters, which are most, are looked up; only the routes with parameters are tried one after the other,
and of these only those that have the first segment of the path, or a parameter in its place.
The routes of included routers stand where their router stands, since the first full match wins at every depth. A path
that several routes match only in part, and one that none matches, is for the router itself to answer. So is a path that
gets to a route of another kind than those known here: what that would do with it is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from starlette.routing import Mount, Route, WebSocketRoute

from eagleray._user_code.compiled import framework
from eagleray._user_code.compiled.plan import Plan, plan_of

_ANY: frozenset[str] = frozenset()


class Entry:
    """A route, in the order of the router."""

    __slots__ = ("convert", "first", "match", "methods", "path", "plan", "reason")

    def __init__(self, route: Any, methods: Any, plan: Plan | None, reason: str) -> None:
        self.path: str = route.path
        self.match = route.path_regex.match
        self.first = _first_segment(route)
        # Empty: all.
        self.methods = frozenset(methods or ())
        self.convert = {name: convertor.convert for name, convertor in route.param_convertors.items()}
        self.plan = plan
        self.reason = reason


class Table:
    """The routes of an application, as they were when it started."""

    def __init__(self, app: Any) -> None:
        self.entries: list[Entry | None] = []
        """None: a route of an unknown kind. What is behind it is out of reach."""
        probed = False
        for route in app.router.routes:
            if framework.IncludedRouter and type(route) is framework.IncludedRouter:
                probed = True
                for original, context, inclusion in _included(route):
                    self._add(app, original, context, inclusion, probed)
            else:
                self._add(app, route, None, None, probed)
        self._static: dict[tuple[str, str], Entry | None] = {}
        self._dynamic: list[Entry | None] = []
        self._arrange()
        self._by_segment, self._others = self._sort()

    def _add(self, app: Any, route: Any, context: Any, inclusion: Any, probed: bool) -> None:
        kind = type(route)
        if route is None or "matches" in vars(route):
            self.entries.append(None)
            return
        seen = route if context is None else getattr(context, "starlette_route", None) or context
        if kind is framework.APIRoute:
            plan, reason = plan_of(app, route, context, inclusion, probed)
            self.entries.append(Entry(seen, seen.methods, plan, reason))
        elif kind is Route:
            self.entries.append(Entry(seen, seen.methods, None, ""))
        elif kind is Mount:
            self.entries.append(Entry(seen, _ANY, None, ""))
        elif isinstance(route, WebSocketRoute) and kind.matches in (
            WebSocketRoute.matches,
            framework.WEBSOCKET_MATCHES,
        ):
            return
        elif isinstance(route, framework.APIRoute) and kind.matches is framework.APIRoute.matches:
            self.entries.append(Entry(seen, seen.methods, None, "own route class"))
        else:
            self.entries.append(None)

    def _arrange(self) -> None:
        cut = False
        for entry in self.entries:
            if entry is None:
                self._dynamic.append(None)
                cut = True
            elif entry.convert:
                self._dynamic.append(entry)
            elif not cut:
                for method in entry.methods or ("",):
                    key = (method, entry.path)
                    if method == "" or key in self._static:
                        continue
                    self._static[key] = self._before(entry, method)
            if entry is not None and not entry.convert and (cut or not entry.methods):
                # Seldom: tried in its place.
                self._dynamic.append(entry)

    def _sort(self) -> tuple[dict[str, list[Entry | None]], list[Entry | None]]:
        """What is tried, by the first segment of a path, and for all other paths."""
        firsts = [None if entry is None else entry.first for entry in self._dynamic]
        found: dict[str, list[Entry | None]] = {first: [] for first in firsts if first is not None}
        others: list[Entry | None] = []
        for first, entry in zip(firsts, self._dynamic, strict=True):
            for entries in (*found.values(), others) if first is None else (found[first],):
                entries.append(entry)
        return found, others

    def _before(self, entry: Entry, method: str) -> Entry | None:
        """The entry, or the one before it that takes its path."""
        for earlier in self._dynamic:
            if earlier is None:
                return None
            if (not earlier.methods or method in earlier.methods) and earlier.match(entry.path):
                return earlier
        return entry

    def find(self, method: str, path: str) -> tuple[Plan | None, dict[str, Any]]:
        """The plan for a request and its path parameters; no plan: the application is to be called as ASGI."""
        found = self._static.get((method, path), _MISSING)
        if found is not _MISSING:
            if found is None or found.plan is None:
                return None, _NONE
            if not found.convert:
                return found.plan, {}
        if path.endswith("\n"):
            # Python's `$` matches before it, also of a path without parameters.
            return None, _NONE
        end = path.find("/", 1)
        for entry in self._by_segment.get(path if end < 0 else path[:end], self._others):
            if entry is None:
                break
            if entry.methods and method not in entry.methods:
                continue
            match = entry.match(path)
            if match:
                if entry.plan is None:
                    break
                values = match.groupdict()
                for name, text in values.items():
                    values[name] = entry.convert[name](text)
                return entry.plan, values
        return None, _NONE


def _first_segment(route: Any) -> str | None:
    """What a path has to begin with, up to its second slash; None: the pattern does not say."""
    end = route.path.find("/", 1)
    first: str = route.path if end < 0 else route.path[:end]
    pattern: str = route.path_regex.pattern
    begins = "^" + re.escape(first)
    return first if first and pattern.startswith((begins + "/", begins + "$")) else None


_MISSING: Any = object()
_NONE: dict[str, Any] = {}


def _included(inclusion: Any) -> Iterator[tuple[Any, Any, Any]]:
    """`(route, what it is under its prefix, the router that it is in)`, in the order of matching; None: unknown."""
    if not framework.is_standard_router(inclusion.original_router):
        yield None, None, None
        return
    for candidate in inclusion.effective_candidates():
        if type(candidate) is framework.IncludedRouter:
            yield from _included(candidate)
        else:
            yield candidate.original_route, candidate, inclusion
