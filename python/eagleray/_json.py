"""JSON as the standard library reads and writes it, in less time: bodies of requests and answers are read and written
for each request, and that is much of what a small model costs.
"""

from __future__ import annotations

import json
from json import encoder
from typing import Any

from eagleray import _core

_parse = _core.parse_json
_own = json.JSONEncoder(separators=(",", ":"))


def loads(data: bytes) -> Any:
    """The value of a JSON text, as `json.loads` gives it.

    Raises:
        ValueError: as `json.loads` does (`json.JSONDecodeError`, `UnicodeDecodeError`).
        RecursionError: it is nested too deep.
    """
    try:
        return _parse(data)
    except ValueError:
        # Invalid, or one of the few things that only this one takes.
        return json.loads(data)


def dumps(value: Any) -> str:
    """Compact JSON in ASCII: `json.dumps` with `separators=(",", ":")`, except that a value which contains itself
    is found by its depth.

    Raises:
        TypeError: something in it is no plain data.
        RecursionError: it is nested too deep, or contains itself.
    """
    return "".join(_encode(value, 0))


def _make_encode() -> Any:
    # What `JSONEncoder.encode` makes anew for every value.
    make = encoder.c_make_encoder  # type: ignore[attr-defined]  # absent from the stubs
    if make is None:
        return lambda value, _level: (_own.encode(value),)
    markers, indent, sort_keys, skip_keys, allow_nan = None, None, False, False, True
    escape = encoder.encode_basestring_ascii
    return make(markers, _own.default, escape, indent, ":", ",", sort_keys, skip_keys, allow_nan)


_encode = _make_encode()
