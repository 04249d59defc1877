"""Decorated functions that keep something for each instance: which of their arguments is the instance."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


class Owners:
    """Tells methods from plain functions, at the call: when a decorator runs, the class is not there yet."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._has_method = functools.lru_cache(maxsize=256)(self._look_up)

    def split(self, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """The instance (a class for a class method, None for a plain function), and the arguments after it."""
        if args:
            first = args[0]
            if self._has_method(first if isinstance(first, type) else type(first)):
                return first, args[1:]
        return None, args

    def _look_up(self, owner: type) -> bool:
        function = self._function
        found: Any = inspect.getattr_static(owner, function.__name__, None)
        if isinstance(found, staticmethod):
            return False
        while found is not None:
            if found is function:
                return True
            found = getattr(found, "__wrapped__", None)
        place, _, _ = function.__qualname__.rpartition(".")
        return any(kind.__module__ == function.__module__ and kind.__qualname__ == place for kind in owner.__mro__)
