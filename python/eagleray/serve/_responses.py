"""What calls through handles return: a value that is not there yet, or items that come one by one.

What came is unpickled where it is taken, not on the router's thread and not before. A response that is passed to
another call is never unpickled in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, NoReturn

from eagleray import _values
from eagleray.exceptions import GetTimeoutError
from eagleray.serve import _client
from eagleray.serve.exceptions import RayServeException, RequestCancelledError

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from eagleray import _core
    from eagleray.serve.handle import DeploymentHandle

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")


class _Pending:
    """What both kinds share."""

    _cancelled = False

    def __init__(
        self, call: _core.Call, handle: DeploymentHandle[Any], upstream: tuple[DeploymentResponse[Any], ...] = ()
    ) -> None:
        self._call = call
        self._handle = handle
        # The responses among the arguments, in order.
        self._upstream = upstream

    @property
    def _title(self) -> str:
        return self._handle._title()

    @property
    def request_id(self) -> str:
        """Id of the request that the call belongs to, as logs show it: inside a deployment that of the request which is
        being served, elsewhere a fresh one.
        """
        return self._call.request_id

    def cancel(self) -> None:
        """Asks for the call to end, in its replica and in the calls that it has made. Best effort, and idempotent.

        Async code gets `asyncio.CancelledError`; code in a thread is not interrupted, and its result is dropped.
        """
        self._cancelled = True
        self._call.cancel()

    def cancelled(self) -> bool:
        """Whether `cancel` was called, even if the call had ended by then."""
        return self._cancelled

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise RequestCancelledError(self.request_id)

    def _load(self, body: Any) -> Any:
        try:
            return _values.load(body)
        except Exception as error:
            raise RayServeException(
                f"the result of {self._title} cannot be unpickled here: {type(error).__name__}: {error}"
            ) from error

    def _raise(self, *, awaited: bool) -> NoReturn:
        """The exception of a call that has ended without a value."""
        answer = self._call.result()
        if answer is not None:
            raise _client.error_from(answer[0], self._title, self.request_id)
        failure = self._call.failure()
        if failure is not None and failure[0] == "Upstream":
            self._raise_of(self._upstream[int(failure[1])])
        error = _client.failure_of(self._call, self._title, self._handle.deployment_id, awaited=awaited)
        raise error or RayServeException(f"{self._title} ended without an answer")

    def _raise_of(self, upstream: DeploymentResponse[Any]) -> NoReturn:
        try:
            upstream._raise(awaited=False)
        except (RayServeException, TimeoutError) as error:
            if upstream._call.failure() is None:
                raise  # user code's own
            raise RayServeException(
                f"{self._title} was not called: its argument, the answer of {upstream._title}, did not come: {error}"
            ) from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._title}, request_id={self.request_id!r})"


class DeploymentResponse(_Pending, Generic[R]):
    """The answer to a call, perhaps not there yet. `await` it, or take `.result()` outside an event loop.

    Passed to another call, as a positional or keyword argument, it becomes its value on the way: the data goes from
    replica to replica.
    """

    @property
    def by_reference(self) -> bool:
        """Whether the handle asks for references, as it does without `_by_reference=False`. Passing the response on
        does not unpickle the data here, in any case.
        """
        return bool(self._handle._option("_by_reference"))

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> R:
        """Waits for the value.

        Args:
            timeout_s: seconds to wait at most; None is no limit.

        Raises:
            RuntimeError: called where an event loop runs, which it would block; `await` the response there.
            TimeoutError: there was no answer in time; the call goes on.
            RequestCancelledError: the response was cancelled.
            BackPressureError: `max_queued_requests` requests wait already.
            DeploymentUnavailableError: the deployment failed, was deleted, or does not exist.
            ReplicaUnavailableError: the replica died while it ran the call.
            Exception: what the remote method raised, with the remote traceback as its cause.
        """
        if not _skip_asyncio_check and _client.loop_runs():
            raise RuntimeError("result() would block the running event loop; await the response instead")
        self._check_cancelled()
        if not self._call.wait(timeout_s):
            raise GetTimeoutError(f"{self._title} did not answer within {timeout_s} s")
        return self._value(awaited=False)

    def __await__(self) -> Generator[Any, None, R]:
        self._check_cancelled()
        waiting = _client.Loop.running().ready(self._call)
        if waiting is not None:
            try:
                yield from waiting
            except BaseException:
                self._call.cancel()
                raise
        return self._value(awaited=True)

    def _value(self, *, awaited: bool) -> R:
        if self._cancelled:
            raise RequestCancelledError(self.request_id)
        answer = self._call.result()
        if answer is None or answer[1]:
            self._raise(awaited=awaited)
        return self._load(answer[0])  # type: ignore[no-any-return]

    def __reduce__(self) -> NoReturn:
        raise RayServeException(
            "a DeploymentResponse cannot be pickled, nor be inside another value that is passed on; pass it as an "
            "argument of its own, or await it (or take .result()) and pass the value"
        )


class DeploymentResponseGenerator(_Pending, Generic[R]):
    """Items of a generator in a replica, in the order in which it yields them: iterate, with `for` or `async for`.

    The generator runs at most 128 KiB of pickled items, and one item, ahead of whoever iterates (320 KiB once they have
    taken a MiB). It is cancelled when this object is cancelled, or dropped before its end.
    """

    _ended = False

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        """The next item; waits for it.

        Raises:
            RuntimeError: called where an event loop runs, which it would block; use `async for` there.
            TypeError: the method is no generator.
            RequestCancelledError: this object was cancelled.
            Exception: what the generator raised, after the items before it, with the remote traceback as its cause.
        """
        if _client.loop_runs():
            raise RuntimeError("next() would block the running event loop; use `async for` instead")
        if self._ended:
            raise StopIteration
        self._check_cancelled()
        self._call.wait()
        return self._take(StopIteration, awaited=False)

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        """As `__next__`, without blocking the loop."""
        if self._ended:
            raise StopAsyncIteration
        self._check_cancelled()
        await _client.ready(self._call)
        return self._take(StopAsyncIteration, awaited=True)

    def _take(self, stop: type[Exception], *, awaited: bool) -> R:
        self._check_cancelled()
        item = self._call.next()
        if item is not None:
            return self._load(item)  # type: ignore[no-any-return]
        self._ended = True
        if self._call.result() is None and self._call.failure() is None:
            raise stop
        self._raise(awaited=awaited)

    def result(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not for generators: iterate.

        Raises:
            TypeError: always.
        """
        raise TypeError("a DeploymentResponseGenerator has no result(); iterate over it with `for` or `async for`")

    def __await__(self) -> Generator[Any, None, R]:
        raise TypeError("a DeploymentResponseGenerator cannot be awaited; iterate over it with `async for`")

    def __del__(self) -> None:
        if not self._ended:
            self._call.cancel()

    def __reduce__(self) -> NoReturn:
        raise RayServeException(
            "a DeploymentResponseGenerator cannot be pickled or passed to a call; iterate over it and pass the items"
        )
