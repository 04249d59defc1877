"""Tracebacks as users read them: the frames of their code, without those of Eagleray around and below it.

An error whose frames are all Eagleray's keeps them, unless it is one that Eagleray raises to say what is wrong: then
its text says it all.
"""

from __future__ import annotations

import os
import traceback
from typing import Any

_OWN = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - on the path of every import


class RemoteTraceback(Exception):  # noqa: N818 - it is the cause of an error, not one
    """Where a remote exception was raised: the text of its traceback, shown as the cause of what the caller gets.

    Attributes:
        text: The traceback.
        call: The deployment and method that the exception came from; empty where nobody said.
        request_id: The request in whose name the log of that deployment has the traceback.
    """

    def __init__(self, text: str, call: str = "", request_id: str = "") -> None:
        super().__init__(text)
        self.text, self.call, self.request_id = text, call, request_id

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text, self.call, self.request_id)


def text_of(error: BaseException) -> str:
    """The traceback of an error, its causes and its parts, as `traceback.format_exception` has it, less our frames."""
    whole = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    _strip(whole, error, set())
    return "".join(whole.format())


def line_of(error: BaseException) -> str:
    """Its type and text, with its notes, without a traceback."""
    whole = traceback.TracebackException(type(error), error, None, compact=True)
    return "".join(whole.format_exception_only()).rstrip("\n")


def place_of(error: BaseException) -> str:
    """Where in the users' code it was raised last, as `file:line in function`; empty if nowhere."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if _is_theirs(frame)]
    return f"{theirs[-1].filename}:{theirs[-1].lineno} in {theirs[-1].name}" if theirs else ""


def is_ours(error: BaseException) -> bool:
    """Whether no code of a user was involved, so that its text says it all."""
    return not place_of(error)


def _is_theirs(frame: traceback.FrameSummary) -> bool:
    # Frozen: the import system, between a line that imports and the module.
    return not frame.filename.startswith((_OWN, "<frozen importlib"))


def _strip(shown: traceback.TracebackException, error: BaseException | None, seen: set[int]) -> None:
    if id(shown) in seen:
        return
    seen.add(id(shown))
    theirs = [frame for frame in shown.stack if _is_theirs(frame)]
    if theirs or getattr(type(error), "_says_what_is_wrong", False):
        shown.stack[:] = theirs
    for part, its_error in (
        (shown.__cause__, error and error.__cause__),
        (shown.__context__, error and error.__context__),
        *zip(shown.exceptions or (), getattr(error, "exceptions", ()), strict=False),
    ):
        if part is not None:
            _strip(part, its_error, seen)
