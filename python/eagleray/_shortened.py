"""Errors of public functions begin at the line of the user that called one, not ten frames of ours below it.

Of an error that Eagleray raises to say what is wrong, the frames inside say nothing more. Frames of users' code in
between stay, as do causes; so does everything of an error of another kind, which is a fault of ours.
`EAGLERAY_FULL_TRACEBACKS=1` keeps every frame.
"""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def shortened(function: F) -> F:
    """A public function whose errors have no frames of ours."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if _says_what_is_wrong(error):
                error.__traceback__ = _without_ours(error.__traceback__)
            raise  # bare, so that this frame is not added again

    return called  # type: ignore[return-value]


def users_stacklevel() -> int:
    """The `stacklevel` for `warnings.warn`, called where this is: the line of the user that led there."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    return level


def _is_ours(frame: types.FrameType) -> bool:
    # By the module: what a dataclass generates has no file.
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "eagleray"


def _says_what_is_wrong(error: Exception) -> bool:
    if os.environ.get("EAGLERAY_FULL_TRACEBACKS") == "1":
        return False
    if isinstance(error, (TypeError, ValueError, RuntimeError, OSError, AttributeError)):
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is not None and not _is_ours(last.tb_frame):
        return True
    return getattr(type(error), "_says_what_is_wrong", False) is True


def _without_ours(found: types.TracebackType | None) -> types.TracebackType | None:
    kept = []
    while found is not None:
        if not _is_ours(found.tb_frame):
            kept.append(found)
        found = found.tb_next
    rest = None
    for one in reversed(kept):
        rest = types.TracebackType(rest, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return rest
