"""`@serve.batch`: callers pass single items, the function gets lists.

@serve.deployment(max_ongoing_requests=64)
class Classifier:
    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def predict(self, images: list) -> list:
        return await asyncio.to_thread(self.model.predict, images)

    async def __call__(self, request):
        return await self.predict(await request.json())

The decorated function stays an `async def`: `await self.predict(image)`. One that streams gives an async generator, and
its item is in the queue from the call on. Each instance has a queue of its own; how it works is in `_batch_queue`.
Settings belong to the function, as the setters on it do.

A queue lives on one event loop: in a replica on the replica's. A call on another loop (`asyncio.run` in a sync method)
is carried over to it, so that all callers meet in the same batches.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import threading
import traceback
import weakref
from asyncio import _get_running_loop as running_loop
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

from eagleray import _runtime
from eagleray._shortened import shortened
from eagleray.serve._batch_columns import Columns
from eagleray.serve._batch_item import Item, Stream
from eagleray.serve._batch_learning import make_queue
from eagleray.serve._batch_queue import BatchQueue, Settings
from eagleray.serve._log import logger
from eagleray.serve._methods import Owners

__all__ = ["batch"]

F = TypeVar("F", bound=Callable[..., Any])


class _Size(int):
    """The default, which differs from the same number when that is given."""


class _Seconds(float):
    """As `_Size`."""


_SIZE, _WAIT_S = _Size(10), _Seconds(0.01)
# With a target for the latency a batch is as large as that allows; this bounds what one call may hold in memory.
_LARGEST = 1024


@overload
def batch(_func: F, /) -> F: ...


@overload
def batch(
    _func: None = None,
    /,
    max_batch_size: int = _SIZE,
    batch_wait_timeout_s: float = _WAIT_S,
    max_concurrent_batches: int = 1,
    batch_size_fn: Callable[[list[Any]], Any] | None = None,
    target_latency_ms: float | None = None,
) -> Callable[[F], F]: ...


@shortened
def batch(
    _func: Any = None,
    /,
    max_batch_size: int = _SIZE,
    batch_wait_timeout_s: float = _WAIT_S,
    max_concurrent_batches: int = 1,
    batch_size_fn: Callable[[list[Any]], Any] | None = None,
    target_latency_ms: float | None = None,
) -> Any:
    """Makes an `async def` function or method that takes lists callable with single items.

    Args:
        _func: the function, in the bare form `@serve.batch`. It gets a list for each parameter, all as long as the
            batch, and returns a list with one result for each item, in the same order. As an async generator it yields
            such lists; the class `StopIteration` or `StopAsyncIteration` in a place ends that caller's stream.
        max_batch_size: how many items a batch has at most; with `batch_size_fn`, how large it is by that.
        batch_wait_timeout_s: seconds that the oldest item waits at most for others while the function is free.
        max_concurrent_batches: how many batches run at a time.
        batch_size_fn: the size of a batch, from the list of its first arguments; it should not shrink when an item is
            added. An item that does not fit is the first of the next batch.
        target_latency_ms: milliseconds from call to result that 99 of 100 items should stay within. Size and wait then
            follow from what is measured; `max_batch_size` and `batch_wait_timeout_s`, if given, are upper bounds.
            Not in Ray Serve.

    Errors that the function raises go to every caller of the batch; a result of the wrong length is a
    `RayServeException`, an item that is too large by itself a `RuntimeError`. A caller that is cancelled while it waits
    is not in the batch; a batch that runs is not cancelled with its callers. Items for different multiplexed models are
    in different calls of the function.

    Raises:
        TypeError: what is decorated is no `async def`, or a parameter has the wrong type.
        ValueError: `max_batch_size` is below 1, `batch_wait_timeout_s` is negative, `target_latency_ms` is not above 0
            or is together with `batch_size_fn`.
    """
    settings = Settings(
        max_batch_size=_batch_size(max_batch_size),
        wait_s=_wait_s(batch_wait_timeout_s),
        max_concurrent_batches=_concurrent(max_concurrent_batches),
        size_of=_size_of(batch_size_fn),
        target_s=_target_s(target_latency_ms),
    )
    if settings.target_s is not None:
        if batch_size_fn is not None:
            raise ValueError(
                "target_latency_ms learns what a batch costs by the number of its items, so it cannot go with "
                "batch_size_fn: give one of them"
            )
        if max_batch_size is _SIZE:
            settings.max_batch_size = _LARGEST
        if batch_wait_timeout_s is _WAIT_S:
            settings.wait_s = math.inf
    if _func is None:
        # Settings of its own for each function.
        return shortened(lambda function: _decorate(function, replace(settings)))
    return _decorate(_func, settings)


# --- checks ---------------------------------------------------------------------------------------------------------


def _batch_size(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"max_batch_size must be a whole number of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"max_batch_size must be at least 1, got {value!r}")
    return int(value)


def _wait_s(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"batch_wait_timeout_s must be a number of seconds of at least 0, got {value!r}")
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"batch_wait_timeout_s must be a finite number of seconds of at least 0, got {value!r}")
    return float(value)


def _target_s(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"target_latency_ms must be a number of milliseconds above 0, or None, got {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"target_latency_ms must be a finite number of milliseconds above 0, got {value!r}")
    return value / 1000


def _concurrent(value: Any) -> int:
    # A TypeError for both, as in Ray Serve.
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TypeError(f"max_concurrent_batches must be an integer of at least 1, got {value!r}")
    return value


def _size_of(value: Any) -> Callable[[list[Any]], Any] | None:
    if value is not None and not callable(value):
        raise TypeError(f"batch_size_fn must be a function from a list of items to their size, or None, got {value!r}")
    return value  # type: ignore[no-any-return]


def _check_function(function: Any) -> None:
    if not callable(function) or inspect.isclass(function):
        raise TypeError(
            f"@serve.batch decorates an `async def` function or method, got {function!r}; "
            "its parameters go by name: @serve.batch(max_batch_size=32)"
        )
    if not inspect.iscoroutinefunction(function) and not inspect.isasyncgenfunction(function):
        name = getattr(function, "__name__", repr(function))
        raise TypeError(
            f"@serve.batch needs `async def {name}(...)`; if its work blocks, move that off the event loop inside it: "
            "`return await asyncio.to_thread(work, items)`"
        )


# --- the wrapper ----------------------------------------------------------------------------------------------------


@dataclass
class _RuntimeSummaryStatistics:
    """When the batches that run now began, in seconds of the system clock; named as in Ray Serve."""

    start_times: list[float]

    @property
    def min_start_time(self) -> float | None:
        return min(self.start_times, default=None)

    @property
    def mean_start_time(self) -> float | None:
        return sum(self.start_times) / len(self.start_times) if self.start_times else None

    @property
    def max_start_time(self) -> float | None:
        return max(self.start_times, default=None)

    @property
    def num_requests(self) -> int:
        return len(self.start_times)


class _Batcher:
    """The queues of one decorated function: one for each instance, or one for a plain function."""

    def __init__(self, function: Callable[..., Any], settings: Settings) -> None:
        self.settings = settings
        self._function = function
        self._columns = {method: Columns(function, is_method=method) for method in (False, True)}
        self._owners = Owners(function)
        # By identity: instances need not be hashable. The reference removes the entry with its instance.
        self._queues: dict[int, tuple[BatchQueue, Any]] = {}
        self._lock = threading.Lock()
        self._warned = False

    def split(self, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Columns]:
        """The instance, None for a plain function, and the item's own arguments."""
        instance, own = self._owners.split(args)
        return instance, own, self._columns[instance is not None]

    def queue_of(self, instance: Any, loop: asyncio.AbstractEventLoop) -> BatchQueue:
        """The queue of an instance. It may be on another loop than the caller's."""
        found = self._queues.get(id(instance))
        if found is not None and found[0].loop is loop:
            return found[0]
        with self._lock:
            found = self._queues.get(id(instance))
            if found is not None and found[0].loop.is_running():
                return found[0]
            return self._add_queue(instance, loop)

    def _add_queue(self, instance: Any, loop: asyncio.AbstractEventLoop) -> BatchQueue:
        replica = _runtime.replica
        if replica is not None:
            if replica.loop.is_running():
                loop = replica.loop
            if not self._warned:
                self._warned = True
                self._warn(replica.max_ongoing_requests)
        key = id(instance)
        reference: Any = instance
        if instance is not None:
            try:
                reference = weakref.ref(instance, lambda _: self._queues.pop(key, None))
            except TypeError:
                pass
        columns = self._columns[instance is not None]
        run = functools.partial(self._run, columns, reference)
        queue = make_queue(self.settings, run, self._function.__name__, loop)
        self._queues[key] = queue, reference
        return queue

    def _run(self, columns: Columns, reference: Any, items: Sequence[Item]) -> Any:
        args, kwargs = columns.of([(item.args, item.kwargs) for item in items])
        if columns is self._columns[True]:
            instance = reference() if isinstance(reference, weakref.ref) else reference
            return self._function(instance, *args, **kwargs)
        return self._function(*args, **kwargs)

    def _warn(self, max_ongoing_requests: int) -> None:
        wanted = self.settings.max_batch_size * self.settings.max_concurrent_batches
        if self.settings.target_s is not None and self.settings.max_batch_size == _LARGEST:
            if 0 < max_ongoing_requests < _SIZE:
                logger().warning(
                    "batches of %s() are for as many as its target_latency_ms allows, but its replica takes only "
                    "max_ongoing_requests=%d requests at a time; set @serve.deployment(max_ongoing_requests=100), say",
                    self._function.__name__, max_ongoing_requests,
                )  # fmt: skip
        elif max_ongoing_requests and max_ongoing_requests < wanted and self.settings.size_of is None:
            logger().warning(
                "batches of %s() cannot fill: its replica takes max_ongoing_requests=%d requests at a time, fewer than "
                "max_batch_size * max_concurrent_batches = %d; set "
                "@serve.deployment(max_ongoing_requests=%d) or more",
                self._function.__name__, max_ongoing_requests, wanted, wanted,
            )  # fmt: skip

    def put(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Item | asyncio.AbstractEventLoop:
        """One item of a function that returns a list; or else the loop where its queue is, if that is another one."""
        loop = asyncio.get_running_loop()
        first = args[0] if args else None
        found = None if first is None else self._queues.get(id(first))
        if found is not None and found[0].loop is loop:
            # What has a queue is an instance: that was looked at when the queue was made.
            queue, own, columns = found[0], args[1:], self._columns[True]
            columns.check(own, kwargs)
        else:
            instance, own, columns = self.split(args)
            columns.check(own, kwargs)
            queue = self.queue_of(instance, loop)
            if queue.loop is not loop:
                return queue.loop
        item = Item(own, kwargs, queue)
        queue.put(item)
        return item

    def stream(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncGenerator[Any]:
        """One item of a generator, which waits for its batch from now on: its values, one after the other.

        Where no loop runs, as in a sync method that returns the stream, the item comes when that is read.
        """
        item = None if running_loop() is None else self._put_stream(args, kwargs)
        values = self._values(item, args, kwargs)
        if item is not None:
            # A generator that nobody began to read has no `finally` that would run.
            item.reader = weakref.ref(values, functools.partial(_never_read, item))
        return values

    def _put_stream(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Item:
        loop = asyncio.get_running_loop()
        instance, own, columns = self.split(args)
        columns.check(own, kwargs)
        queue = self.queue_of(instance, loop)
        if queue.loop is not loop:
            raise RuntimeError(
                f"{self._function.__name__}() streams on the event loop of its replica, and this is another one: "
                "iterate over it in `async def` code of the deployment, not under asyncio.run in a thread"
            )
        item = Item(own, kwargs, queue)
        item.stream = Stream(loop)
        queue.put(item)
        return item

    async def _values(self, item: Item | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncGenerator[Any]:
        item = item or self._put_stream(args, kwargs)
        assert item.stream is not None
        try:
            while True:
                try:
                    value = await item.stream.next()
                except StopAsyncIteration:
                    return
                yield value
        finally:
            item.queue.leave(item)
            item.reader = None

    # --- what the wrapper has as attributes ---

    def set_max_batch_size(self, new_max_batch_size: int) -> None:
        """From the next batch on. Raises as the decorator's parameter does."""
        self.settings.max_batch_size = _batch_size(new_max_batch_size)
        self._changed()

    def set_batch_wait_timeout_s(self, new_batch_wait_timeout_s: float) -> None:
        """From the next batch on. Raises as the decorator's parameter does."""
        self.settings.wait_s = _wait_s(new_batch_wait_timeout_s)
        self._changed()

    def get_max_batch_size(self) -> int:
        return self.settings.max_batch_size

    def get_batch_wait_timeout_s(self) -> float:
        return self.settings.wait_s

    def get_start_times(self) -> _RuntimeSummaryStatistics:
        return _RuntimeSummaryStatistics(
            [began for queue in self._all_queues() for began in list(queue.started.values())]
        )

    async def is_alive(self) -> bool:
        """Whether items would be served. No task collects them, so that is whether a loop runs."""
        return any(queue.loop.is_running() for queue in self._all_queues())

    async def stacks(self) -> str:
        """Where the batches that run now are."""
        tasks = [task for queue in self._all_queues() for task in list(queue.started)]
        return "\n".join("".join(traceback.format_list(_stack_of(task))) for task in tasks)

    def _changed(self) -> None:
        for queue in self._all_queues():
            if not queue.loop.is_closed():
                queue.loop.call_soon_threadsafe(queue.settings_changed)

    def _all_queues(self) -> list[BatchQueue]:
        return [queue for queue, _ in list(self._queues.values())]

    def __reduce__(self) -> tuple[Any, ...]:
        """By what was written: queues and their loops belong to a process."""
        return _Batcher, (self._function, self.settings)


def _never_read(item: Item, _: Any) -> None:
    """The stream of an item is gone, and nobody has read from it. On whatever thread the collector runs."""
    item.reader = None
    if not item.gone and not item.queue.loop.is_closed():
        item.queue.loop.call_soon_threadsafe(item.queue.leave, item)


def _stack_of(task: asyncio.Task[Any]) -> traceback.StackSummary:
    """All frames of a task that waits; `Task.get_stack` has only the outermost."""
    frames = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return traceback.StackSummary.extract(iter(frames))


def _decorate(function: Any, settings: Settings) -> Any:
    _check_function(function)
    batcher = _Batcher(function, settings)
    wrapper: Any
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        def stream_one(*args: Any, **kwargs: Any) -> Any:
            return batcher.stream(args, kwargs)

        # No `async def` shows what a call of it gives.
        stream_one._eagleray_streams = True  # type: ignore[attr-defined]
        wrapper = stream_one
    else:

        @functools.wraps(function)
        async def call_one(*args: Any, **kwargs: Any) -> Any:
            item = batcher.put(args, kwargs)
            if not isinstance(item, Item):
                carried = asyncio.run_coroutine_threadsafe(call_one(*args, **kwargs), item)
                return await asyncio.wrap_future(carried)
            try:
                return await item.future
            except asyncio.CancelledError:
                item.queue.leave(item)
                raise

        wrapper = call_one

    wrapper.set_max_batch_size = batcher.set_max_batch_size
    wrapper.set_batch_wait_timeout_s = batcher.set_batch_wait_timeout_s
    wrapper._get_max_batch_size = batcher.get_max_batch_size
    wrapper._get_batch_wait_timeout_s = batcher.get_batch_wait_timeout_s
    wrapper._get_curr_iteration_start_times = batcher.get_start_times
    wrapper._is_batching_task_alive = batcher.is_alive
    wrapper._get_handling_task_stack = batcher.stacks
    return wrapper
