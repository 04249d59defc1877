"""What was deployed: the callable, its methods, and how each is to be called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eagleray.serve.asgi import Served


def is_async(function: Any) -> bool:
    """Whether a call makes a coroutine or an async generator: it belongs on the loop, anything else in a thread."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function) or is_async_generator(function):
        return True
    if inspect.isroutine(function) or inspect.isclass(function):
        return False
    call = inspect.getattr_static(type(function), "__call__", None)
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


def is_async_generator(function: Any) -> bool:
    """Whether a call makes an async generator; one under `@serve.batch` is a plain function that does."""
    return inspect.isasyncgenfunction(function) or getattr(function, "_eagleray_streams", False) is True


def takes_argument(function: Any) -> bool:
    """Whether a call may be given one positional argument."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return any(parameter.kind in positional for parameter in parameters)


class UserCode:
    """A deployed function, or an instance of a deployed class."""

    def __init__(self, target: Any, *, is_function: bool) -> None:
        self.target = target
        self.is_function = is_function

    @classmethod
    async def construct(
        cls,
        func_or_class: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        begun: Callable[[UserCode], None] | None = None,
    ) -> UserCode:
        """Runs the constructor, sync or async, on the loop; what it returns is of no interest, as in Ray Serve.

        `begun` is given the instance before its constructor runs, so that what that has taken can be given back if it
        never ends.
        """
        if not inspect.isclass(func_or_class):
            return cls(func_or_class, is_function=True)
        if type(func_or_class).__call__ is not type.__call__ and not is_async(func_or_class.__init__):
            # Its metaclass says how instances are made.
            return cls(func_or_class(*args, **kwargs), is_function=False)
        made = func_or_class.__new__(func_or_class, *args, **kwargs)
        user_code = cls(made, is_function=False)
        if begun is not None:
            begun(user_code)
        if isinstance(made, func_or_class):
            initialize: Any = type(made).__init__
            result = initialize(made, *args, **kwargs)
            if inspect.isawaitable(result):
                await result
        return user_code

    @property
    def http(self) -> Callable[..., Any] | None:
        """What answers HTTP requests."""
        if self.is_function:
            return self.target  # type: ignore[no-any-return]
        return self._attribute("__call__")

    @property
    def served(self) -> Served | None:
        """The ASGI application that answers HTTP requests instead, under `@serve.ingress`."""
        return getattr(self.target, "_eagleray_served", None)

    def method(self, name: str) -> Callable[..., Any]:
        """The method that a call through a handle names.

        Raises:
            RayServeException: there is none; the message lists those that there are.
        """
        found = self.http if name == "__call__" and self.served is None else None
        if found is None and not self.is_function and not name.startswith("__"):
            found = self._attribute(name)
        if found is None:
            from eagleray.serve.exceptions import RayServeException

            kind = "function" if self.is_function else f"class {type(self.target).__name__}"
            raise RayServeException(
                f"the deployed {kind} has no method {name!r}; available methods: {', '.join(self.methods())}"
            )
        return found

    def methods(self) -> list[str]:
        """Names that handles can call."""
        if self.is_function:
            return ["__call__"]
        # Under `@serve.ingress` it is for HTTP only.
        names = ["__call__"] if self.served is None and self._attribute("__call__") is not None else []
        for name in dir(self.target):
            if name.startswith("_"):
                continue
            # Statically, so that no property runs.
            found = inspect.getattr_static(self.target, name, None)
            if isinstance(found, (staticmethod, classmethod)) or callable(found):
                names.append(name)
        return names

    def sync_methods(self) -> list[str]:
        """Names of methods that run in threads."""
        return [name for name in self.methods() if not is_async(self.method(name))]

    def hook(self, name: str) -> Callable[..., Any] | None:
        """An optional method of a class."""
        return None if self.is_function else self._attribute(name)

    def _attribute(self, name: str) -> Callable[..., Any] | None:
        found = getattr(self.target, name, None)
        return found if callable(found) else None
