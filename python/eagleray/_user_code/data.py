"""What an ASGI application sends as bytes."""

from __future__ import annotations

from typing import Any


def as_bytes(value: Any) -> bytes:
    """The value, if it is `bytes` or memory that can be read as such.

    Raises:
        TypeError: it is neither. A number is not, although `bytes` takes it, and makes as many zeros of it.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"the ASGI application sent a value of type {type(value).__name__} where bytes belong")
