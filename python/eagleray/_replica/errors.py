"""An exception as bytes: what a caller gets when the method that it called raised.

It is a value (`eagleray._values`) of three parts: the pickled exception, the text of its traceback, and one line with
its type and text. So what cannot be unpickled at the other end, or pickled here, still says what it was.

The rule: an exception arrives as its own type if that is possible at all. Many a class pickles and cannot be built
again, since pickle calls it with `args` and its constructor wants something else: such a one is built without its
constructor, from what pickle has of it, less the attributes that cannot be pickled.
"""

from __future__ import annotations

import types
from typing import Any

from eagleray import _traceback, _values


def dump(error: BaseException) -> bytes:
    """The body for an exception. Never fails."""
    shown = f"{type(error).__module__}.{type(error).__qualname__}: {_text(error)}"
    return _values.dump((_pickled(error, shown), _traceback.text_of(error), shown))


def _pickled(error: BaseException, shown: str) -> bytes:
    try:
        return _checked(error, error)
    except BaseException as failure:
        try:
            return _checked(_Bare(error), error)
        except BaseException:
            from eagleray.serve.exceptions import RayServeException

            said = f"{shown} (the exception itself cannot be pickled: {type(failure).__name__}: {failure})"
            return _values.dump(RayServeException(said))


def _checked(value: Any, error: BaseException) -> bytes:
    """The pickle, once it was seen here, rather than by the caller, that it can be read."""
    pickled = _values.dump(value)
    made = _values.load(pickled)
    if not isinstance(made, BaseException) or type(made).__qualname__ != type(error).__qualname__:
        raise TypeError("it is another object when unpickled")
    return pickled


class _Bare:
    """Pickles an exception as what `built` makes."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        reduced: Any = self.error.__reduce__()
        attributes = {name: value for name, value in vars(self.error).items() if _pickles(value)}
        return built, (*reduced[:2], attributes)


def built(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    """An exception of this class, made by the constructor of its nearest base that is native."""
    error = kind.__new__(kind, *args)
    for base in kind.__mro__:
        own = vars(base).get("__init__")
        if own is not None and not isinstance(own, types.FunctionType):
            own(error, *args)
            break
    error.__dict__.update(attributes)
    return error


def _pickles(value: Any) -> bool:
    try:
        _values.load(_values.dump(value))
    except Exception:
        return False
    return True


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be shown)"
