"""The caller's end of handles in this process: its router, the event loops that wait, failures as exceptions.

The native router (`eagleray._core.Router`) has a thread of its own and knows nothing of Python objects. A thread that
waits for a call sleeps in it; an event loop that awaits has one descriptor for all its calls, which the router's thread
makes readable. So calls can be made and awaited anywhere, and no loop depends on another.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from eagleray import _runtime, _values
from eagleray._routers import make, routers
from eagleray._runtime import local_applications
from eagleray._traceback import RemoteTraceback
from eagleray.serve._turns import together_on
from eagleray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)

if TYPE_CHECKING:
    import asyncio

    from eagleray import _core
    from eagleray.serve.context import DeploymentID


# --- waiting on an event loop ----------------------------------------------------------------------------------------


class Loop:
    """What one event loop awaits: its descriptor is watched once, and one wake-up serves many calls."""

    _of_loops: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Loop]] = weakref.WeakKeyDictionary()
    # The one that was asked for last: nearly always the same again.
    _recent: ClassVar[Loop | None] = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        from eagleray import _core

        self._completions = _core.Completions()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._next_number = itertools.count().__next__
        # Weak: as the value of a weak dictionary this must not keep its key.
        self._loop = weakref.ref(loop)
        self._go_on_together = together_on(loop)
        loop.add_reader(self._completions.fileno(), self._wake)

    @classmethod
    def running(cls) -> Loop:
        """That of the loop that runs in this thread."""
        import asyncio

        loop = asyncio.get_running_loop()
        recent = cls._recent
        if recent is not None and recent._loop() is loop:
            return recent
        found = cls._of_loops.get(loop)
        if found is None:
            found = cls._of_loops[loop] = cls(loop)
        cls._recent = found
        return found

    def ready(self, call: _core.Call) -> asyncio.Future[None] | None:
        """What to await until there is something to take from the call; None: there is already."""
        number = self._next_number()
        if not call.notify(self._completions, number):
            return None
        loop = self._loop()
        assert loop is not None, "it runs"
        future = self._waiting[number] = loop.create_future()
        return future

    def _wake(self) -> None:
        numbers = self._completions.drain()
        for number in numbers:
            future = self._waiting.pop(number)
            if not future.done():
                future.set_result(None)
        self._go_on_together(len(numbers))


async def ready(call: _core.Call) -> None:
    """Waits until there is something to take from the call. Whoever is cancelled meanwhile cancels the call."""
    waiting = Loop.running().ready(call)
    if waiting is not None:
        try:
            await waiting
        except BaseException:
            call.cancel()
            raise


def loop_runs() -> bool:
    """Whether an event loop runs in this thread, which a wait would block."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


# --- failures --------------------------------------------------------------------------------------------------------


def error_from(body: Any, title: str, request_id: str = "") -> BaseException:
    """The exception that the remote side raised, its traceback as the cause."""
    pickled, text, shown = _values.load(body)
    error: Any
    try:
        error = _values.load(pickled)
    except Exception as failure:
        error = RayServeException(
            f"{title} raised {shown}; the exception itself cannot be unpickled here: "
            f"{type(failure).__name__}: {failure}"
        )
    if not isinstance(error, BaseException):
        error = RayServeException(f"{title} raised {shown}")
    elif isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, StopAsyncIteration)):
        # Raised here, they would end this process, or a loop that has nothing to do with it.
        error = RayServeException(f"{title} raised {shown}")
    elif type(error).__name__ == "CancelledError" and not isinstance(error, Exception):
        # Raised here, it would say that this task was cancelled.
        error = RayServeException(f"{title} was cancelled by its own code: {shown}")
    raised: BaseException = error
    raised.__cause__ = RemoteTraceback(text, title, request_id)
    return raised


def failure_of(
    call: _core.Call, title: str, deployment: DeploymentID, *, awaited: bool = False
) -> BaseException | None:
    """The exception of a call that ended without an answer; None: it has one, or goes on."""
    failure = call.failure()
    if failure is None:
        return None
    code, message, refusal = failure
    if code == "BackPressure":
        return _back_pressure(title, message, refusal)
    if code == "Cancelled":
        if awaited:
            # Not through the response, so with whatever it belongs to: an awaiting task sees what it would see then.
            import asyncio

            return asyncio.CancelledError()
        return RequestCancelledError(call.request_id)
    if code in ("Unavailable", "NotFound", "Draining"):
        return DeploymentUnavailableError(deployment, message)
    if code == "ReplicaDied":
        died = f"the replica of {title} died while it ran the call, which may have had effects, so it is not repeated"
        return ReplicaUnavailableError("", message or died)
    if code == "DeadlineExceeded":
        return TimeoutError(message or f"{title} did not answer in the time of the request that called it")
    return RayServeException(f"{title}: {message or code}")


def _back_pressure(title: str, message: str, refusal: tuple[int, int, int] | None) -> BackPressureError:
    if refusal is None or refusal[0] < 0:
        return BackPressureError._said(message or f"too much waits for {title} in this process")
    limit, status, retry_after_s = refusal
    return BackPressureError(limit, limit, status or 503, retry_after_s or None)


# --- the router of this process --------------------------------------------------------------------------------------


def router(app_name: str) -> _core.Router:
    """The router of this process, connected to the controller that the process belongs to; for an application that runs
    in local testing mode, its stand-in.

    Raises:
        RayServeException: nothing runs that it could connect to.
    """
    if local_applications and (local := local_applications.get(app_name)) is not None:
        return local  # type: ignore[return-value]
    path = _runtime.controller or _find_controller()
    return routers.get(path) or make(path)


def _find_controller() -> str:
    if _runtime.controller is None and (found := _runtime.find_controller()):
        return found
    from eagleray._driver import current

    session = current.joined()
    if session is None:
        raise RayServeException(
            "nothing is running: the node of this handle has ended, or serve.shutdown() was called; call serve.run "
            "again, after which handles that you have work as before"
            if current.had_session()
            else "this process reaches no node: it has started none, and no resident one runs. The node of a script is "
            "for that script, the children that it forks, and its replicas; for handles in other processes run "
            "`eagleray start` before the script, and all of them join that node"
        )
    return str(session.info["controller_socket_path"])
