"""What user code can ask about the replica and the request that it runs in.

Who the replica is comes from `eagleray._runtime`, which request it serves from `eagleray._request`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from eagleray import _runtime
from eagleray._request import current, given
from eagleray._runtime import in_replica  # noqa: F401 - programs may look for it here
from eagleray.serve.exceptions import RayServeException

__all__ = ["DeploymentID", "ReplicaContext", "ReplicaID", "ReplicaRank", "RequestContext"]


@dataclass(frozen=True)
class DeploymentID:
    """A deployment of an application."""

    name: str
    app_name: str = "default"

    def __str__(self) -> str:
        return f"Deployment(name={self.name!r}, app={self.app_name!r})"


@dataclass(frozen=True)
class ReplicaID:
    """One replica process of a deployment."""

    unique_id: str
    deployment_id: DeploymentID

    def __str__(self) -> str:
        name, app_name = self.deployment_id.name, self.deployment_id.app_name
        return f"Replica(id={self.unique_id!r}, deployment={name!r}, app={app_name!r})"


@dataclass(frozen=True)
class ReplicaRank:
    """Place of a replica among its siblings; `node_rank` and `local_rank` differ from 0 and `rank` on clusters."""

    rank: int
    node_rank: int = 0
    local_rank: int = 0


@dataclass
class ReplicaContext:
    """Who the running replica is. `serve.get_replica_context()` returns it."""

    replica_id: ReplicaID
    servable_object: Any = field(default=None, repr=False)
    rank: ReplicaRank = ReplicaRank(0)
    world_size: int = 1
    gang_context: Any = None
    code_version: str = ""
    # What `record_replica_metadata` returned at the start; callers see it in the selection of `choose_replica`.
    _replica_metadata: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def app_name(self) -> str:
        """Name of the application."""
        return self.replica_id.deployment_id.app_name

    @property
    def deployment(self) -> str:
        """Name of the deployment."""
        return self.replica_id.deployment_id.name

    @property
    def replica_tag(self) -> str:
        """The unique part of the replica's id."""
        return self.replica_id.unique_id


def get_replica_context() -> ReplicaContext:
    """The context of the replica that this code runs in.

    Raises:
        RayServeException: this process is not a replica.
    """
    context = _runtime.replica_context()
    if context is None:
        raise RayServeException(
            "serve.get_replica_context() works only inside a replica, that is in code of a deployment that is being "
            "served; this process is not one"
        )
    return context


class RequestContext:
    """The request that the running code serves. `serve.context.get_request_context()` returns it."""

    __slots__ = ("_request",)

    def __init__(self, request: Any) -> None:
        self._request = request

    @property
    def request_id(self) -> str:
        """Its id, as logs and the answer show it."""
        return str(self._request.request_id)

    @property
    def route(self) -> str:
        """Route of the request; empty for a driver's call.

        Behind FastAPI, or another application with routes, it is the pattern with its prefix, `/api/users/{name}`.
        Everywhere else, also for calls that the request made, it is the route prefix where it came in over HTTP.
        """
        prefix = str(self._request.route)
        context = None if self._request.is_call else _runtime.replica_context()
        served = None if context is None else getattr(context.servable_object, "_eagleray_served", None)
        if served is None:
            return prefix
        from eagleray.serve import _routes

        try:
            found = _routes.pattern(served.app, self._request.scope())
        except Exception:
            return prefix  # a route of the user's own kind
        return prefix.removesuffix("/") + found if found else prefix

    @property
    def app_name(self) -> str:
        """The application that this code belongs to."""
        context = _runtime.replica_context()
        return "" if context is None else context.app_name

    @property
    def multiplexed_model_id(self) -> str:
        """The model that it asks for; empty if none. Calls do not inherit it."""
        return str(self._request.multiplexed_model_id)

    @property
    def session_id(self) -> str:
        """The session that it belongs to; empty if none. Calls do not inherit it."""
        return str(self._request.session_id)

    @property
    def remaining_s(self) -> float | None:
        """Seconds that are left to answer it, at least 0; None: no limit.

        Calls through handles have the same limit without further ado; this is for what has a timeout of its own.
        """
        left: float | None = self._request.remaining_s
        return left

    @property
    def is_http_request(self) -> bool:
        """Whether it came over HTTP to this very replica, not as a call through a handle."""
        return not self._request.is_call

    @property
    def _internal_request_id(self) -> str:
        return self.request_id

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more. Async code is cancelled then; sync code may look here."""
        return bool(self._request.cancelled)


def get_request_context() -> RequestContext | None:
    """The request that this code serves, by task and thread; None outside of one."""
    request = current.get()
    return None if request is None else RequestContext(request)


# --- names of Ray Serve that are private there, and read by programs nevertheless ------------------------------------


@dataclass
class _RequestContext:
    """No request, or what a program says instead of one, in a test for instance."""

    route: str = ""
    request_id: str = ""
    _internal_request_id: str = ""
    app_name: str = ""
    multiplexed_model_id: str = ""
    session_id: str = ""
    grpc_context: Any = None
    is_http_request: bool = False
    cancel_on_parent_request_cancel: bool = False
    _client: str = ""
    remaining_s: float | None = None
    cancelled: bool = False


class _RequestVariable:
    """As the context variable: what is set holds where no request is served."""

    def get(self, default: Any = None) -> Any:
        return get_request_context() or given.get() or default

    def set(self, value: Any) -> Any:
        return given.set(value)

    def reset(self, token: Any) -> None:
        given.reset(token)


_serve_request_context = _RequestVariable()


def _get_serve_request_context() -> RequestContext | _RequestContext:
    """As `get_request_context`, but never None: outside of a request its fields are empty."""
    found: RequestContext | _RequestContext = _serve_request_context.get() or _RequestContext()
    return found


def _get_internal_replica_context() -> ReplicaContext | None:
    """As `get_replica_context`, but None outside of a replica."""
    return _runtime.replica_context()


def __getattr__(name: str) -> Any:
    if name == "_INTERNAL_REPLICA_CONTEXT":
        return _runtime.replica_context()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_building = 0


def building() -> bool:
    """Whether modules are being imported for their definitions only, so that `serve.run` in them must do nothing."""
    return _building > 0


@contextlib.contextmanager
def build_step() -> Iterator[None]:
    """Marks the import of an application by anything but the user's own script."""
    global _building  # noqa: PLW0603 - the flag is about this process
    _building += 1
    try:
        yield
    finally:
        _building -= 1
