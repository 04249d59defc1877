"""The queue of one batch function of one instance: items wait here, and become calls of the function.

Rules:

- A batch takes its items at the moment when it is handed over. While all `max_concurrent_batches` are busy nothing is
  set aside: what waits goes on filling, and the next batch takes as much of it as fits.
- First in, first out. An item that does not fit any more is the first of the next batch.
- The wait begins with the oldest item, so an item that waited while the function was busy does not wait again.
- A caller that is gone is not in a batch. One that goes while its batch runs leaves a gap that nobody reads.
- An item belongs to a running call, so a queue holds as many items as its callers wait for: `max_ongoing_requests`,
  times the calls that one request makes at a time. It needs no limit of its own.

Everything happens on one event loop, without a task that collects: an item that arrives, a batch that ends and one
timer for the oldest item are the only events.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eagleray._closing import is_closed
from eagleray.serve._batch_item import Item
from eagleray.serve._own_metrics import BatchMetrics, of_batches
from eagleray.serve._shared_work import own_copy, work_for
from eagleray.serve._turns import together_on
from eagleray.serve.exceptions import RayServeException

# A function that hands its work to a thread waits there for the interpreter, which the loop keeps for up to 5 ms while
# it tells many callers. After a batch that is long and large enough for that to matter, the loop lets go of it for the
# shortest time that a system sleeps, some 50 us, between the start of the next batch and the first answer.
_MANY, _LONG_S, _NAP_S = 8, 0.002, 1e-6


@dataclass
class Settings:
    """How a batch function batches. Shared by all queues of the function; what changes holds for the next batch."""

    max_batch_size: int
    wait_s: float
    max_concurrent_batches: int
    size_of: Callable[[list[Any]], Any] | None = None
    # With a target the other numbers are upper bounds.
    target_s: float | None = None


Run = Callable[[Sequence[Item]], Any]


class Timer(Protocol):
    """What calls `_due` some time, unless it is cancelled."""

    def cancel(self) -> None:
        """Does not call back."""


class BatchQueue:
    """See the module. `run` makes the coroutine, or the async generator, of a batch."""

    def __init__(self, settings: Settings, run: Run, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # uvloop's own is only as fine as a millisecond. A loop that has made its time its own goes by that.
        is_own = isinstance(loop, asyncio.BaseEventLoop) and type(loop).time is not asyncio.BaseEventLoop.time
        self.clock = loop.time if is_own else time.monotonic
        self.settings = settings
        # When each running batch began, by its task: for the wrapper's private getters.
        self.started: dict[asyncio.Task[None], float] = {}
        self._run = run
        self._name = name
        self._waiting: deque[Item] = deque()
        # Of those that wait, the ones whose callers are gone.
        self._gone = 0
        self._running = 0
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._go_on_together = together_on(loop)
        # Whether the function returned without giving the loop to anybody, the last time.
        self._kept_loop = False
        # Made for the first batch.
        self._metrics: BatchMetrics | None = None

    # --- events -----------------------------------------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """An item arrives.

        Raises:
            RuntimeError: it is larger than a batch may be, by `batch_size_fn`.
        """
        if self.settings.size_of is not None:
            self._refuse_too_large(item)
        self._waiting.append(item)
        if self._running < self.settings.max_concurrent_batches:
            self._look(arrival=True)

    def leave(self, item: Item) -> None:
        """The caller of an item is gone."""
        if item.gone:
            return
        item.gone = True
        if item.waiting:
            self._gone += 1
            if self._gone == len(self._waiting):
                self._waiting.clear()
                self._gone = 0
                self._stop_timer()
        elif item.stream is not None:
            item.stream.end()
            if item.stream.on_room is not None:
                item.stream.on_room()

    def settings_changed(self) -> None:
        """What waits is judged anew. On the queue's loop."""
        self._stop_timer()
        self._look()

    # --- decisions --------------------------------------------------------------------------------------------------

    def _look(self, *, arrival: bool = False) -> None:
        """Hands over what is to be handed over now, and sets the timer for the rest."""
        while self._running < self.settings.max_concurrent_batches and self._waiting:
            self._drop_gone_heads()
            if not self._waiting:
                break
            now = self.clock()
            hold_s = self._hold_s(now)
            if hold_s > 0 or (arrival and hold_s == 0):
                self._set_timer(now, hold_s)
                return
            self._hand_over(now)
        self._stop_timer()

    def _hold_s(self, now: float) -> float:
        """How long what waits is still to be filled, in seconds; negative: it is full, 0: its time is over."""
        if self._is_full():
            return -1.0
        return max(0.0, self._waiting[0].arrived + self.settings.wait_s - now)

    def _is_full(self) -> bool:
        if self.settings.size_of is None:
            return len(self._waiting) - self._gone >= self.settings.max_batch_size
        try:
            live = [item.first for item in self._waiting if not item.gone]
            return bool(self.settings.size_of(live) >= self.settings.max_batch_size)
        except Exception:
            # Raised again where there are callers to tell.
            return True

    def _set_timer(self, now: float, hold_s: float) -> None:
        at = now + hold_s
        if self._timer is not None:
            if self._timer_at <= at:
                # It looks again when it fires.
                return
            self._timer.cancel()
        self._timer_at = at
        # With nothing to wait for, all that arrives in this turn of the loop still goes together.
        self._timer = self.loop.call_soon(self._due) if hold_s <= 0 else self.loop.call_later(hold_s, self._due)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._look()

    def _drop_gone_heads(self) -> None:
        while self._waiting and self._waiting[0].gone:
            self._waiting.popleft()
            self._gone -= 1

    # --- batches ----------------------------------------------------------------------------------------------------

    def _hand_over(self, now: float) -> None:
        batch = self._take(now)
        if not batch:
            return
        self._taken(batch)
        self._count(batch, now)
        self._running += 1
        task = self.loop.create_task(self._serve(batch), context=batch[0].context)
        self.started[task] = time.time()
        task.add_done_callback(self._forget)

    def _count(self, batch: list[Item], now: float) -> None:
        if self._metrics is None:
            self._metrics = of_batches(self._name)
            if self._metrics is None:
                return
        most = max(1, self.settings.max_batch_size)
        self._metrics.begun(now - batch[0].arrived, len(batch), most, len(self._waiting) - self._gone)

    def _taken(self, batch: list[Item]) -> None:
        """These items leave the queue."""

    def _forget(self, task: asyncio.Task[None]) -> None:
        self.started.pop(task, None)

    def _take(self, now: float) -> list[Item]:
        """The items of the next batch, out of the queue. Empty if `batch_size_fn` had none of them."""
        limit = self._limit(now)
        batch: list[Item] = []
        if self.settings.size_of is not None:
            limit = self._fitting(self.settings.size_of)
        waiting = self._waiting
        while waiting and len(batch) < limit:
            item = waiting.popleft()
            if item.gone:
                self._gone -= 1
            else:
                item.waiting = False
                batch.append(item)
        return batch

    def _limit(self, now: float) -> int:
        return self.settings.max_batch_size

    def _fitting(self, size_of: Callable[[list[Any]], Any]) -> int:
        """How many of the oldest items make a batch that is not too large.

        Bisection: a size that does not shrink when items are added needs few measurements, and any other still gives
        a batch that fits.
        """
        live = [item for item in self._waiting if not item.gone]
        firsts = [item.first for item in live]
        try:
            fits, too_many = 0, len(live) + 1
            # Mostly everything fits, or everything but the last.
            middle = len(live)
            while too_many - fits > 1:
                if size_of(firsts[:middle]) <= self.settings.max_batch_size:
                    fits = middle
                else:
                    too_many = middle
                middle = (fits + too_many) // 2
            if fits == 0:
                # The limit was lowered while it waited.
                self._drop_head(self._too_large(size_of(firsts[:1])))
            return fits
        except Exception as error:
            for item in live:
                item.waiting = False
                item.fail(own_copy(error, first=item is live[0]))
            self._waiting.clear()
            self._gone = 0
            return 0

    def _drop_head(self, error: BaseException) -> None:
        head = self._waiting.popleft()
        head.waiting = False
        head.fail(error)

    def _refuse_too_large(self, item: Item) -> None:
        assert self.settings.size_of is not None
        size = self.settings.size_of([item.first])
        if isinstance(size, bool) or not hasattr(size, "__le__") or not hasattr(size, "__sub__"):
            raise TypeError(f"batch_size_fn of {self._name}() must return a number, got {size!r}")
        if size > self.settings.max_batch_size:
            raise self._too_large(size)

    def _too_large(self, size: Any) -> RuntimeError:
        return RuntimeError(
            f"the size of one item is {size} by batch_size_fn, more than a whole batch of {self._name}() may have "
            f"(max_batch_size={self.settings.max_batch_size}): raise max_batch_size, or split the item"
        )

    async def _serve(self, batch: list[Item]) -> None:
        """Runs one batch, which holds one of the permits until all of it has ended."""
        groups: dict[str, list[Item]] = {}
        for item in batch:
            groups.setdefault(item.model_id, []).append(item)
        if len(groups) == 1:
            await self._serve_group(batch, last=True)
            return
        tasks = [
            self.loop.create_task(self._serve_group(group), context=group[0].context.copy())
            for group in groups.values()
        ]
        try:
            await asyncio.wait(tasks)
        finally:
            self._release()

    async def _serve_group(self, group: list[Item], *, last: bool = False) -> None:
        """Calls the function for items of one model and tells their callers. `last`: and releases the permit."""
        with work_for(group[0].model_id):
            turned: list[bool] = []
            marker = self.loop.call_soon(turned.append, True)
            began = self.clock()
            error: BaseException | None = None
            results: list[Any] | None = None
            task = asyncio.current_task()
            try:
                running = self._run(group)
                if group[0].stream is not None:
                    await self._stream(running, group)
                else:
                    results = _checked(await running, len(group), self._name)
            except BaseException as raised:
                if isinstance(raised, GeneratorExit) and is_closed(task):
                    raise
                error = self._said(raised)
            marker.cancel()
        self._kept_loop = not turned
        took = self.clock() - began
        if self._metrics is not None:
            self._metrics.ended(took)
        self._measured(group, took)
        if last and turned:
            # The function left the loop to others: the next batch goes to it first, then the answers to the callers.
            self._release()
            if len(group) >= _MANY and self.clock() - began >= _LONG_S and self._running:
                self.loop.call_soon(time.sleep, _NAP_S)
            # In the turn in which the next batch starts, behind it.
            self.loop.call_soon(self._tell, group, results, error)
        else:
            # It had the loop for itself, so everybody waited: the answers first, then what has arrived meanwhile.
            self._tell(group, results, error)
            if last:
                self.loop.call_soon(self._release)

    def _tell(self, group: list[Item], results: list[Any] | None, error: BaseException | None) -> None:
        _tell(group, results, error)
        self._go_on_together(len(group))

    def _measured(self, group: Sequence[Item], seconds: float) -> None:
        """A call for these items took so long."""

    def _release(self) -> None:
        self._running -= 1
        self._look()

    def _said(self, error: BaseException) -> BaseException:
        if isinstance(error, asyncio.CancelledError):
            # A caller that gets it would take it for its own cancellation.
            made = RayServeException(f"the batch of {self._name}() was cancelled by its own code")
            made.__cause__ = error
            return made
        return error

    async def _stream(self, generator: Any, group: list[Item]) -> None:
        room: asyncio.Future[None] | None = None

        def on_room() -> None:
            if room is not None and not room.done():
                room.set_result(None)

        streams = [item.stream for item in group if item.stream is not None]
        for stream in streams:
            stream.on_room = on_room
        try:
            async for values in generator:
                for stream, value in zip(streams, _checked(values, len(group), self._name), strict=True):
                    if stream.ended:
                        continue
                    if value is StopIteration or value is StopAsyncIteration:
                        stream.end()
                    else:
                        stream.put(value)
                while any(stream.full for stream in streams):
                    room = self.loop.create_future()
                    await room
                if all(stream.ended for stream in streams):
                    break
                # Readers get what there is before more is made.
                await asyncio.sleep(0)
        finally:
            await generator.aclose()


def _checked(results: Any, count: int, name: str) -> list[Any]:
    """The results of a batch, one for each of `count` callers."""
    if isinstance(results, (str, bytes, bytearray, dict, set, frozenset)) or not hasattr(results, "__len__"):
        raise RayServeException(
            f"{name}() must return a list with one result for each of the {count} items of its batch, "
            f"it returned {type(results).__name__}"
        )
    found = list(results)
    if len(found) != count:
        raise RayServeException(
            f"{name}() got a batch of {count} items and returned {len(found)} results: "
            "it must return one for each item, in the same order"
        )
    return found


def _tell(group: list[Item], results: list[Any] | None, error: BaseException | None) -> None:
    if error is not None:
        for number, item in enumerate(group):
            item.fail(own_copy(error, first=number == 0))
    elif results is None:
        for item in group:
            assert item.stream is not None
            item.stream.end()
    else:
        for item, result in zip(group, results, strict=True):
            if not item.future.done():
                item.future.set_result(result)
