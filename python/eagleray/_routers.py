"""The routers that handles of this process call through, by the socket of the controller that each follows.

Usually there is one. They are closed when the node that they reach has ended, or shall.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from eagleray import _runtime

if TYPE_CHECKING:
    from eagleray import _core

routers: dict[str, _core.Router] = {}
"""Those that there are. Whoever does not find one here makes it."""

_lock = threading.Lock()
_of_parents: list[_core.Router] = []


def make(controller: str) -> _core.Router:
    """The router that follows the controller with this socket, if another thread has not just made it."""
    from eagleray import _core

    replica = _runtime.replica
    with _lock:
        found = routers.get(controller)
        if found is None:
            actor = os.environ.get("EAGLERAY_REPLICA") or "DRIVER"
            found = routers[controller] = _core.Router(controller, None if replica is None else replica.core, actor)
        return found


def close_all() -> None:
    """Ends all routers of this process; calls that go on fail."""
    with _lock:
        for one in routers.values():
            one.close()
        routers.clear()


def _after_fork() -> None:
    """A forked child has no router's thread, and makes its own. What it has of its parent's is kept as it is: its end
    would touch sockets and memory that the parent uses.
    """
    _of_parents.extend(routers.values())
    routers.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)
