"""An event loop whose time is its own: it jumps to the next timer when nothing else is left to do."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    def __init__(self, turn_s: float) -> None:
        super().__init__()
        self.now = 0.0
        self._turn_s = turn_s

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everything waits, and no timer is set: this would wait for ever")
        self.now += max(timeout, self._turn_s)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """For code without threads and sockets. `turn_s`: what a turn of the loop takes at least."""

    def __init__(self, turn_s: float = 0.0) -> None:
        self._jumping = _Jumping(turn_s)
        super().__init__(self._jumping)
        # Timers are due exactly, not a little early.
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now


def run(main: Coroutine[Any, Any, T], turn_s: float = 0.0) -> T:
    """Like `asyncio.run`, in no time."""
    with asyncio.Runner(loop_factory=lambda: JumpingLoop(turn_s)) as runner:
        return runner.run(main)


def now() -> float:
    """Seconds since the loop began."""
    return asyncio.get_running_loop().time()
