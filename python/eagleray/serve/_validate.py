"""Checks of option values, shared by the decorator and the configuration objects.

Plain functions that raise `ValueError` or `TypeError` with the option's name, what was given and what is taken. Without
a validation library, which takes longer to import than a node to start (docs/decisions/010-option-errors.md). What Ray
Serve reports as `pydantic.ValidationError` is one here too, in a program that has imported pydantic: whoever can name
that exception gets it, and everybody else a plain `ValueError`, which is its base.
"""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Iterable
from typing import Any

from eagleray.serve import _old_names


def invalid(name: str, message: str, value: Any = None) -> ValueError:
    """The error for a value of the option `name`; `message` is the whole text."""
    core: Any = sys.modules.get("pydantic_core")
    if core is None:
        return ValueError(message)
    # Through a template, since the text may hold braces.
    reason = core.PydanticCustomError("value_error", "{message}", {"message": message})
    line = {"type": reason, "loc": (name,), "input": value}
    error: ValueError = core.ValidationError.from_exception_data("eagleray.serve", [line])
    return error


def integer(name: str, value: Any, *, minimum: int, maximum: int | None = None) -> int:
    """An int within bounds. Integral floats and numeric strings pass, as in Ray Serve's Python API."""
    number = value
    if isinstance(value, str):
        try:
            number = int(value.strip().removesuffix(".0"))
        except ValueError:
            number = None
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    wrong = isinstance(number, bool) or not isinstance(number, int) or number < minimum
    if wrong or (maximum is not None and number > maximum):
        range_ = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise invalid(name, f"{name} must be an integer {range_}, got {value!r}", value)
    return int(number)


def number(name: str, value: Any, *, positive: bool, maximum: float = math.inf, unit: str = "") -> float:
    """A finite number, above 0 if `positive`, else of at least 0."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or found < 0 or (positive and found == 0) or found > maximum:
        least = "above 0" if positive else "of at least 0"
        most = "" if maximum == math.inf else f" and at most {maximum:g}"
        raise invalid(name, f"{name} must be a number {unit}{least}{most}, got {value!r}", value)
    return found


def seconds(name: str, value: Any, *, positive: bool) -> float:
    """A finite number of seconds."""
    return number(name, value, positive=positive, unit="of seconds ")


def boolean(name: str, value: Any) -> bool:
    """True or False, nothing that merely passes for it."""
    if not isinstance(value, bool):
        raise invalid(name, f"{name} must be True or False, got {value!r}", value)
    return value


def text(name: str, value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value:
        raise invalid(name, f"{name} must be a string that is not empty, got {value!r}", value)
    return value


def one_of(name: str, value: Any, choices: type) -> Any:
    """A member of the enum `choices`, or its value."""
    try:
        return choices(value)
    except ValueError:
        words = ", ".join(repr(member.value) for member in choices)  # type: ignore[attr-defined]
        raise invalid(name, f"{name} must be one of {words}, got {value!r}", value) from None


#: As the native side has it: ten-thousandths of it are counted in 64 bits.
MOST_OF_A_RESOURCE = 1e15


def quantity(name: str, value: Any) -> float:
    """A resource quantity, from 0 to `MOST_OF_A_RESOURCE`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be at least 0, got {value!r}")
    if value > MOST_OF_A_RESOURCE:
        raise ValueError(f"{name} must be at most {MOST_OF_A_RESOURCE:g}, got {value!r}")
    return float(value)


def json_value(name: str, value: Any) -> Any:
    """`value`, which must be JSON-serialisable, or bytes."""
    if isinstance(value, bytes):
        return value
    try:
        json.dumps(value, allow_nan=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(name, f"{name} must be JSON-serialisable: {error}") from None
    return value


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'max_replicas'?`, or else all that is known."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"


def hint(called: str, key: Any, known: Iterable[str]) -> str:
    """How the message on the unknown option `key` of `called` goes on: where it is written today, or the nearest."""
    return _old_names.elsewhere(called, key) or nearest(str(key), known)


def unknown_keys(name: str, given: Iterable[Any], known: Iterable[str]) -> None:
    """Refuses keys that are not known, naming the nearest one that is."""
    known = list(known)
    for key in given:
        if key not in known:
            raise invalid(str(key), f"unknown key {key!r} in {name}{hint(name, key, known)}", key)


def not_available(what: str, instead: str = "") -> ValueError:
    """The error for a part of Ray Serve's API that this version of Eagleray does not have."""
    from eagleray import __version__

    text = f"{what} is not available in eagleray {__version__} yet"
    return ValueError(f"{text}; {instead}" if instead else text)
