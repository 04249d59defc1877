"""One caller of a batch function: its item, and what comes back to it."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from eagleray.serve._shared_work import get_multiplexed_model_id

if TYPE_CHECKING:
    from eagleray.serve._batch_queue import BatchQueue

# How many values of a stream may wait for their reader before the function waits for it.
STREAM_VALUES = 256


class Item:
    """One call by one caller."""

    __slots__ = (
        "args",
        "arrived",
        "context",
        "future",
        "gone",
        "kwargs",
        "model_id",
        "queue",
        "reader",
        "stream",
        "waiting",
    )

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], queue: BatchQueue) -> None:
        self.queue = queue
        self.args = args
        self.kwargs = kwargs
        # Cheaper than the loop's `create_future`.
        self.future: asyncio.Future[Any] = asyncio.Future(loop=queue.loop)
        self.stream: Stream | None = None
        # Of a stream: tells when the generator that reads it is gone, unread.
        self.reader: weakref.ref[Any] | None = None
        self.arrived = queue.clock()
        self.model_id = get_multiplexed_model_id()
        # The batch runs in that of its oldest item, so that traces and the like have a parent.
        self.context = copy_context()
        self.waiting = True
        self.gone = False

    @property
    def first(self) -> Any:
        """What `batch_size_fn` is given of it."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()), None)

    def fail(self, error: BaseException) -> None:
        """Ends the call with an error, unless it has ended."""
        if self.stream is not None:
            self.stream.end(error)
        elif not self.future.done():
            self.future.set_exception(error)


class Stream:
    """What a generator's batch has for one caller. The caller reads; at most `STREAM_VALUES` wait for it."""

    __slots__ = ("_changed", "_error", "_loop", "_values", "ended", "on_room")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._values: deque[Any] = deque()
        self._changed: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self.ended = False
        # Called when there is room again, or nobody who reads; set by the batch.
        self.on_room: Callable[[], None] | None = None

    @property
    def full(self) -> bool:
        """Whether the batch should wait for this reader."""
        return not self.ended and len(self._values) >= STREAM_VALUES

    def put(self, value: Any) -> None:
        """One value for the reader."""
        self._values.append(value)
        self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """No more values; the reader gets `error` after those that wait."""
        if not self.ended:
            self.ended, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def next(self) -> Any:
        """The next value. Cancel safe.

        Raises:
            StopAsyncIteration: there are no more.
        """
        while not self._values:
            if self.ended:
                raise self._error or StopAsyncIteration
            self._changed = self._loop.create_future()
            await self._changed
        value = self._values.popleft()
        if self.on_room is not None:
            self.on_room()
        return value
