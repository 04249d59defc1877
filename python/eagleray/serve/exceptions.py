"""Exceptions of `eagleray.serve`, under the names that Ray Serve users know.

RayServeException
├── BackPressureError            the queue of a deployment is full
├── RequestCancelledError        the response was cancelled by its holder
├── DeploymentUnavailableError   the deployment failed or is gone, waiting would not help
└── ReplicaUnavailableError      the replica died after user code had started
"""

from __future__ import annotations

from typing import Any

from eagleray.exceptions import ActorDiedError, TaskCancelledError

__all__ = [
    "BackPressureError",
    "DeploymentUnavailableError",
    "RayServeException",
    "ReplicaUnavailableError",
    "RequestCancelledError",
    "gRPCStatusError",
]


class RayServeException(Exception):  # noqa: N818 - the name is the contract
    """Root of all exceptions that the serving system raises itself."""

    # Its text says what is wrong, so frames of ours are not shown with it.
    _says_what_is_wrong = True


class BackPressureError(RayServeException):
    """The request was refused because `max_queued_requests` requests wait already."""

    def __init__(
        self,
        num_queued_requests: int,
        max_queued_requests: int,
        status_code: int = 503,
        retry_after_s: float | None = None,
    ) -> None:
        self._num_queued_requests = num_queued_requests
        self._max_queued_requests = max_queued_requests
        self.status_code = status_code
        self.retry_after_s = retry_after_s
        self.message = (
            f"request refused: {num_queued_requests} requests wait in this process, "
            f"max_queued_requests is {max_queued_requests}"
        )
        super().__init__(self.message)

    @classmethod
    def _said(cls, message: str) -> BackPressureError:
        """From a router, which says it in words."""
        error = cls(0, 0)
        error.message = message
        error.args = (message,)
        return error

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self._num_queued_requests, self._max_queued_requests, self.status_code, self.retry_after_s)
        return type(self), arguments, {"message": self.message, "args": (self.message,)}


class RequestCancelledError(RayServeException, TaskCancelledError):
    """The request was cancelled before it had an answer."""

    def __init__(self, request_id: str | None = None) -> None:
        self.request_id = request_id
        super().__init__(f"request {request_id} was cancelled" if request_id else "the request was cancelled")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.request_id,)


class DeploymentUnavailableError(RayServeException):
    """The deployment has no replica and will get none."""

    def __init__(self, deployment_id: Any, message: str = "") -> None:
        self._deployment_id = deployment_id
        self.message = message or f"{deployment_id} is not available: it failed to deploy or was deleted"
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._deployment_id, self.message)


class ReplicaUnavailableError(RayServeException, ActorDiedError):
    """The replica died after user code had started, and the call may not be repeated."""

    def __init__(self, replica_id: Any, message: str = "") -> None:
        self._replica_id = replica_id
        self.message = message or f"replica {replica_id} is gone"
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._replica_id, self.message)


class gRPCStatusError(RayServeException):  # noqa: N801 - the name is the contract
    """An error of user code with the gRPC status that it shall have. The gRPC ingress comes later."""

    def __init__(
        self, original_exception: BaseException, grpc_code: Any = None, grpc_details: str | None = None
    ) -> None:
        self.original_exception = original_exception
        self.grpc_code = grpc_code
        self.grpc_details = grpc_details
        super().__init__(str(original_exception))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.original_exception, self.grpc_code, self.grpc_details)
