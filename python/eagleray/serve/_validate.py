"""Checks of option values, shared by the decorator and the configuration objects.

Plain functions that raise `ValueError` or `TypeError` with the option's name, what was given and what is taken. No
validation library: importing one would cost more than starting a node.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable
from typing import Any


def integer(name: str, value: Any, *, minimum: int) -> int:
    """An int of at least `minimum`. Integral floats and numeric strings pass, as in Ray Serve's Python API."""
    number = value
    if isinstance(value, str):
        try:
            number = int(value)
        except ValueError:
            number = None
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {value!r}")
    return number


def seconds(name: str, value: Any, *, positive: bool) -> float:
    """A finite number of seconds."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        least = "above 0" if positive else "of at least 0"
        raise ValueError(f"{name} must be a number of seconds {least}, got {value!r}")
    return number


def quantity(name: str, value: Any) -> float:
    """A resource quantity, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be at least 0, got {value!r}")
    return float(value)


def to_json(name: str, value: Any) -> str:
    """Compact JSON of `value`, its keys in the order given."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} must be JSON-serialisable: {error}") from None


def unknown_keys(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuses keys that are not known, naming the nearest one that is."""
    known = list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known keys are {', '.join(known)}"
            raise ValueError(f"unknown key {key!r} in {name}{hint}")


def not_available(what: str, instead: str = "") -> ValueError:
    """The error for a part of Ray Serve's API that this version of Eagleray does not have."""
    from eagleray import __version__

    text = f"{what} is not available in eagleray {__version__} yet"
    return ValueError(f"{text}; {instead}" if instead else text)
