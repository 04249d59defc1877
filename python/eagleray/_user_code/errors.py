"""An exception as bytes: what a caller gets when the method that it called raised.

It is a value (`eagleray._values`) of three parts: the pickled exception, the text of its traceback, and one line with
its type and text. So what cannot be unpickled at the other end, or pickled here, still says what it was.

The rule: an exception arrives as its own type if that is possible at all. Many a class pickles and cannot be built
again, since pickle calls it with `args` and its constructor wants something else: such a one is built without its
constructor, from what pickle has of it, less the attributes that cannot be pickled. Of a group each member is one of
these by itself.
"""

from __future__ import annotations

import types
from typing import Any

from eagleray import _traceback, _values


def dump(error: BaseException) -> bytes:
    """The body for an exception. Never fails."""
    shown = _shown(error)
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


class _Member:
    """Pickles an exception of a group by itself, however it can be."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _values.load, (_pickled(self.error, _shown(self.error)),)


class _Bare:
    """Pickles an exception as what `built` makes."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        reduced: Any = self.error.__reduce__()
        kind, args = reduced[:2]
        if isinstance(self.error, BaseExceptionGroup):
            args = (self.error.message, [_Member(member) for member in self.error.exceptions])
        attributes = {name: value for name, value in vars(self.error).items() if _pickles(value)}
        return built, (kind, args, attributes)


def built(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    """An exception of this class, made by the constructor of its nearest base that is native."""
    error: BaseException = _native(kind, "__new__")(kind, *args)
    _native(kind, "__init__")(error, *args)
    error.__dict__.update(attributes)
    return error


def _native(kind: type, name: str) -> Any:
    """The method of the nearest base that has none in Python."""
    found = (vars(base)[name] for base in kind.__mro__ if name in vars(base))
    return next(one for one in found if not isinstance(one, (types.FunctionType, staticmethod)))


def _pickles(value: Any) -> bool:
    try:
        _values.load(_values.dump(value))
    except Exception:
        return False
    return True


def _shown(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}: {_text(error)}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be shown)"
