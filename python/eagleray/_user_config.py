"""A `user_config` as text, on its way from the driver to `reconfigure`.

The rule: it arrives as it was written, and equal ones are equal text, since the controller calls `reconfigure` when the
text is another. What JSON says exactly is JSON. Else it is `typed:` and a JSON value in which numbers, text and lists
stand for themselves, and an object with one key is something else: `dict` with its pairs in order (so keys may be
anything), `tuple`, `bytes`, or `pickle`, for classes that JSON takes for one of these (an `IntEnum`, a named tuple).
"""

from __future__ import annotations

import json
from typing import Any

_TYPED = "typed:"
_ATOMS = frozenset({type(None), bool, int, float, str})


def encode(value: Any) -> str:
    """The text of a `user_config`; empty for None.

    Raises:
        Exception: what the pickling of a part of it raised.
    """
    if value is None:
        return ""
    if _is_json(value):
        return _to_json(value)
    return _TYPED + _to_json(_typed(value))


def decode(text: str) -> Any:
    """The `user_config` of a text."""
    if text.startswith(_TYPED):
        return _value(json.loads(text[len(_TYPED) :]))
    return json.loads(text) if text else None


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=True)


def _is_json(value: Any) -> bool:
    """Whether JSON gives back the very same."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is list:
        return all(_is_json(item) for item in value)
    return kind is dict and all(type(key) is str and _is_json(item) for key, item in value.items())


def _typed(value: Any) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is list:
        return [_typed(item) for item in value]
    if kind is dict:
        return {"dict": [[_typed(key), _typed(item)] for key, item in value.items()]}
    if kind is tuple:
        return {"tuple": [_typed(item) for item in value]}
    from base64 import b64encode

    if kind is bytes:
        return {"bytes": b64encode(value).decode()}
    from eagleray._code import pickling

    return {"pickle": b64encode(pickling.dumps(value)).decode()}


def _value(typed: Any) -> Any:
    if type(typed) is list:
        return [_value(item) for item in typed]
    if type(typed) is not dict:
        return typed
    ((kind, content),) = typed.items()
    if kind == "dict":
        return {_value(key): _value(item) for key, item in content}
    if kind == "tuple":
        return tuple(_value(item) for item in content)
    import pickle
    from base64 import b64decode

    data = b64decode(content)
    return data if kind == "bytes" else pickle.loads(data)
