"""Request routers. Requests are routed by power of two choices, in Rust; routers in Python are not available yet."""

from __future__ import annotations

from eagleray.serve import _later
from eagleray.serve.context import ReplicaID

__all__ = [
    "FIFOMixin",
    "LocalityMixin",
    "MultiplexMixin",
    "PendingRequest",
    "PowerOfTwoChoicesRequestRouter",
    "ReplicaID",
    "ReplicaResult",
    "RequestRouter",
    "RunningReplica",
]

_INSTEAD = "requests go by power of two choices over known load, without a class of your own"

RequestRouter = _later.class_(__name__, "RequestRouter", _INSTEAD)
FIFOMixin = _later.class_(__name__, "FIFOMixin", _INSTEAD)
LocalityMixin = _later.class_(__name__, "LocalityMixin", _INSTEAD)
MultiplexMixin = _later.class_(__name__, "MultiplexMixin", _INSTEAD)
PendingRequest = _later.class_(__name__, "PendingRequest", _INSTEAD)
RunningReplica = _later.class_(__name__, "RunningReplica", _INSTEAD)
ReplicaResult = _later.class_(__name__, "ReplicaResult", _INSTEAD)
#: Names the built-in router in `request_router_config`; the router itself is `crates/router`.
PowerOfTwoChoicesRequestRouter = _later.class_(__name__, "PowerOfTwoChoicesRequestRouter", _INSTEAD)
