"""Tracebacks as users read them: the frames of their code, without those of Eagleray around and below it.

An error whose frames are all Eagleray's keeps them, unless it is one that Eagleray raises to say what is wrong: then
its text says it all.
"""

from __future__ import annotations

import os
import sys
import traceback

_OWN = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - on the path of every import


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
    if theirs or _explains_itself(error):
        shown.stack[:] = theirs
    for part, its_error in (
        (shown.__cause__, error and error.__cause__),
        (shown.__context__, error and error.__context__),
        *zip(shown.exceptions or (), getattr(error, "exceptions", ()), strict=False),
    ):
        if part is not None:
            _strip(part, its_error, seen)


def _explains_itself(error: BaseException | None) -> bool:
    exceptions = sys.modules.get("eagleray.serve.exceptions")
    return exceptions is not None and isinstance(error, exceptions.RayServeException)
