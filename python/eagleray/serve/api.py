"""The functions of `eagleray.serve`: run, start, status, delete, shutdown, and handles to what runs.

They check their arguments and hand over to `eagleray._driver`, which is imported on first use: a replica imports
this module too and needs none of it.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from eagleray.serve import _validate
from eagleray.serve.config import HTTPOptions, ProxyLocation
from eagleray.serve.context import ReplicaContext, _find_replica_context, building, in_replica
from eagleray.serve.context import get_replica_context as _get_replica_context
from eagleray.serve.deployment import Application, Deployment
from eagleray.serve.exceptions import RayServeException
from eagleray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    LoggingConfig,
    ProxyStatus,
    ReplicaState,
    ServeStatus,
)

if TYPE_CHECKING:
    from eagleray.serve.handle import DeploymentHandle

_warned_ignored = False


def run(
    target: Application,
    blocking: bool = False,
    name: str = "default",
    route_prefix: str | None = "/",
    logging_config: LoggingConfig | dict[str, Any] | None = None,
    _local_testing_mode: bool = False,
    external_scaler_enabled: bool = False,
    controller_options: Any = None,
    *,
    local_testing_mode: bool = False,
) -> DeploymentHandle:
    """Deploys an application, waits until it runs and returns a handle to its ingress.

    Joins the user's resident node (`eagleray start`) if there is one; else this process's own, which ends with it.
    Deployments that did not change keep their replicas. With `blocking`, sleeps until Ctrl-C afterwards.

    With `local_testing_mode` (or `_local_testing_mode`, or EAGLERAY_SERVE_FORCE_LOCAL_TESTING_MODE=1) everything runs
    in threads of this process, and nothing listens: for unit tests and debuggers. See `eagleray.testing`.

    Raises:
        TypeError: `target` is not an `Application`, or an argument cannot be pickled.
        ValueError: the route prefix is malformed, or an option is not available yet.
        RayServeException: the name or the prefix is not free.
        RuntimeError: the application failed to deploy, with the remote traceback; or the node did not start.
        Exception: in local testing mode, what a constructor raised.
    """
    _check_target(target)
    _check_name(name)
    prefix = _check_route_prefix(route_prefix)
    access_log = True if logging_config is None else LoggingConfig.take(logging_config).enable_access_log
    if external_scaler_enabled:
        raise _validate.not_available("external_scaler_enabled")
    if controller_options is not None:
        raise _validate.not_available("controller_options")
    if _ignored_here():
        from eagleray.serve.handle import DeploymentHandle

        return DeploymentHandle(target._bound_deployment.name, name)
    if _local_testing_mode or local_testing_mode or _local_forced():
        return _run_here(target, name, prefix, blocking=blocking)

    from eagleray import _driver

    handle = _driver.deploy(target, name=name, route_prefix=prefix, access_log=access_log)
    if blocking:
        _driver.block()
    return handle


def start(
    proxy_location: str | ProxyLocation | None = None,
    http_options: HTTPOptions | dict[str, Any] | None = None,
    grpc_options: Any = None,
    logging_config: Any = None,
    tracing_config: Any = None,
    controller_options: Any = None,
    **kwargs: Any,
) -> None:
    """Starts this process's node, or joins the resident one, before anything is deployed.

    A node that runs already keeps its options; those that differ are named in a warning.
    """
    for key in ("http_host", "http_port", "http_middlewares"):
        if key in kwargs:
            raise ValueError(f"{key} is given as http_options={{{key.removeprefix('http_')!r}: ...}}")
    if kwargs:
        raise TypeError(f"serve.start() has no option {sorted(kwargs)[0]!r}")
    if proxy_location is not None and ProxyLocation(proxy_location) is ProxyLocation.Disabled:
        raise _validate.not_available("proxy_location='Disabled'")
    later = {
        "grpc_options": grpc_options,
        "logging_config": logging_config,
        "tracing_config": tracing_config,
        "controller_options": controller_options,
    }
    for key, value in later.items():
        if value is not None:
            raise _validate.not_available(f"{key} of serve.start()")
    options = HTTPOptions._take(http_options)
    if _ignored_here() or _local_forced():
        return
    from eagleray import _driver

    _driver.connect(options, explicit=http_options is not None)


def shutdown() -> None:
    """Ends every application; a node that this process started ends too, the resident one goes on. Idempotent."""
    if _ignored_here():
        return
    from eagleray import _driver

    if (local := _local_mode()) is not None and local.shutdown() and _driver._session is None:
        return  # tests that ran here do not end what a resident node serves
    _driver.shutdown()


async def shutdown_async() -> None:
    """`shutdown` that does not block the event loop."""
    import asyncio

    await asyncio.to_thread(shutdown)


def delete(name: str, _blocking: bool = True) -> None:
    """Deletes an application. With `_blocking`, returns when its replicas are gone. An unknown name is no error."""
    _check_name(name)
    if _ignored_here():
        return
    if (local := _local_mode()) is not None and local.delete(name):
        return
    from eagleray import _driver

    session = _driver.joined()
    if session is None:
        raise RayServeException("nothing is running: there is no node, neither of this process nor resident")
    session.delete(name, blocking=_blocking)


def status() -> ServeStatus:
    """What runs, with counts of replicas by state. Empty when nothing was started."""
    from eagleray import _driver

    local = _local_mode()
    here = {} if local is None else {found["name"]: _overview(found) for found in local.statuses()}
    session = _driver.joined()
    if session is None:
        return ServeStatus(applications=here)
    info = session.node_info()
    applications = {application["name"]: _overview(application) for application in session.status()} | here
    return ServeStatus(proxies={info["node_id"]: ProxyStatus(info["proxy_status"])}, applications=applications)


def _overview(application: dict[str, Any]) -> ApplicationStatusOverview:
    deployments = {
        deployment["name"]: DeploymentStatusOverview(
            status=DeploymentStatus(deployment["status"]),
            status_trigger=DeploymentStatusTrigger(deployment["status_trigger"]),
            replica_states={
                ReplicaState(state): count for state, count in deployment["replica_states"].items() if count
            },
            message=deployment["message"],
            abandoned_requests=deployment["abandoned_requests"],
        )
        for deployment in application["deployments"]
    }
    return ApplicationStatusOverview(
        status=ApplicationStatus(application["status"]),
        message=application["message"],
        last_deployed_time_s=application["last_deployed_time_s"],
        deployments=deployments,
    )


def get_app_handle(name: str) -> DeploymentHandle:
    """A handle to the ingress of a running application.

    Raises:
        RayServeException: nothing runs, or no application has this name.
    """
    from eagleray.serve.handle import DeploymentHandle

    application = _application(name)
    return DeploymentHandle(application["ingress"], name)


def get_deployment_handle(
    deployment_name: str,
    app_name: str | None = None,
    _check_exists: bool = True,
    _record_telemetry: bool = True,
) -> DeploymentHandle:
    """A handle to any deployment; inside a replica the application is its own unless named.

    Raises:
        RayServeException: nothing runs, no such application, or (as `KeyError` too) no such deployment.
    """
    from eagleray.serve.handle import DeploymentHandle

    if app_name is None:
        context = _find_replica_context()
        if context is None:
            raise RayServeException("get_deployment_handle() needs app_name outside a replica")
        app_name = context.app_name
    if _check_exists and not in_replica():
        names = [deployment["name"] for deployment in _application(app_name)["deployments"]]
        if deployment_name not in names:
            raise _NoSuchDeploymentError(
                f"application {app_name!r} has no deployment {deployment_name!r}; it has {', '.join(names)}"
            )
    return DeploymentHandle(deployment_name, app_name)


class _NoSuchDeploymentError(RayServeException, KeyError):
    """Ray Serve documents the one and raises the other."""

    __str__ = Exception.__str__


def _local_mode() -> Any:
    """Local testing mode, if this process has used it."""
    return sys.modules.get("eagleray._local")


def _local_forced() -> bool:
    return os.environ.get("EAGLERAY_SERVE_FORCE_LOCAL_TESTING_MODE") == "1"


def _run_here(target: Application, name: str, route_prefix: str, *, blocking: bool) -> DeploymentHandle:
    from eagleray import _local

    handle = _local.run(target, name=name, route_prefix=route_prefix)
    if blocking:
        threading.Event().wait()
    return handle


def _application(name: str) -> dict[str, Any]:
    if (local := _local_mode()) is not None and (found := local.find(name)) is not None:
        return dict(found.status())
    applications = _statuses()
    for application in applications:
        if application["name"] == name:
            return application
    names = ", ".join(application["name"] for application in applications) or "none"
    raise RayServeException(f"no application is named {name!r}; running: {names}")


def _statuses() -> list[dict[str, Any]]:
    from eagleray import _core, _driver
    from eagleray.serve._client import controller_of_replica

    path = controller_of_replica()
    if path is not None:
        # Of the node that this replica belongs to, which need not be the resident one.
        return _core.Client(path).status()
    session = _driver.joined()
    if session is None:
        raise RayServeException("nothing is running: there is no node, neither of this process nor resident")
    return session.status()


def get_replica_context() -> ReplicaContext:
    """Who the replica is that this code runs in. Outside a replica: `RayServeException`."""
    return _get_replica_context()


def get_deployment_actor(actor_name: str) -> Any:
    """An actor that the replicas of a deployment share. There are none yet, so no name is known.

    Raises:
        RayServeException: outside a replica.
        ValueError: inside one: the deployment has no such actor.
    """
    context = _get_replica_context()
    raise ValueError(
        f"deployment {context.deployment!r} has no deployment actor {actor_name!r}: deployment actors are not "
        "available yet; make the shared part a deployment and pass its handle"
    )


def get_deployment_actor_context() -> Any:
    """Who the deployment actor is that this code runs in. There are none yet, so this raises.

    Raises:
        RayServeException: always.
    """
    raise RayServeException("serve.get_deployment_actor_context() works only inside a deployment actor")


def get_trace_context() -> Any:
    """The trace that the running request belongs to; None, since tracing is not available yet."""
    return None


def _check_target(target: Any) -> None:
    if isinstance(target, Application):
        return
    hint = ""
    if isinstance(target, Deployment):
        hint = f": call .bind() on it, serve.run({target.name}.bind())"
    raise TypeError(f"serve.run() takes the Application that .bind() returns, got {type(target).__name__}{hint}")


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of an application must be a string, got {type(name).__name__}")
    if not name:
        raise RayServeException("the name of an application must not be empty")
    if "#" in name or "/" in name or not name.isprintable():
        raise ValueError(f"the name of an application must be printable, without '#' and '/', got {name!r}")


def _check_route_prefix(route_prefix: Any) -> str:
    """The prefix; empty for None, which is an application that HTTP does not reach."""
    if route_prefix is None:
        return ""
    if not isinstance(route_prefix, str):
        raise TypeError(f"route_prefix must be a string or None, got {type(route_prefix).__name__}")
    if not route_prefix.startswith("/"):
        raise ValueError(f"route_prefix must begin with '/', got {route_prefix!r}")
    if route_prefix != "/" and route_prefix.endswith("/"):
        raise ValueError(f"route_prefix must not end with '/', got {route_prefix!r}")
    if any(character in route_prefix for character in "{}?#") or not route_prefix.isprintable():
        raise ValueError(f"route_prefix is a plain path without wildcards, got {route_prefix!r}")
    return route_prefix


def _ignored_here() -> bool:
    """Whether this module-level call runs in a replica or in the build step, where it would recurse; warns once."""
    global _warned_ignored  # noqa: PLW0603 - one warning for a process
    if not in_replica() and not building():
        return False
    if not _warned_ignored:
        _warned_ignored = True
        from eagleray.serve._log import logger

        where = "a replica" if in_replica() else "the build step"
        logger().warning(
            "serve.run and its kin are ignored in %s, which imported this file for its definitions; "
            'put the call under `if __name__ == "__main__":`',
            where,
        )
    return True
