"""Whether routers and routes are FastAPI's own, and have nothing around them."""

from __future__ import annotations

from types import CodeType, FunctionType
from typing import Any

from fastapi import routing

_INCLUDED: Any = getattr(routing, "_IncludedRouter", None)


def is_standard_router(router: Any) -> bool:
    """Whether a router finds and calls its routes by FastAPI's own functions."""
    is_own = type(router) is routing.APIRouter and not {"app", "handle", "matches"} & vars(router).keys()
    return is_own and type(router.routes) is list


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
        if _INCLUDED:
            left += [route.original_router for route in one.routes if type(route) is _INCLUDED]
    return found
