"""The logger `eagleray.serve`: user code may use it, Eagleray's own notes go through it. To stderr.

`ray.serve`, which programs for Ray Serve log to by name, is below it: what is logged there goes to the same handlers,
at the same level unless the program sets one of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging


_ours: logging.Handler | None = None


def logger() -> logging.Logger:
    """The logger; the first call configures it, unless somebody did that already."""
    import logging

    log = logging.getLogger("eagleray.serve")
    if not log.handlers and log.level == logging.NOTSET:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s %(name)s %(message)s"))
        give_way(handler)
        log.setLevel(logging.INFO)
    return log


def give_way(handler: logging.Handler) -> None:
    """Puts `handler` in the place of the one that is there so far: a replica's lines say which replica it is."""
    import logging

    global _ours  # noqa: PLW0603 - the logger is the process's
    log = logging.getLogger("eagleray.serve")
    if _ours is not None:
        log.removeHandler(_ours)
    _ours = handler
    log.addHandler(handler)
    log.propagate = False
    _lead_ray(log)


def _lead_ray(log: logging.Logger) -> None:
    """Puts the logger `ray.serve` below `log`, unless Ray itself or the program has given it handlers."""
    import logging

    # Made first, else whoever asks for it later would make it a child of ours.
    logging.getLogger("ray")
    theirs = logging.getLogger("ray.serve")
    if theirs.propagate and not theirs.handlers:
        theirs.parent = log
