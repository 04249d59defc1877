"""`@serve.ingress`: an ASGI application answers the HTTP requests of a deployment.

The decorator makes a subclass of the user's class whose instances are built in this order: the application is put back
to what it was when the class was decorated, the user's constructor (which may change it), the endpoints that are
methods, the lifespan. Everything that a request needs is decided there, so that a request costs what the
application itself costs: FastAPI endpoints that are methods of the class are bound to the instance once, instead of
looking it up by a dependency on every request (`_views`).

An application object is remembered as it is when the class is decorated (`_freeze`): what is done to it between that
and the constructor is not seen. What cannot be pickled is made in the replica, by a builder function or by a method
`__serve_build_asgi_app__` of the class.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eagleray._shortened import shortened
from eagleray.serve._lifespan import Lifespan

if TYPE_CHECKING:
    from eagleray.serve._freeze import Snapshot

__all__ = ["ingress"]

ASGIApplication = Callable[[dict[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[None]]

_HOOK = "__serve_build_asgi_app__"
_WRITE_APP = (
    "serve.ingress takes a FastAPI application, another ASGI application, or a function without parameters that "
    "returns one"
)


@dataclass(frozen=True)
class Ingress:
    """What `@serve.ingress` was given, kept on the class that it made as `_eagleray_ingress`.

    `snapshot` is of `app`, in the process that ran the decorator. Elsewhere `app` has arrived as the decorator saw it,
    and `names` are those of imported modules for it and for its parts: module, name, object.
    """

    user_class: type
    app: Any
    builder: Callable[[], Any] | None
    snapshot: Snapshot | None = None
    compiled: bool = True
    names: tuple[tuple[str, str, Any], ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "snapshot": None, "names": ()}


@dataclass(frozen=True)
class _Lease:
    """An application that nobody else changes until `end` is called."""

    app: Any
    end: Callable[[], None]


_leased: set[int] = set()
"""Ids of applications that answer for an instance themselves."""


@dataclass(frozen=True)
class Served:
    """The application of an instance, kept on it as `_eagleray_served` once it can answer."""

    app: ASGIApplication
    lifespan: Lifespan
    end: Callable[[], None]
    # Whether FastAPI routes may be answered without FastAPI's machinery.
    compiled: bool = True


@shortened
def ingress(app: Any = None, *, compiled: bool = True) -> Callable[..., type]:
    """Makes an ASGI application answer the HTTP requests of a deployment.

    Goes between `@serve.deployment` and the class::

        app = FastAPI()

        @serve.deployment
        @serve.ingress(app)
        class Service:
            @app.get("/hello")
            async def hello(self, name: str) -> str:
                return f"hello {name}"

    Args:
        app: A FastAPI application or router, whose endpoints in the body of the class are called with the instance as
            `self`; any other ASGI application; a function without parameters that returns one, sync or async, called
            in each replica; or None, and the class has a method `__serve_build_asgi_app__(self)` that returns one.
        compiled: Whether routes of FastAPI are compiled where that changes nothing but the time that they take; False:
            the application is always called as ASGI.

    Returns:
        A decorator for the class. Called without a class it makes an empty one:
        `serve.deployment(serve.ingress(app)())`.

    Raises:
        TypeError: `app` is none of these, or (from the decorator) it cannot be pickled.
        ValueError: (from the decorator) what is decorated is no class, or has a `__call__`; or `app` is None and the
            class has no `__serve_build_asgi_app__`.
        RayServeException: (from the decorator) an endpoint in the body of the class has no `self`.
    """
    builder = _is_builder(app)

    @shortened
    def decorate(cls: Any = None) -> type:
        user_class = _Empty if cls is None else _checked(cls)
        if app is None and not callable(getattr(user_class, _HOOK, None)):
            raise ValueError(
                f"serve.ingress() without an application needs a method {_HOOK}(self) that returns one, and "
                f"{user_class.__name__} has none; add it, or write @serve.ingress(app)"
            )
        if app is None or builder:
            return _wrap(user_class, None, app, compiled=compiled)
        from eagleray.serve import _freeze, _views

        _views.check(app, user_class)
        snapshot = _freeze.Snapshot(app, _views.endpoints(app, user_class))
        return _wrap(user_class, app, None, snapshot, compiled=compiled)

    return decorate


def _is_builder(app: Any) -> bool:
    """Whether `app` is a function that makes the application, by what it can be called with."""
    if app is None:
        return False
    if not callable(app):
        raise TypeError(f"{_WRITE_APP}; got {type(app).__name__}")
    if not inspect.isfunction(app):
        return False
    signature = inspect.signature(app)
    takes_nothing, takes_three = _takes(signature), _takes(signature, None, None, None)
    if not takes_nothing and not takes_three:
        raise TypeError(f"{_WRITE_APP}; {app.__qualname__}{signature} is neither")
    return takes_nothing and not (takes_three and inspect.iscoroutinefunction(app))


def _takes(signature: inspect.Signature, *args: Any) -> bool:
    try:
        signature.bind(*args)
    except TypeError:
        return False
    return True


def _checked(cls: Any) -> type:
    if not inspect.isclass(cls):
        from eagleray.serve.deployment import Deployment

        hint = "; @serve.deployment goes above @serve.ingress" if isinstance(cls, Deployment) else ""
        raise ValueError(f"@serve.ingress(app) goes on a class, got {type(cls).__name__}{hint}")
    for base in cls.__mro__:
        if "__call__" in vars(base) and "_eagleray_ingress" not in vars(base):
            raise ValueError(
                f"class {cls.__name__} has a __call__, which its ASGI application would never reach: drop __call__, or "
                "drop @serve.ingress"
            )
    return cls


class _Empty:
    """The class of `serve.ingress(app)()`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def _wrap(cls: type, app: Any, builder: Any, snapshot: Snapshot | None = None, *, compiled: bool = True) -> type:
    # The methods are pickled with the class wherever that goes by value, so they hold nothing but calls.
    async def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        await _construct(self, made._eagleray_ingress, args, kwargs)

    async def __del__(self: Any) -> None:  # noqa: N807
        await _destroy(self, made._eagleray_ingress)

    async def __call__(self: Any, scope: Any, receive: Any, send: Any) -> None:  # noqa: N807
        await self._eagleray_served.app(scope, receive, send)

    made: Any = type(cls)(
        "ASGIIngressDeployment" if cls is _Empty else cls.__name__,
        (cls,),
        {
            "__module__": cls.__module__,
            "__qualname__": "ASGIIngressDeployment" if cls is _Empty else cls.__qualname__,
            "__doc__": cls.__doc__,
            "__init__": __init__,
            "__del__": __del__,
            "__call__": __call__,
            "__init_subclass__": classmethod(_check_subclass),
            "_eagleray_ingress": Ingress(cls, app, builder, snapshot, compiled),
        },
    )
    made.__init__.__wrapped__ = cls.__init__  # type: ignore[misc]
    return made  # type: ignore[no-any-return]


def _check_subclass(cls: type, /, **kwargs: Any) -> None:
    constructor = vars(cls).get("__init__")
    if constructor is not None and not inspect.iscoroutinefunction(constructor):
        raise TypeError(
            f"class {cls.__name__} derives from a class under @serve.ingress, whose constructor is async: write "
            "`async def __init__(self, ...)` and `await super().__init__(...)` in it"
        )
    for base in cls.__mro__[1:]:
        if "__init_subclass__" in vars(base) and "_eagleray_ingress" not in vars(base):
            vars(base)["__init_subclass__"].__get__(None, cls)(**kwargs)
            return


async def _construct(instance: Any, ingress: Ingress, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    # A further @serve.ingress may be around this class; then its application is the one.
    is_outermost = type(instance)._eagleray_ingress is ingress
    lease = _lease(ingress) if is_outermost else _Lease(None, _nothing)
    try:
        result: Any = ingress.user_class.__init__(instance, *args, **kwargs)  # type: ignore[misc]
        if inspect.isawaitable(result):
            await result
        if not is_outermost:
            return
        app = await _build(instance, ingress, lease.app)
        lifespan = Lifespan(app)
        await lifespan.startup()
        instance._eagleray_served = Served(app, lifespan, lease.end, ingress.compiled)
    except asyncio.CancelledError:
        lease.end()
        raise  # a replica that is stopped now calls the destructor
    except BaseException:
        lease.end()
        # Else the interpreter calls the async destructor of what was never made, and complains that nobody awaits it.
        from eagleray._user_code.hooks import without_destructor

        without_destructor(instance)
        raise


def _lease(ingress: Ingress) -> _Lease:
    """The application as it was when the class was decorated.

    The object itself, under every name that it has; a copy while it answers for another instance, which happens in
    local testing mode only.
    """
    app, snapshot = ingress.app, ingress.snapshot
    if id(app) in _leased and snapshot is not None:
        return _Lease(snapshot.copy(), _nothing)
    undo = _nothing if snapshot is None else snapshot.put_back()
    _leased.add(id(app))
    _name_it(ingress.names)

    def end() -> None:
        _leased.discard(id(app))
        undo()

    return _Lease(app, end)


def _name_it(names: tuple[tuple[str, str, Any], ...]) -> None:
    """Binds what arrived by value to the names that imported modules had for it, where it was sent from."""
    # All of them first: one that takes its application from another and changes it has done so where it was sent from.
    for module, _, _ in names:
        # Whoever needs it imports it, and is told why that fails.
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    for module, name, value in names:
        if module in sys.modules:
            setattr(sys.modules[module], name, value)


def _nothing() -> None:
    pass


async def _build(instance: Any, ingress: Ingress, app: Any) -> ASGIApplication:
    from eagleray.serve import _root_path, _views

    build = getattr(instance, _HOOK, None) or ingress.builder
    if build is not None:
        app = build()
        if inspect.isawaitable(app):
            app = await app
        if not callable(app):
            raise TypeError(f"{getattr(build, '__qualname__', build)} must return an ASGI application, got {app!r}")
    return _root_path.with_prefix(_views.bind(app, instance, ingress.user_class))


async def _destroy(instance: Any, ingress: Ingress) -> None:
    served = vars(instance).get("_eagleray_served")
    try:
        if served is not None and type(instance)._eagleray_ingress is ingress:
            try:
                await served.lifespan.shutdown()
            finally:
                served.end()
    finally:
        destroy = getattr(ingress.user_class, "__del__", None)
        if inspect.iscoroutinefunction(destroy):
            await destroy(instance)
        elif destroy is not None:
            from eagleray._user_code.pool import in_thread

            await in_thread(destroy, instance)
