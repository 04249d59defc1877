"""Calls that name replicas: to all of a deployment, and to one that is chosen first and called afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NoReturn

from eagleray import _values
from eagleray.exceptions import GetTimeoutError
from eagleray.serve import _client
from eagleray.serve._responses import DeploymentResponse, R
from eagleray.serve.exceptions import DeploymentUnavailableError, RayServeException, ReplicaUnavailableError

if TYPE_CHECKING:
    from eagleray import _core
    from eagleray.serve.context import DeploymentID


class DeploymentBroadcastResponse(Generic[R]):
    """The answers of all replicas that a deployment had when it was called, in no certain order."""

    def __init__(self, responses: list[DeploymentResponse[R]]) -> None:
        self._responses = responses

    def results(self, *, timeout_s: float | None = None, return_exceptions: bool = False) -> list[R | BaseException]:
        """Waits for the answers. A replica that is gone before it began is left out.

        Args:
            timeout_s: seconds for all of them together; None is no limit.
            return_exceptions: exceptions are in the list; otherwise the first is raised.

        Raises:
            RuntimeError: called where an event loop runs; await `results_async()` there.
            ValueError: a negative timeout.
            TimeoutError: not all answered in time.
            Exception: as `DeploymentResponse.result`, of the first that failed.
        """
        if _client.loop_runs():
            raise RuntimeError("results() would block the running event loop; await results_async() instead")
        _check_timeout(timeout_s)
        end = None if timeout_s is None else time.monotonic() + timeout_s
        for response in self._responses:
            if not response._call.wait(None if end is None else max(end - time.monotonic(), 0.0)):
                raise self._late(timeout_s)
        return self._values(return_exceptions=return_exceptions)

    async def results_async(
        self, *, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> list[R | BaseException]:
        """As `results`, without blocking the loop. Whoever is cancelled in it cancels the calls."""
        _check_timeout(timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                for response in self._responses:
                    waiting = _client.Loop.running().ready(response._call)
                    if waiting is not None:
                        await waiting
        except TimeoutError:
            raise self._late(timeout_s) from None
        except asyncio.CancelledError:
            for response in self._responses:
                response._call.cancel()
            raise
        return self._values(return_exceptions=return_exceptions)

    def _late(self, timeout_s: float | None) -> TimeoutError:
        missing = sum(not response._call.ready() for response in self._responses)
        return GetTimeoutError(f"{missing} of {len(self._responses)} replicas did not answer within {timeout_s} s")

    def _values(self, *, return_exceptions: bool) -> list[R | BaseException]:
        values: list[R | BaseException] = []
        for response in self._responses:
            failure = response._call.failure()
            if failure is not None and failure[0] in ("Unavailable", "NotFound", "Draining"):
                continue
            try:
                values.append(response._value(awaited=False))
            except Exception as error:
                if not return_exceptions:
                    raise
                values.append(error)
        return values

    def __reduce__(self) -> NoReturn:
        raise RayServeException(
            "a DeploymentBroadcastResponse cannot be pickled or passed on; take its results() and pass those"
        )


def _check_timeout(timeout_s: float | None) -> None:
    if timeout_s is not None and timeout_s < 0:
        raise ValueError(f"timeout_s must be at least 0, or None for no limit, got {timeout_s!r}")


@dataclass(eq=False)
class ReplicaSelection:
    """A replica that keeps a slot for one call, until the block of `choose_replica` ends."""

    replica_id: str
    node_ip: str = "127.0.0.1"
    port: int = 0
    """0: replicas on one machine are reached through unix sockets."""
    node_id: str = ""
    availability_zone: str | None = None
    replica_metadata: dict[str, Any] = field(default_factory=dict)
    """What `record_replica_metadata` of the replica returned when it started."""

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.node_ip}:{self.port}"

    def to_dict(self) -> dict[str, Any]:
        """The fields, by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Reservation:
    """The call behind a selection: it holds the slot from the choice to the dispatch."""

    def __init__(self, call: _core.Call, deployment: DeploymentID) -> None:
        self._call = call
        self._deployment = deployment
        self._state = "open"

    async def selection(self, title: str) -> ReplicaSelection:
        """Waits for a replica with a free slot."""
        await _client.ready(self._call)
        item = self._call.next()
        if item is None:
            answer = self._call.result()
            if answer is not None:
                raise _client.error_from(answer[0], title, self._call.request_id)
            error = _client.failure_of(self._call, title, self._deployment, awaited=True)
            raise error or RayServeException(f"{title} ended without an answer")
        selection = ReplicaSelection(**_values.load(item))
        selection._reservation = self  # type: ignore[attr-defined]
        return selection

    def take(self, selection: ReplicaSelection, deployment: DeploymentID) -> _core.Call:
        """The call, for the one dispatch that there may be."""
        if deployment != self._deployment:
            raise ValueError(
                f"the selection is a replica of {self._deployment}, and this handle calls {deployment}; choose the "
                "replica with the handle that dispatches"
            )
        if self._state == "dispatched":
            raise RuntimeError("the selection was dispatched already; choose a replica again for another call")
        if self._state == "closed":
            raise RuntimeError("the selection's slot was given back at the end of its block; dispatch inside of it")
        if self._call.ready():
            # It has an outcome before it had a call.
            raise ReplicaUnavailableError(selection.replica_id)
        self._state = "dispatched"
        return self._call

    def close(self) -> None:
        """Gives the slot back, unless something was dispatched."""
        if self._state == "open":
            self._state = "closed"
            self._call.cancel()


def reservation_of(selection: Any) -> Reservation:
    """What holds the slot of a selection."""
    found = getattr(selection, "_reservation", None)
    if not isinstance(found, Reservation):
        raise TypeError(f"dispatch() takes the selection that choose_replica() gives, got {type(selection).__name__}")
    return found


@contextlib.asynccontextmanager
async def chosen(call: _core.Call, deployment: DeploymentID, title: str) -> AsyncIterator[ReplicaSelection]:
    """The block of `choose_replica`."""
    reservation = Reservation(call, deployment)
    try:
        yield await reservation.selection(title)
    finally:
        reservation.close()


def unavailable(deployment: DeploymentID) -> DeploymentUnavailableError:
    """For a broadcast that would reach nobody."""
    return DeploymentUnavailableError(deployment, f"{deployment} has no replica that could be called")
