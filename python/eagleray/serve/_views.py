"""FastAPI endpoints that are methods of the deployed class.

FastAPI sees such a method when the class body runs, as a function with a parameter `self`. Here its route is made
anew, for the method bound to the replica's instance: from then on it is an endpoint like any other, and a request pays
nothing for its being a method. A route belongs to the class whose body has its function, by module and qualified name;
an inherited one is bound too. What belongs to a class that is not deployed here is taken out.

Routes are looked for wherever a request can get to: in included routers and mounted applications, at any depth, and
through middleware that wraps one of them, which keeps what it wraps as `app`.

FastAPI is not imported before the user has done so.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["bind", "check", "endpoints"]


def endpoints(app: Any, cls: type) -> list[Any]:
    """The functions of `app` that are methods of `cls` or of a base."""
    return [route.endpoint for _, _, route in _routes(app) if _is_method(route.endpoint, cls)]


def check(app: Any, cls: type) -> None:
    """Raises a RayServeException for an endpoint of `cls` that cannot be a method. Makes all ready to be pickled."""
    _evaluate_all(app)
    for endpoint in endpoints(app, cls):
        first = next(iter(inspect.signature(endpoint).parameters.values()), None)
        if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
            problem = "has no parameter for it"
        elif first.name != "self" and (first.annotation is not first.empty or first.default is not first.empty):
            problem = f"has {first.name!r} in its place"
        else:
            continue
        from eagleray.serve.exceptions import RayServeException

        raise RayServeException(
            f"{endpoint.__qualname__} is an endpoint of a class, so its first parameter must be self, but it "
            f"{problem}: write `def {endpoint.__name__}(self, ...)`, or move it out of the class"
        )


def _evaluate_all(app: Any) -> None:
    """Evaluates what FastAPI may read again in a replica: annotations of endpoints and dependencies, at any depth."""
    seen: set[int] = set()
    left: list[Any] = []
    for owner in _inside(app):
        router = getattr(owner, "router", owner)
        left += getattr(router, "dependencies", ())
        for route in router.routes:
            left.append(getattr(route, "endpoint", None))
            left += getattr(route, "dependencies", ())
            left += getattr(getattr(route, "include_context", None), "dependencies", ())
    while left:
        one = left.pop()
        function = getattr(one, "dependency", one)
        if not inspect.isfunction(function) or id(function) in seen:
            continue
        seen.add(id(function))
        _evaluate_annotations(function)
        for parameter in inspect.signature(function).parameters.values():
            left += [parameter.default, *getattr(parameter.annotation, "__metadata__", ())]


def _evaluate_annotations(endpoint: Any) -> None:
    """Annotations that are text (`from __future__ import annotations`) need the globals of here.

    A function that is pickled by value takes along the globals that its code names, not those of its annotations.
    """
    signature = inspect.signature(endpoint)
    names = endpoint.__globals__
    annotations = [signature.return_annotation, *(one.annotation for one in signature.parameters.values())]
    if not any(isinstance(annotation, str) for annotation in annotations):
        return

    def value(annotation: Any) -> Any:
        if isinstance(annotation, str):
            try:
                return eval(annotation, names)
            except Exception:
                return annotation  # FastAPI says what is wrong with it, if anything is
        return annotation

    parameters = [one.replace(annotation=value(one.annotation)) for one in signature.parameters.values()]
    returns = value(signature.return_annotation)
    endpoint.__signature__ = signature.replace(parameters=parameters, return_annotation=returns)


def bind(app: Any, instance: Any, cls: type) -> Callable[..., Any]:
    """Binds the endpoints of `cls` to `instance`, and returns the application to serve. Changes `app`."""
    latest = {_key(owner, route): route for owner, _, route in _routes(app) if _is_method(route.endpoint, cls)}
    for owner, position, route in reversed(list(_routes(app))):
        if _is_method(route.endpoint, cls):
            # A cell of a notebook that ran again, with the application made in another, has each method twice.
            if latest[_key(owner, route)] is route:
                owner.routes[position] = _bound(route, instance)
            else:
                del owner.routes[position]
        elif _is_method_of_another_class(route.endpoint):
            del owner.routes[position]
        else:
            continue
        if hasattr(owner, "_mark_routes_changed"):
            owner._mark_routes_changed()
    fastapi: Any = sys.modules.get("fastapi")
    if fastapi is not None and isinstance(app, fastapi.APIRouter):
        # A router does not answer by itself: FastAPI prepares each request in the application around it.
        router, app = app, fastapi.FastAPI(openapi_url=None)
        app.include_router(router)
    # An application that is mounted answers what is raised in it by itself.
    for inside in {id(one): one for one in (app, *_inside(app))}.values():
        _answer_errors_of_ours(inside)
    return app  # type: ignore[no-any-return]


def _inside(app: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """`app` and all that is mounted or included in it: whatever of Starlette or FastAPI has routes."""
    from starlette.applications import Starlette
    from starlette.routing import Host, Mount, Router

    seen = set() if seen is None else seen
    while app is not None and id(app) not in seen:
        seen.add(id(app))
        if isinstance(app, (Starlette, Router)):
            yield app
            for route in tuple(app.routes):
                # FastAPI before 0.130 copies the routes of an included router instead.
                inner = route.app if isinstance(route, (Host, Mount)) else getattr(route, "original_router", None)
                yield from _inside(inner, seen)
            return
        app = getattr(app, "app", None)


def _routes(app: Any) -> Iterator[tuple[Any, int, Any]]:
    """`(router, position, route)` of every endpoint of FastAPI."""
    if "fastapi" not in sys.modules:
        return
    from fastapi.routing import APIRoute, APIWebSocketRoute

    routers = {id(router): router for router in (getattr(inside, "router", inside) for inside in _inside(app))}
    for router in routers.values():
        for position, route in enumerate(router.routes):
            if isinstance(route, (APIRoute, APIWebSocketRoute)):
                yield router, position, route


def _key(owner: Any, route: Any) -> tuple[Any, ...]:
    return id(owner), route.path, tuple(sorted(getattr(route, "methods", None) or ())), route.endpoint.__qualname__


def _owner(endpoint: Any) -> str:
    """Qualified name of the class in whose body the function is; empty: in none."""
    if not inspect.isfunction(endpoint):
        return ""
    scope = endpoint.__qualname__.rpartition(".")[0]
    return "" if scope.endswith("<locals>") else scope


def _is_method(endpoint: Any, cls: type) -> bool:
    owner = _owner(endpoint)
    return bool(owner) and any(
        owner == base.__qualname__ and endpoint.__module__ == base.__module__ for base in cls.__mro__
    )


def _is_method_of_another_class(endpoint: Any) -> bool:
    return bool(_owner(endpoint)) and next(iter(inspect.signature(endpoint).parameters), "") == "self"


def _bound(route: Any, instance: Any) -> Any:
    """The same route for the method of `instance`."""
    import fastapi.routing

    api = isinstance(route, fastapi.routing.APIRoute)
    base: Any = fastapi.routing.APIRoute if api else fastapi.routing.APIWebSocketRoute
    # A route keeps what it was made from under the names of its parameters.
    names = [name for name in inspect.signature(base.__init__).parameters if name not in ("self", "endpoint")]
    options = {name: getattr(route, name) for name in names if hasattr(route, name)}
    if getattr(route, "stream_item_type", None) is not None and options.get("response_model") is None:
        # Else the type of the items, which it found in the annotation, would be lost.
        del options["response_model"]
    return type(route)(endpoint=_method(route.endpoint, instance), **options)


def _method(endpoint: Any, instance: Any) -> Any:
    """The endpoint bound to `instance`.

    A decorator's function that takes whatever comes gets it by name, as Ray Serve gives it: those of packages look for
    the request among the positional arguments, by its place in the signature, if there are any.
    """
    signature = inspect.signature(endpoint)
    first, *others = signature.parameters.values()
    # Of its code, since its signature is that of what it wraps.
    has_positions = endpoint.__code__.co_argcount > 0 or not endpoint.__code__.co_flags & inspect.CO_VARARGS
    if has_positions or first.kind is not first.POSITIONAL_OR_KEYWORD:
        return types.MethodType(endpoint, instance)
    bound: Any = functools.update_wrapper(functools.partial(endpoint, **{first.name: instance}), endpoint)
    bound.__signature__ = signature.replace(parameters=others)
    return bound


def _answer_errors_of_ours(app: Any) -> None:
    """Full queues and deployments that are gone, met by calls that user code makes, have their own status."""
    if not callable(getattr(app, "add_exception_handler", None)):
        return
    from eagleray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException

    known = getattr(app, "exception_handlers", {})
    for kind in (BackPressureError, DeploymentUnavailableError):
        if kind not in known and RayServeException not in known:
            app.add_exception_handler(kind, _answer_error)
    if getattr(app, "middleware_stack", None) is not None:
        app.middleware_stack = None  # it answered before it was decorated: a stack that is made does not see handlers


async def _answer_error(request: Any, error: Any) -> Any:
    from starlette.responses import PlainTextResponse

    from eagleray._user_code.failure import known_error

    status, headers, text = known_error(error)
    return PlainTextResponse(text, status, {name.decode(): value.decode() for name, value in headers})
