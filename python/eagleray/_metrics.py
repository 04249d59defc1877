"""What this process counts for `/metrics`, and where: in a file of its own that its node reads.

The file is made at the first use, so that a process which has imported everything can fork, and its child counts in a
file of its own. In a process that is no replica, nor was started by one, it is memory that nobody reads: so what counts
works everywhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from eagleray import _core

MOST_SETS = 2000
"""Sets of tag values that a metric of user code takes in one process; further ones count together."""
MOST_METRICS = 1000
"""Metrics of user code in one process."""


@dataclass
class _Here:
    """What belongs to one process."""

    pid: int
    sheet: _core.Sheet
    families: dict[tuple[object, ...], _core.MetricFamily] = field(default_factory=dict)


_here: _Here | None = None


def here() -> _Here:
    """Of this process, and not of the one that it was forked from.

    No lock: a child that is forked meanwhile would find it taken for ever. Two threads that come here first may each
    make a sheet, and the node adds up what both say.
    """
    global _here  # noqa: PLW0603 - of the process
    found = _here
    if found is None or found.pid != os.getpid():
        run_directory = os.environ.get("EAGLERAY_RUN_DIR") if os.environ.get("EAGLERAY_REPLICA") else None
        directory = f"{run_directory}/metrics" if run_directory else ""
        found = _here = _Here(os.getpid(), _core.Sheet(directory, "replica"))
    return found


def sheet() -> _core.Sheet:
    """Where this process counts."""
    return here().sheet


def family(
    kind: str, name: str, description: str, labels: tuple[str, ...], bounds: tuple[float, ...]
) -> _core.MetricFamily | None:
    """The metric of this process; one for all objects that say the same. None: there are too many."""
    of_process = here()
    key = (kind, name, labels, bounds)
    known = of_process.families.get(key)
    if known is not None:
        return known
    if len(of_process.families) >= MOST_METRICS:
        return None
    made = of_process.sheet.family(kind, name, description, list(labels), list(bounds), MOST_SETS)
    return of_process.families.setdefault(key, made)


def own(name: str, *values: str) -> _core.MetricSeries:
    """The series of a metric of Eagleray's own that Python counts, in this process."""
    of_process = here()
    known = of_process.families.get((name,))
    if known is None:
        known = of_process.families.setdefault((name,), of_process.sheet.own(name))
    return known.series(list(values))
