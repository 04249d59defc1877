"""Values of JSON as YAML, in the way in which `serve build` writes configs: by lines, two spaces, in their order.

A text stands as it is where every reader of YAML 1.1 or 1.2 takes it for a text; else in single quotes, or, where it
has what those cannot hold, in double ones. So it is quoted a little more often than it must be, never less.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

#: What readers of YAML 1.1 take for something else than a text: words, numbers of all their kinds, dates, `<<`, `=`.
_NO_TEXT = re.compile(
    r"""(?x)
      (?i:yes|no|y|n|true|false|on|off|null|~|) | <<? | =
    | [-+]? (?: 0b[01_]+ | 0x[0-9a-fA-F_]+ | 0o?[0-7_]+ | [0-9][0-9_]* (?: :[0-5]?[0-9] )* )
    | [-+]? (?: [0-9][0-9_]* (?: :[0-5]?[0-9] )* )? \. [0-9_]* (?: [eE][-+]?[0-9]+ )?
    | [-+]? [0-9][0-9_]* [eE] [-+]? [0-9]+
    | [-+]? \. (?i:inf|nan)
    | [0-9]{4} - [0-9]{1,2} - [0-9]{1,2} (?: [Tt\ \t] .* )?
    """
)
#: What stands as it is: without a sign of YAML at the beginning, and without `: ` and ` #`.
_PLAIN = re.compile(r"(?!---|\.\.\.|[-?:](?:\s|$)|[\s,\[\]{}#&*!|>'\"%@`])(?:(?!:\s|:$|\s#)[\x20-\x7e])*(?<!\s)")


def document(top: dict[str, Any]) -> str:
    """A mapping, with an empty line between its entries."""
    return "\n".join("".join(f"{line}\n" for line in _entry(key, value)) for key, value in top.items())


def _lines(value: Any) -> Iterator[str]:
    """Of a mapping or list that is not empty."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _entry(key, inner)
        return
    for item in value:
        if not _is_block(item):
            yield f"- {_scalar(item)}"
            continue
        for at, line in enumerate(_lines(item)):
            yield f"  {line}" if at else f"- {line}"


def _entry(key: str, value: Any) -> Iterator[str]:
    if not _is_block(value):
        yield f"{_scalar(key)}: {_scalar(value)}"
        return
    yield f"{_scalar(key)}:"
    indent = "  " if isinstance(value, dict) else ""
    for line in _lines(value):
        yield indent + line


def _is_block(value: Any) -> bool:
    return isinstance(value, (dict, list)) and bool(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return _number(value)
    return json.dumps(value)  # null, true, 1, {}, []


def _number(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    text = repr(value)
    # Without a point YAML 1.1 takes it for a text.
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and not _NO_TEXT.fullmatch(value):
        return value
    if value.isascii() and value.isprintable():
        doubled = value.replace("'", "''")
        return f"'{doubled}'"
    return _double(value)


def _double(value: str) -> str:
    """What JSON escapes, but as single characters also beyond 16 bits."""
    written = []
    for character in value:
        if ord(character) > 0xFFFF:
            written.append(f"\\U{ord(character):08X}")
        elif 0x7F <= ord(character) <= 0xFF:
            written.append(f"\\x{ord(character):02X}")
        else:
            written.append(json.dumps(character)[1:-1])
    return f'"{"".join(written)}"'
