"""Calls of one process, one after another in the order in which they were made, from whatever threads.

A lock does half of it: who waits for a `threading.Lock` is let in by chance. Here whoever came first goes first.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Order:
    """A lock that is given in the order in which it was asked for, and may be taken again by who has it.

    A wait can be interrupted by Ctrl-C, which gives the place in the queue up.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begins anew: in a forked child those who had it or waited for it do not exist."""
        self._guard = threading.Lock()
        self._waiting: deque[_Turn] = deque()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        turn = _Turn(threading.get_ident())
        try:
            with self._guard:
                if self._owner is None or self._owner == turn.thread:
                    self._give(turn)
                    return
                self._waiting.append(turn)
            turn.come.acquire()
        except BaseException:
            with self._guard:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                elif turn.given:
                    self._take_back()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._guard:
            self._take_back()

    def _give(self, turn: _Turn) -> None:
        self._owner = turn.thread
        self._depth += 1
        turn.given = True

    def _take_back(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            if self._waiting:
                turn = self._waiting.popleft()
                self._give(turn)
                turn.come.release()


class _Turn:
    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.given = False
        self.come = threading.Lock()
        self.come.acquire()
