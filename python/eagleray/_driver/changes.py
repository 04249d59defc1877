"""What a reload did, in the words of one line: which files changed, and what became of each deployment."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

#: More files than these are counted.
_NAMED = 3


def named(paths: Iterable[str], directory: str) -> str:
    """Files, by their names from this directory where they lie in it."""
    inside = directory + os.sep
    names = sorted(path.removeprefix(inside) for path in paths)
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def between(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    """What deploying the specification `after` where `before` ran does to each deployment."""
    old = {} if before is None else {one["name"]: one for one in before["deployments"]}
    new = {one["name"]: one for one in after["deployments"]}
    kept = [name for name in new if name in old]
    restarted = [name for name in kept if new[name]["version"] != old[name]["version"]]
    in_place = [name for name in kept if name not in restarted and new[name]["options"] != old[name]["options"]]
    said = [
        _said(restarted, "restarts", "restart"),
        _said(in_place, "is changed in place", "are changed in place"),
        _said([name for name in new if name not in old], "starts", "start"),
        _said([name for name in old if name not in new], "ends", "end"),
    ]
    return "; ".join(filter(None, said)) or "nothing restarts"


def _said(names: list[str], one: str, several: str) -> str:
    if not names:
        return ""
    if len(names) == 1:
        return f"{names[0]} {one}"
    return f"{', '.join(names[:-1])} and {names[-1]} {several}"
