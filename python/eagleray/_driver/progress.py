"""What a `serve.run` that takes long is doing: said after `QUIET_S`, and again every `REPEAT_S` while it lasts.

A quick one says nothing and costs a timer that is never due.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

#: Less is no time to ask what goes on.
QUIET_S = 2.0
REPEAT_S = 10.0


class _Current(threading.local):
    progress: Progress | None = None


_current = _Current()


def now(doing: str | Callable[[], str]) -> None:
    """What this thread does from now on: words, or a function that finds them when they are wanted."""
    if _current.progress is not None:
        _current.progress.doing = doing


class Progress:
    """While a thread has it entered, says what the thread does `now`, with the seconds since it was entered."""

    def __init__(self) -> None:
        self.doing: str | Callable[[], str] = ""
        self._over = threading.Event()
        self._timer: threading.Timer | None = None
        self._began = 0.0
        self._outer: Progress | None = None

    def __enter__(self) -> Progress:
        self._began = time.monotonic()
        self._outer, _current.progress = _current.progress, self
        self._arm(QUIET_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _current.progress = self._outer
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._say)
        timer.daemon = True
        self._timer = timer
        try:
            timer.start()
        except RuntimeError:  # no thread can be made: it is done in silence
            self._timer = None

    def _say(self) -> None:
        try:
            doing = self.doing if isinstance(self.doing, str) else self.doing()
        except Exception:
            doing = ""  # nobody can say at the moment
        if self._over.is_set():
            return
        if doing:
            from eagleray.serve._log import logger

            logger().info("%s (%.0f s so far)", doing, time.monotonic() - self._began)
        self._arm(REPEAT_S)
