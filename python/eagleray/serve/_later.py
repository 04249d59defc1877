"""Names of Ray Serve's API that belong to later releases: they can be imported, and say so when they are used.

So a program that imports more than it uses runs, and one that uses such a part stops at that line with its name.
"""

from __future__ import annotations

from typing import Any, NoReturn

from eagleray.serve._validate import not_available


class NotAvailableYetError(NotImplementedError, ValueError):
    """A part of Ray Serve's API that this version of Eagleray does not have yet."""


def refuse(what: str, instead: str = "") -> NoReturn:
    """Raises the error for the use of `what`."""
    raise NotAvailableYetError(str(not_available(what, instead)))


class _Later(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        refuse(f"{cls.__module__}.{cls.__qualname__}", vars(cls).get("_instead", cls._instead))

    _instead = ""


def class_(module: str, name: str, instead: str = "", bases: tuple[type, ...] = ()) -> Any:
    """A class that can be imported, named and subclassed, and whose instances cannot be made."""
    return _Later(name, bases, {"__module__": module, "_instead": instead, "__doc__": "Not available yet."})


def function(module: str, name: str, instead: str = "") -> Any:
    """A function or decorator that refuses every call."""

    def refused(*args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"{module}.{name}", instead)

    refused.__module__, refused.__name__, refused.__qualname__ = module, name, name
    refused.__doc__ = "Not available yet."
    return refused
