"""What this process is: a script, a replica or what a replica has started; and what runs in it for local testing.

Whoever starts a replica or a local application says so here, and everybody else asks here. A leaf: it imports nothing
of Eagleray, and no import, of it or of any other module of ours, reads what the process is. So one that has imported
all of them can fork, and its child can be told that it is something else.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from eagleray import _core
    from eagleray._local.application import Application
    from eagleray.serve.context import ReplicaContext


@dataclass(slots=True)
class Replica:
    """The replica that this process is.

    Attributes:
        core: The native side.
        loop: Where async user code runs.
        context: Who it is; None until the controller has said that.
        max_ongoing_requests: How many requests may run at a time; 0: not known.
    """

    core: _core.Replica
    loop: asyncio.AbstractEventLoop
    context: ReplicaContext | None = None
    max_ongoing_requests: int = 0


replica: Replica | None = None
"""None: this process is none. Set by `become_replica` alone."""

local_applications: dict[str, Application] = {}
"""What runs here in local testing mode, by name. Changed by `eagleray._local` alone."""

local_replica: ContextVar[ReplicaContext | None] = ContextVar("eagleray_local_replica", default=None)
"""In local testing mode several replicas are in a process: this is that of the running thread or task."""

controller: str | None = None
"""What `find_controller` has found; None: nobody has asked. For calls of handles, which each look here first."""


def become_replica(core: _core.Replica, loop: asyncio.AbstractEventLoop) -> Replica:
    """Makes this process a replica, whatever it was before, of the node that its environment names now."""
    global replica, controller  # noqa: PLW0603 - one replica is one process
    replica = Replica(core, loop)
    controller = _controller_of_environment()
    return replica


def in_replica() -> bool:
    """Whether this process is a replica or was started by one, by fork or not; or this code runs in a local one."""
    return bool(os.environ.get("EAGLERAY_REPLICA")) or local_replica.get() is not None


def replica_context() -> ReplicaContext | None:
    """Who the replica is that this code runs in; None outside of one."""
    here = None if replica is None else replica.context
    return here or local_replica.get()


def find_controller() -> str:
    """The socket of the controller that this replica, or the one that has started this process, belongs to.

    Empty where no replica has to do with it. The environment is asked once.
    """
    global controller  # noqa: PLW0603 - of the process
    if controller is None:
        controller = _controller_of_environment()
    return controller


def _controller_of_environment() -> str:
    run_directory = os.environ.get("EAGLERAY_RUN_DIR") if os.environ.get("EAGLERAY_REPLICA") else None
    return "" if run_directory is None else f"{run_directory}/controller.sock"
