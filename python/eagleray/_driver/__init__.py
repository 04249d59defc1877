"""The driver: the user's script or notebook. Finds or starts a node and speaks with its controller.

`node` finds and starts, `session` is the connection to one node, `current` has the session of this process, `build`
turns an application into a request, and `output` prints what replicas write.

Calls that change something (connect, deploy, delete, shutdown, rollback) take effect in the order in which they were
made, from any threads: each waits until what was asked for before is durable (`order`). What follows, until an
application runs or is gone, they wait for side by side.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from eagleray._driver import current, progress
from eagleray._driver.current import become, joined
from eagleray._driver.order import Order

if TYPE_CHECKING:
    from eagleray._driver.build import Built
    from eagleray._driver.session import Session
    from eagleray.serve._run import Wanted
    from eagleray.serve.config import HTTPOptions
    from eagleray.serve.handle import DeploymentHandle

_order = Order()


def connect(options: HTTPOptions, *, explicit: bool, resources: dict[str, Any] | None = None) -> Session:
    """The session of this process; joins the resident node, or starts one, where there is none yet.

    With `explicit`, the user asked for these options: a node that runs with others is named in a warning. `resources`
    are what the node has, as far as it is stated.
    """
    with _order, current.lock:
        session = joined()
        if session is not None:
            if explicit:
                session.warn_of_other_address(options)
            if resources:
                from eagleray.serve._log import logger

                logger().warning(
                    "%s of serve.start() have no effect, since the node runs already: `eagleray status --resources` "
                    "shows what it has",
                    ", ".join(resources),
                )
            return session
        from eagleray._driver import node
        from eagleray._driver.session import Session

        session = Session(node.start(options, resources))
        become(session)
        return session


def deploy(wanted: list[Wanted], *, wait: bool) -> list[DeploymentHandle]:
    """Deploys applications and waits for them, if it shall. Returns handles to their ingresses.

    A node that was started for it ends again if they cannot even be sent.
    """
    from eagleray.serve.handle import DeploymentHandle

    with progress.Progress():
        progress.now("waiting for calls that this process made before")
        with _order:
            session, built = _built(wanted)
            deployed = session.deploy(built)
        session.settle(deployed, wait=wait)
    return [DeploymentHandle(one.spec["ingress"], one.spec["name"]) for one in built]


def _built(wanted: list[Wanted]) -> tuple[Session, list[Built]]:
    from eagleray._driver.build import build
    from eagleray.serve.config import HTTPOptions

    session = joined()
    pending = None
    if session is None:
        from eagleray._driver import node

        # The node comes up while the applications are pickled and hashed.
        pending = node.launch(HTTPOptions())
    try:
        built = [
            build(
                one.application,
                name=one.name,
                route_prefix=one.route_prefix,
                logging_config=one.logging_config,
                external_scaler=one.external_scaler_enabled,
            )
            for one in wanted
        ]
    except BaseException:
        if pending is not None:
            pending.end()
        raise
    if pending is not None:
        progress.now("waiting for the node to start")
        session = _adopt(pending)
    assert session is not None
    return session, built


def delete(name: str, *, blocking: bool) -> None:
    """Deletes an application, and with `blocking` waits until it is gone.

    Raises:
        RayServeException: nothing is running.
        TimeoutError: it is not gone in time.
    """
    with _order:
        session = _running()
        session.begin_delete(name)
    if blocking:
        session.await_deleted(name)


def _running() -> Session:
    session = joined()
    if session is None:
        from eagleray.serve.exceptions import RayServeException

        raise RayServeException("nothing is running: there is no node, neither of this process nor resident")
    return session


def _adopt(pending: object) -> Session:
    from eagleray._driver.node import Launched
    from eagleray._driver.session import Session

    assert isinstance(pending, Launched)
    with current.lock:
        session = Session(pending.ready())
        become(session)
        return session


def block() -> None:
    """Sleeps until Ctrl-C, which is raised, or until the node ends, which is an error."""
    session = joined()
    if session is not None:
        session.block()


def shutdown() -> None:
    """Ends all applications, and the node if it is this process's own."""
    with _order, current.lock:
        session = joined()
        become(None)
        if session is None:
            from eagleray.serve._log import logger

            logger().info("nothing to shut down: no node is running")
            return
        session.shutdown()


def shutdown_own() -> bool:
    """Ends what this process has started. Returns False where it uses a node that is not its own, which goes on."""
    with _order, current.lock:
        session = joined()
        if session is not None and not session.owned:
            return False
        shutdown()
        return True


def rollback(name: str, revision: str = "") -> dict[str, Any]:
    """Takes an application back to a revision, code and all; to the one before the current one unless named."""
    with _order:
        session = joined()
        if session is None:
            raise RuntimeError("nothing is running: there is no node, neither of this process nor resident")
        deployed = session.rollback(name, revision)
    session.await_rollback(name, deployed)
    return deployed


os.register_at_fork(after_in_child=_order.forget)
