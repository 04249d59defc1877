"""Local testing mode: an application in this process, without node, proxy, router or sockets.

The rule: user code is run by the same Python as in a replica (`eagleray._user_code`), and called by the same handles
(`eagleray.serve.handle`). Only what is native between the two is replaced, by objects with the same methods
(`exchange.py`), so that arguments, errors, streams, cancellation and the context of a request are those of production.
Each deployment has one replica: a thread with an event loop, beside which sync methods run in threads (`replica.py`).

Not in this mode: more than one replica, `max_ongoing_requests` and `max_queued_requests`, periodic health checks,
`ray_actor_options`, and a port to listen on (`eagleray.testing` asks over HTTP without one). A thread that user code
starts by itself does not know its replica.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from eagleray import _runtime
from eagleray._local.application import Application

if TYPE_CHECKING:
    from eagleray.serve.deployment import Application as BoundApplication
    from eagleray.serve.handle import DeploymentHandle

__all__ = ["delete", "run", "shutdown"]

_lock = threading.RLock()


def run(target: BoundApplication, *, name: str, route_prefix: str) -> DeploymentHandle:
    """Starts an application here and returns the handle to its ingress. It takes the place of one with its name.

    Nothing listens, so several may have one prefix.

    Raises:
        Exception: what a constructor, `reconfigure` or `check_health` raised.
    """
    with _lock:
        before = _runtime.local_applications.get(name)
        made = Application(target, name=name, route_prefix=route_prefix)
        # Known before it runs: constructors may call other deployments of their application.
        _runtime.local_applications[name] = made
        try:
            made.start()
        except BaseException:
            made.stop()
            if before is None:
                del _runtime.local_applications[name]
            else:
                _runtime.local_applications[name] = before
            raise
    if before is not None:
        before.stop()
    return made.ingress_handle()


def delete(name: str) -> bool:
    """Ends an application, after its running requests. False: none of this name runs here."""
    with _lock:
        found = _runtime.local_applications.pop(name, None)
    if found is not None:
        found.stop()
    return found is not None


def shutdown() -> bool:
    """Ends all of them. False: there is none."""
    names = list(_runtime.local_applications)
    for name in names:
        delete(name)
    return bool(names)
