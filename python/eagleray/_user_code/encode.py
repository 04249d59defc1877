"""JSON of what user code returns.

The C encoder does what it can; only a value that it refuses is walked through in Python. So plain data costs nothing
extra, and dataclasses, pydantic models, numpy and pandas work without importing any of them: whoever returns such a
value has imported its module already.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import pathlib
import re
import sys
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from types import GeneratorType
from typing import Any

from eagleray._json import dumps

_TEXT = (
    datetime.datetime,
    datetime.date,
    datetime.time,
)
_AS_STR = (
    uuid.UUID,
    pathlib.PurePath,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)


def encode(value: Any) -> str:
    """Compact JSON.

    Raises:
        ValueError: the value cannot be encoded; the message names the type.
    """
    try:
        return dumps(value)
    except (TypeError, ValueError):
        return dumps(plain(value))


def plain(value: Any) -> Any:
    """The value as dicts, lists, strings and numbers."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, AbstractSet, deque, GeneratorType, Iterator)):
        return [plain(item) for item in value]
    if isinstance(value, _TEXT):
        return value.isoformat()
    if isinstance(value, _AS_STR):
        return str(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, (bytes, bytearray)):
        return value.decode()
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, BaseException):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return _of_libraries(value)


def _of_libraries(value: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return plain(value.tolist())
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        if isinstance(value, pandas.DataFrame):
            return plain(value.to_dict(orient="records"))
        if isinstance(value, (pandas.Series, pandas.Index)):
            return plain(value.tolist())
    if callable(dump := getattr(value, "model_dump", None)):  # pydantic 2
        return plain(dump(mode="json"))
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    raise ValueError(
        f"a value of type {name} cannot be encoded as JSON; return plain data, bytes, str or a starlette Response"
    )


def _key(key: Any) -> Any:
    if key is None or isinstance(key, (str, int, float)):
        return key.value if isinstance(key, enum.Enum) else key
    made = plain(key)
    return made if isinstance(made, (str, int, float)) else str(made)
