"""Children that user code forks: each is as a child of any Python program, and none goes on as a second replica.

Nothing of a replica is a child's: neither its handlers of signals (`crates/wire/src/fork`), nor the descriptor by
which signals wake its loop, nor its requests. A child runs user code, and ends when that is over, by `return`,
`sys.exit` or an exception into code of ours, or waits for the loop, which is the parent's: with the status of a program
that ends so, and without exit handlers, since those are the parent's.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from eagleray import _core, _traceback

# How long children have after SIGTERM, when the replica has stopped.
_LEAVE_WITHIN_S = 1.0

_loop: asyncio.AbstractEventLoop | None = None
_loop_thread = 0
_wakeup = -1
# What the loop of the parent would have run next. Kept: what is dropped would be closed, and run user code for that.
_kept: list[Any] = []
# Gone when user code has enabled the fault handler anew.
_fault_file: weakref.ref[Any] | None = None


def prepare(loop: asyncio.AbstractEventLoop) -> None:
    """To be called once, before user code, by the thread that runs the loop."""
    global _loop, _loop_thread, _fault_file  # noqa: PLW0603 - the process's
    _loop, _loop_thread = loop, threading.get_ident()
    if not faulthandler.is_enabled():
        file = open(2, "w", closefd=False)  # noqa: SIM115 - the fault handler keeps it
        _fault_file = weakref.ref(file)
        faulthandler.enable(file)
    loop.call_soon(_look_for_wakeup)
    os.register_at_fork(after_in_child=_in_child)


def _look_for_wakeup() -> None:
    global _wakeup  # noqa: PLW0603
    _wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(_wakeup, warn_on_full_buffer=False)


def came_back() -> bool:
    """Whether this is a forked child of a replica, where code that runs user code has got it back."""
    return _loop is not None and _core.in_forked_child()


def end(error: BaseException | None = None) -> None:
    """Ends this forked child, which has come back: of itself, or by `error`, or by the exception that is being handled.

    Returns only where nothing has come back: when a coroutine that was copied with the parent's memory is collected.
    """
    handled = sys.exception()
    if error is None and isinstance(handled, GeneratorExit):
        return
    status = 1
    try:
        status = _status(error or handled, told=error is None)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(status)


def end_if_came_back(error: BaseException | None = None) -> None:
    """`end`, in a forked child."""
    if came_back():
        end(error)


def _status(error: BaseException | None, *, told: bool) -> int:
    """As of a program that ends so. An error is shown, unless somebody has `told` of it."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF
        sys.stderr.write(f"{error.code}\n")
    elif not told:
        sys.stderr.write(_traceback.text_of(error))
    return 1


def _in_child() -> None:
    if _loop is None:
        return
    wakeup = signal.set_wakeup_fd(-1)
    if wakeup not in (-1, _wakeup, _wakeup_of(_loop)):
        signal.set_wakeup_fd(wakeup)  # user code's own
    if _fault_file is not None and _fault_file() is not None:
        faulthandler.disable()
    if threading.get_ident() == _loop_thread:
        _end_at_next_turn(_loop)
    else:
        _end_with_what_goes_to(_loop)


def _wakeup_of(loop: Any) -> int:
    """Of asyncio's loop, which sets it with the first handler of a signal."""
    own = getattr(loop, "_csock", None)
    return -1 if own is None else int(own.fileno())


def _end_at_next_turn(loop: Any) -> None:
    """In the place of all that the loop would run next is the end of the process.

    The loop was copied in the middle of a turn, and goes on with it when the callback that forked returns.
    """
    ready = getattr(loop, "_ready", None)
    if ready is None:
        # uvloop hides it, but not from the collector.
        ready = next((found for found in gc.get_referents(loop) if type(found) is deque), deque())
    left = len(ready)
    _kept.extend(ready)
    ready.clear()
    for _ in range(left + 1):
        loop.call_soon(_end_of_turn, loop)


def _end_of_turn(loop: Any) -> None:
    # `sys.exit` in a task: asyncio lets it through, uvloop keeps it for the end of its turn.
    end(next((found for found in gc.get_referents(loop) if isinstance(found, BaseException)), None))


def _end_with_what_goes_to(loop: Any) -> None:
    """A function that forked in a thread ends, and its thread passes the result to the loop, which is not here.

    So do threads of executors, and those of anyio, in which sync endpoints of FastAPI and Starlette run.
    """
    to_loop = loop.call_soon_threadsafe
    anyio: Any = sys.modules.get("anyio._backends._asyncio")
    worker = anyio.WorkerThread.run.__code__ if hasattr(anyio, "WorkerThread") else None

    def call_soon_threadsafe(callback: Any, *args: Any, **options: Any) -> Any:
        caller = sys._getframe(1).f_code
        if caller is worker:
            end(next((value for value in args if isinstance(value, BaseException)), None))
        if caller.co_name == "_call_set_state" and caller.co_filename == asyncio.futures.__file__:
            end(args[-1].exception())
        return to_loop(callback, *args, **options)

    loop.call_soon_threadsafe = call_soon_threadsafe


class Threads(ThreadPoolExecutor):
    """Threads for user code: a forked child in which one of its functions has ended does not go on with the next."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """As of the base."""
        return super().submit(_in_thread, fn, args, kwargs)


def _in_thread(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        end_if_came_back(error)
        raise
    end_if_came_back()
    return result


# --- the end of the replica -----------------------------------------------------------------------------------------


def end_all() -> None:
    """Tells the children of this process to end, and kills those that are left a moment later.

    Whatever then waits for them, such as an exit handler of `multiprocessing`, returns.
    """
    _signal_children(signal.SIGTERM)
    threading.Thread(target=_kill_the_rest, name="eagleray-children", daemon=True).start()


def _kill_the_rest() -> None:
    time.sleep(_LEAVE_WITHIN_S)
    while _signal_children(signal.SIGKILL):
        time.sleep(0.05)


def _signal_children(number: signal.Signals) -> int:
    children = _children()
    for child in children:
        try:
            os.kill(child, number)
        except OSError:
            pass  # it has ended
    return len(children)


def _children() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == os.getpid() and state not in "ZX":
                found.append(int(entry.name))
    return found
