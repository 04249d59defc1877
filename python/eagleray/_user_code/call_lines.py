"""Access lines of calls through handles: `CALL METHOD OK|ERROR|CANCELLED 0.4ms`, in the log of the replica.

A call pays for noting what happened. The words are made later, of all calls that ended within `_EVERY_S`, on the loop,
and go out by the piece. A replica that is killed loses the lines of that time.

They go to stderr with a mark before them, by which the node writes them to the log and prints them nowhere: at
thousands of calls a second a terminal shows nothing else. Nothing waits for a node that does not read: lines without
room are lost and counted, and so are those beyond `_MOST`.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections import deque
from typing import TYPE_CHECKING

from eagleray._user_code import log

if TYPE_CHECKING:
    from eagleray import _core

OK, ERROR, CANCELLED = "OK", "ERROR", "CANCELLED"

# Before a line that is for the log only: `LOG_ONLY` of `crates/supervisor/src/output.rs`.
_MARK = "\x1e"
_EVERY_S = 0.1
# Lines that may wait to be written.
_MOST = 8192
# A pipe that has room takes so much without waiting, with a line about lost ones.
_PIECE_BYTES = select.PIPE_BUF - 128
# Of a name that no method has.
_NAME_LENGTH = 200

clock = time.perf_counter


class CallLines:
    """Collects what to say of the calls of a replica, on any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.on = True
        self._loop = loop
        self._ended: deque[tuple[str, str, str, float, float]] = deque()
        self._due = False
        self._lost = 0

    def note(self, request: _core.Request, method: str, outcome: str, began: float) -> None:
        """A call of `method`, which began when `clock` said `began`, has ended."""
        if not self.on:
            return
        if len(self._ended) >= _MOST:
            self._lost += 1
            return
        self._ended.append((request.request_id, method, outcome, began, clock()))
        if not self._due:
            # Two threads may find it so at a time: then it is written twice, the second time nothing.
            self._due = True
            try:
                self._loop.call_soon_threadsafe(self._loop.call_later, _EVERY_S, self.write)
            except RuntimeError:
                pass  # the replica ends, and has written its last

    def write(self) -> None:
        """Writes what there is. On the loop; once more at the end of the replica."""
        self._due = False
        words, since_epoch = log.access(), time.time() - clock()
        lines: list[str] = []
        size = 0
        for _ in range(len(self._ended)):
            request_id, method, outcome, began, ended = self._ended.popleft()
            if words is None:
                continue
            name = method if method.isidentifier() else repr(method)[:_NAME_LENGTH]
            line = words(f"CALL {name} {outcome} {1000 * (ended - began):.1f}ms", request_id, since_epoch + ended)
            if line is None:
                continue
            size += len(line) + 2
            if size > _PIECE_BYTES:
                self._send(lines)
                lines, size = [], len(line) + 2
            lines.append(line)
        self._send(lines)

    def _send(self, lines: list[str]) -> None:
        data = "".join([f"{_MARK}{line}\n" for line in lines])
        if self._lost:
            data += f"{_MARK}({self._lost} lines of calls lost: the log did not keep up)\n"
        try:
            if data and select.select((), (2,), (), 0)[1]:
                os.write(2, data.encode(errors="replace"))
                self._lost = 0
                return
        except (OSError, ValueError):
            pass  # user code has closed it
        self._lost += len(lines)
