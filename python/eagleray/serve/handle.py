"""Handles: calling a deployment from Python.

`.remote()` pickles on the caller's thread and returns at once; the native router (`eagleray._core.Router`) does the
rest on a thread of its own, so no event loop is needed and any number of them may wait.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from eagleray import _values
from eagleray.serve.context import DeploymentID
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

__all__ = ["DeploymentHandle", "DeploymentResponse"]

_OPTIONS = ("method_name", "multiplexed_model_id", "session_id", "stream", "_prefer_local_routing", "_by_reference",
            "request_serialization", "response_serialization")  # fmt: skip
REMOTE_TRACEBACK = "__eagleray_traceback__"


class RemoteTraceback(Exception):  # noqa: N818 - it is the cause of an error, not one
    """Where a remote exception was raised: the text of its traceback, shown as the cause of what the caller gets."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text,)


class DeploymentResponse:
    """The answer to a call, perhaps not there yet. `await` it, or take `.result()` outside an event loop."""

    def __init__(self, call: _core.Call, handle: DeploymentHandle) -> None:
        self._call = call
        self._handle = handle
        self._cancelled = False

    @property
    def request_id(self) -> str:
        """Id of the call, as logs show it."""
        return self._call.request_id

    @property
    def by_reference(self) -> bool:
        """Whether the value stays where it was made. Never, so far."""
        return False

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> Any:
        """Waits for the value.

        Raises:
            RuntimeError: called where an event loop runs, which it would block; `await` the response there.
            TimeoutError: there was no answer in time; the call goes on.
            RequestCancelledError: the response was cancelled.
            Exception: what the remote method raised, with the remote traceback as its cause.
        """
        if not _skip_asyncio_check and _loop_runs():
            raise RuntimeError("result() would block the running event loop; await the response instead")
        self._check_cancelled()
        if not self._call.wait(timeout_s):
            raise TimeoutError(f"{self._handle._title()} did not answer within {timeout_s} s")
        self._check_cancelled()
        return self._value()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        import asyncio

        self._check_cancelled()
        loop = asyncio.get_running_loop()
        try:
            await _Loop.of(loop).ended(loop, self._call)
        except asyncio.CancelledError:
            self._call.cancel()
            raise
        self._check_cancelled()
        return self._value()

    def cancel(self) -> None:
        """Asks for the call to end. Best effort, and idempotent."""
        self._cancelled = True
        self._call.cancel()

    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise RequestCancelledError(self.request_id)

    def _value(self) -> Any:
        failure = self._call.failure()
        if failure is not None:
            self._handle._raise_failure(*failure, request_id=self.request_id)
        answer = self._call.result()
        assert answer is not None
        data, is_error = answer
        try:
            value = _values.load(data)
        except Exception as error:
            what = "exception" if is_error else "result"
            raise RayServeException(
                f"the {what} of {self._handle._title()} cannot be unpickled here: {type(error).__name__}: {error}"
            ) from error
        if not is_error:
            return value
        raise _with_remote_traceback(value)

    def __reduce__(self) -> NoReturn:
        raise RayServeException(
            "a DeploymentResponse cannot be pickled or passed inside another value; await it (or take .result()) "
            "and pass the value"
        )

    def __repr__(self) -> str:
        return f"DeploymentResponse({self._handle._title()}, request_id={self.request_id!r})"


class _Loop:
    """What one event loop awaits: its descriptor is watched once, and one wake-up serves many calls."""

    _of_loops: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop]] = weakref.WeakKeyDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        from eagleray import _core

        self._completions = _core.Completions()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._numbers = itertools.count()
        loop.add_reader(self._completions.fileno(), self._wake)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> _Loop:
        found = cls._of_loops.get(loop)
        if found is None:
            found = cls._of_loops[loop] = cls(loop)
        return found

    async def ended(self, loop: asyncio.AbstractEventLoop, call: _core.Call) -> None:
        if hasattr(call, "wait_on_loop"):
            await call.wait_on_loop()  # in local testing mode
            return
        number = next(self._numbers)
        future = self._waiting[number] = loop.create_future()
        try:
            if call.notify(self._completions, number):
                await future
        finally:
            self._waiting.pop(number, None)

    def _wake(self) -> None:
        for number in self._completions.drain():
            future = self._waiting.get(number)
            if future is not None and not future.done():
                future.set_result(None)


def _with_remote_traceback(error: Any) -> BaseException:
    if not isinstance(error, BaseException):
        return RayServeException(f"the remote side reported an error that is no exception: {error!r}")
    if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
        return RayServeException(f"user code raised {type(error).__name__}: {error}")
    text = getattr(error, "__dict__", {}).pop(REMOTE_TRACEBACK, None)
    if text:
        error.__cause__ = RemoteTraceback(str(text))
    return error


def _request_being_served() -> _core.Request | None:
    # Only a replica has imported it.
    context = sys.modules.get("eagleray._replica.context")
    return None if context is None else context.current.get()


def _loop_runs() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


class DeploymentHandle:
    """Calls a deployment: `handle.remote(...)`, `handle.method.remote(...)`.

    Picklable: names and options travel, and connect anew where they arrive.
    """

    def __init__(
        self, deployment_name: str, app_name: str = "default", *, _options: dict[str, Any] | None = None
    ) -> None:
        self._deployment_name = deployment_name
        self._app_name = app_name
        self._options: dict[str, Any] = _options or {}

    @property
    def deployment_name(self) -> str:
        """Name of the deployment that is called."""
        return self._deployment_name

    @property
    def app_name(self) -> str:
        """Name of its application."""
        return self._app_name

    @property
    def deployment_id(self) -> DeploymentID:
        """Both names."""
        return DeploymentID(self._deployment_name, self._app_name)

    @property
    def is_initialized(self) -> bool:
        """Whether this process has a router."""
        return _router_exists()

    def options(self, **options: Any) -> DeploymentHandle:
        """A copy that calls another method, or otherwise."""
        for key in options:
            if key not in _OPTIONS:
                raise TypeError(f"DeploymentHandle.options() has no option {key!r}; it has {', '.join(_OPTIONS)}")
        if options.get("stream"):
            from eagleray.serve import _validate

            raise _validate.not_available("stream=True on a handle")
        for key in ("request_serialization", "response_serialization"):
            if options.get(key, "cloudpickle") not in ("cloudpickle", "pickle"):
                from eagleray.serve import _validate

                raise _validate.not_available(f"{key}={options[key]!r}")
        for key in ("method_name", "multiplexed_model_id", "session_id"):
            if not isinstance(options.get(key, ""), str):
                raise TypeError(f"{key} must be a string, got {type(options[key]).__name__}")
        return DeploymentHandle(self._deployment_name, self._app_name, _options={**self._options, **options})

    def __getattr__(self, name: str) -> DeploymentHandle:
        if name.startswith("__") or name.startswith("_repr_") or name == "_ipython_canary_method_should_not_exist_":
            raise AttributeError(name)
        return self.options(method_name=name)

    def remote(self, *args: Any, **kwargs: Any) -> DeploymentResponse:
        """Sends the call and returns at once.

        Inside a deployment the call belongs to the request that is being served: it has what is left of its time, and
        is cancelled when nobody waits for its answer any more. What is called after the answer, by a background task,
        stands for itself.

        Raises:
            TypeError: an argument cannot be pickled.
        """
        data = self._pickle(args, kwargs)
        call = (_local_router(self._app_name) or _router()).call(
            self._app_name,
            self._deployment_name,
            self._options.get("method_name", "__call__"),
            self._options.get("multiplexed_model_id", ""),
            self._options.get("session_id", ""),
            data,
            _request_being_served(),
        )
        return DeploymentResponse(call, self)

    def _pickle(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        for value in (*args, *kwargs.values()):
            if isinstance(value, DeploymentResponse):
                raise RayServeException(
                    "passing a DeploymentResponse to another call is not available yet; await it (or take .result()) "
                    "and pass the value"
                )
        try:
            return _values.join(_values.dump_arguments(args, kwargs))
        except TypeError as error:
            raise TypeError(f"{self._title()}: {error}") from None

    def _raise_failure(self, code: str, message: str, *, request_id: str) -> NoReturn:
        if code == "BackPressure":
            raise BackPressureError._said(message or f"the queue of {self._title()} is full (max_queued_requests)")
        if code == "Cancelled":
            raise RequestCancelledError(request_id)
        if code in ("Unavailable", "NotFound", "Draining"):
            raise DeploymentUnavailableError(self.deployment_id, message)
        if code == "ReplicaDied":
            raise ReplicaUnavailableError("", message)
        if code == "DeadlineExceeded":
            raise TimeoutError(message or f"{self._title()} did not answer in the time of the request that called it")
        raise RayServeException(f"{self._title()}: {message or code}")

    def _title(self) -> str:
        method = self._options.get("method_name", "__call__")
        return f"{self._app_name}/{self._deployment_name}" + ("" if method == "__call__" else f".{method}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._deployment_name, self._app_name, self._options)

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment={self._deployment_name!r}, app={self._app_name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeploymentHandle):
            return NotImplemented
        return bool(self.__reduce__()[1] == other.__reduce__()[1])

    def __hash__(self) -> int:
        return hash((self._deployment_name, self._app_name))


def _restore(deployment_name: str, app_name: str, options: dict[str, Any]) -> DeploymentHandle:
    return DeploymentHandle(deployment_name, app_name, _options=options)


_router_lock = threading.Lock()
_routers: dict[str, _core.Router] = {}


def _router_exists() -> bool:
    return bool(_routers)


def controller_of_replica() -> str | None:
    """The socket of the controller that this replica belongs to; None in a process that is none."""
    run_directory = os.environ.get("EAGLERAY_RUN_DIR") if os.environ.get("EAGLERAY_REPLICA") else None
    return None if run_directory is None else f"{run_directory}/controller.sock"


def _local_router(app_name: str) -> Any:
    """The application of this name that runs in this process, in local testing mode."""
    local = sys.modules.get("eagleray._local")
    return None if local is None else local.find(app_name)


def _router() -> _core.Router:
    """The router of this process, connected to the controller that the process belongs to."""
    path = controller_of_replica()
    if path is None:
        from eagleray import _driver

        session = _driver.joined()
        if session is None:
            raise RayServeException("nothing is running: this handle's node has ended")
        path = session.info["controller_socket_path"]
    key = f"{os.getpid()} {path}"
    router = _routers.get(key)
    if router is None:
        from eagleray import _core

        with _router_lock:
            router = _routers.get(key)
            if router is None:
                router = _routers[key] = _core.Router(path)
    return router


def _close_routers() -> None:
    with _router_lock:
        for router in _routers.values():
            router.close()
        _routers.clear()
