"""The threads for sync code: of methods, of hooks, and those of the loop's default executor.

Which thread for a method is awake is decided below, in the native module. The default executor is user code's own
(`asyncio.to_thread`, `loop.run_in_executor(None, ...)`): nothing of ours waits in it, so a service that fills it still
answers health checks and ends in order.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from eagleray._user_code.children import Threads

if TYPE_CHECKING:
    from eagleray import _core


# Not the loop's default executor: that has few threads, and a stream holds one for as long as its client reads. Each
# belongs to a request, so there are as many as the replica takes requests.
_threads = Threads(max_workers=1 << 16, thread_name_prefix="eagleray-sync")


async def to_its_end(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs sync code in a thread for code on the loop.

    A cancellation waits for the thread: sync code cannot be interrupted, and its request keeps the slot until it ends.
    """
    running = _run(function, args, kwargs)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            # Read, so that nothing is logged of a failure that nobody waits for.
            running.exception()
        raise


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs sync code in a thread. A cancellation comes at once, and the thread goes on by itself."""
    return await _run(function, args, kwargs)


def _run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[Any]:
    context = contextvars.copy_context()

    def run() -> Any:
        try:
            return context.run(function, *args, **kwargs)
        except StopIteration as error:
            # No future takes one: whoever awaits would wait for ever. Coroutines and generators do as here (PEP 479).
            name = getattr(function, "__qualname__", repr(function))
            raise RuntimeError(f"{name} raised StopIteration") from error

    return asyncio.get_running_loop().run_in_executor(_threads, run)


def default_executor(num_cpus: float | None, **options: Any) -> Threads:
    """For the loop: as many threads as a replica's CPUs and four, at most 32.

    Args:
        num_cpus: As stated in `ray_actor_options`; None where it is not. Then nothing is reserved, and the replica has
            the CPUs that this process may run on.
        options: As for `concurrent.futures.ThreadPoolExecutor`.
    """
    cpus = len(os.sched_getaffinity(0)) if num_cpus is None else math.ceil(num_cpus)
    return Threads(min(32, cpus + 4), **{"thread_name_prefix": "asyncio", **options})


class Pool:
    """Up to `max_ongoing_requests` threads, started when they are first needed."""

    def __init__(self, core: _core.Replica, loop: asyncio.AbstractEventLoop) -> None:
        self._core = core
        self._loop = loop
        self._http: Callable[[_core.Request], None] | None = None
        self._call: Callable[[_core.Request], Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._context = contextvars.Context()

    def serve(
        self,
        http: Callable[[_core.Request], None] | None,
        call: Callable[[_core.Request], Any],
        context: contextvars.Context,
    ) -> None:
        """What the threads run for an HTTP request and for a call: each with a copy of `context`."""
        self._http, self._call, self._context = http, call, context

    def start_thread(self) -> None:
        """One thread more, unless there are enough."""
        if self._core.join_pool():
            threading.Thread(target=self._run, name="eagleray-sync", daemon=True).start()

    def hand_over(self, coroutine: Coroutine[Any, Any, None], request: _core.Request) -> None:
        """Gives the rest of an answer to the loop, with the variables of this request."""
        context = contextvars.copy_context()

        def start() -> None:
            task = self._loop.create_task(coroutine, context=context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            request.task = task
            request.move_to_loop()

        self._loop.call_soon_threadsafe(start)

    def _run(self) -> None:
        next_sync, one, context = self._core.next_sync, self._one, self._context
        while (request := next_sync()) is not None:
            context.copy().run(one, request)
            # Not kept while waiting: it holds the body.
            del request

    def _one(self, request: _core.Request) -> None:
        if self._http is not None and not request.is_call:
            self._http(request)
            return
        assert self._call is not None
        rest = self._call(request)
        if rest is not None:
            self.hand_over(rest, request)
