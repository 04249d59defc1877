"""Exceptions under the names that `ray.exceptions` has, for code that catches them.

RayError
├── GetTimeoutError              also TimeoutError: `.result(timeout_s=)` was too short
├── TaskCancelledError           base of `serve.exceptions.RequestCancelledError`
└── RayActorError
    └── ActorDiedError           base of `serve.exceptions.ReplicaUnavailableError`: the replica died with the call

What user code raises in another deployment arrives as its own type, so there is no `RayTaskError` to unwrap: its
traceback is the `__cause__`.
"""

from __future__ import annotations

__all__ = ["ActorDiedError", "GetTimeoutError", "RayActorError", "RayError", "TaskCancelledError"]


class RayError(Exception):
    """Root of the exceptions here."""


class GetTimeoutError(RayError, TimeoutError):
    """There was no answer in the time that the caller gave; the call goes on."""


class TaskCancelledError(RayError):
    """The call was cancelled."""


class RayActorError(RayError):
    """Something is wrong with the process that ran a call."""


class ActorDiedError(RayActorError):
    """The process died."""
