"""The functions of `eagleray.serve` beside `run`: start, status, delete, shutdown, and handles to what runs.

They check their arguments and hand over to `eagleray._driver`, which is imported on first use: a replica imports
this module too and needs none of it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eagleray import _runtime
from eagleray._runtime import in_replica
from eagleray._shortened import shortened
from eagleray.serve import _log, _validate
from eagleray.serve._resources import node_resources
from eagleray.serve._run import check_controller_options, check_name, ignored_here, local_forced
from eagleray.serve.config import HTTPOptions, ProxyLocation, gRPCOptions
from eagleray.serve.context import ReplicaContext
from eagleray.serve.context import get_replica_context as _get_replica_context
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
    TracingConfig,
    Why,
)

if TYPE_CHECKING:
    from eagleray.serve.handle import DeploymentHandle


@shortened
def start(
    proxy_location: str | ProxyLocation | None = None,
    http_options: HTTPOptions | dict[str, Any] | None = None,
    grpc_options: Any = None,
    logging_config: Any = None,
    tracing_config: Any = None,
    controller_options: Any = None,
    *,
    num_cpus: float | None = None,
    num_gpus: int | None = None,
    memory: float | None = None,
    resources: dict[str, float] | None = None,
    **kwargs: Any,
) -> None:
    """Starts this process's node, or joins the resident one, before anything is deployed.

    A node that runs already keeps its options; those that differ are named in a warning.

    Args:
        proxy_location: "EveryNode" (default) and "HeadOnly" are the same on one machine; "Disabled" is no HTTP: nothing
            listens, and handles reach what runs. `location` in `http_options` goes before it.
        http_options: Where HTTP listens, and its limits; None is the defaults.
        grpc_options, logging_config, tracing_config, controller_options: Checked; what differs from the defaults is
            refused, since it is not available yet.
        num_cpus, num_gpus, memory, resources: What replicas may reserve, of a node that is started here; None is what
            is found.

    Raises:
        TypeError, ValueError: an option has the wrong type or value, is not known, or not available yet.
        RuntimeError: the node did not start; the text says why.
    """
    if kwargs.pop("detached", False):
        # Programs for older releases of Ray Serve ask for what is the default there.
        _log.logger().warning("detached=True has no effect: for a node that outlives scripts, run `eagleray start`")
    for key in kwargs:
        error = ValueError if key.startswith("http_") else TypeError
        known = (
            "proxy_location",
            "http_options",
            "grpc_options",
            "logging_config",
            "controller_options",
            "num_cpus",
            "num_gpus",
            "memory",
            "resources",
        )
        raise error(f"serve.start() has no option {key!r}{_validate.hint('serve.start()', key, known)}")
    if grpc_options is not None and gRPCOptions.model_validate(grpc_options).grpc_servicer_functions:
        raise _validate.not_available("the gRPC ingress (grpc_options with grpc_servicer_functions)")
    if logging_config is not None and LoggingConfig.take(logging_config) != LoggingConfig():
        raise _validate.not_available(
            "logging_config of serve.start()", "give it to serve.run() or to a deployment for what replicas write"
        )
    if tracing_config is not None and TracingConfig.model_validate(tracing_config).enabled:
        raise _validate.not_available("tracing (tracing_config.enabled)")
    check_controller_options(controller_options)
    options = HTTPOptions._take(http_options)
    if proxy_location is not None and options.location is None:
        location = _validate.one_of("proxy_location", proxy_location, ProxyLocation)
        options = dataclasses.replace(options, location=location)
    if ignored_here() or local_forced():
        return
    from eagleray import _driver

    has = node_resources(num_cpus=num_cpus, num_gpus=num_gpus, memory=memory, resources=resources)
    _driver.connect(options, explicit=http_options is not None or options.disabled, resources=has)


@shortened
def shutdown() -> None:
    """Ends every application; a node that this process started ends too, the resident one goes on. Idempotent."""
    if ignored_here():
        return
    from eagleray import _driver

    if _runtime.local_applications:
        from eagleray import _local
        from eagleray._driver import current

        if _local.shutdown() and not current.has_session():
            return  # tests that ran here do not end what a resident node serves
    _driver.shutdown()


async def shutdown_async() -> None:
    """`shutdown` that does not block the event loop."""
    import asyncio

    await asyncio.to_thread(shutdown)


@shortened
def delete(name: str, _blocking: bool = True) -> None:
    """Deletes an application. An unknown name is no error.

    Args:
        name: The application's.
        _blocking: Wait until its replicas are gone. Without it the call returns when the deletion is certain: a
            `serve.run` of the same name after it deploys anew, and is not deleted.

    Raises:
        RayServeException: nothing is running.
        TimeoutError: the application is not gone within 60 s; it goes on ending.
    """
    check_name(name)
    if ignored_here():
        return
    if name in _runtime.local_applications:
        from eagleray import _local

        if _local.delete(name):
            return
    from eagleray import _driver

    _driver.delete(name, blocking=_blocking)


def status() -> ServeStatus:
    """What runs, with counts of replicas by state. Empty when nothing was started."""
    from eagleray._driver import current

    here = {name: _overview(local.status()) for name, local in list(_runtime.local_applications.items())}
    path = _runtime.find_controller()
    if path:
        from eagleray import _core

        info = _core.Client(str(Path(path).with_name("node.sock"))).node_info()
        own = _core.Client(path).reasons(_STATUS_TIMEOUT_S)
    else:
        session = current.joined()
        if session is None:
            return ServeStatus(applications=here)
        info = session.node_info()
        own = session.reasons()
    applications = {application["name"]: _overview(application) for application in _statuses()} | here
    # Without HTTP there is no proxy that anybody could reach.
    proxies = {info["node_id"]: ProxyStatus(info["proxy_status"])} if info["http_address"] else {}
    why = [Why(**one) for one in info["why"] + own]
    return ServeStatus(proxies=proxies, applications=applications, why=why)


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
            why=_reasons(deployment),
        )
        for deployment in application["deployments"]
    }
    return ApplicationStatusOverview(
        status=ApplicationStatus(application["status"]),
        message=application["message"],
        last_deployed_time_s=application["last_deployed_time_s"],
        deployments=deployments,
        why=_reasons(application),
    )


def _reasons(of: dict[str, Any]) -> list[Why]:
    return [Why(**why) for why in of.get("why", [])]


@shortened
def get_app_handle(name: str) -> DeploymentHandle:
    """A handle to the ingress of a running application.

    Raises:
        RayServeException: nothing runs, or no application has this name.
    """
    from eagleray.serve.handle import DeploymentHandle

    application = _application(name)
    return DeploymentHandle(application["ingress"], name)


@shortened
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
        context = _runtime.replica_context()
        if context is None:
            raise RayServeException("get_deployment_handle() needs app_name outside a replica")
        app_name = context.app_name
    if _check_exists and (deployment_name, app_name) not in _known_here:
        try:
            names = [deployment["name"] for deployment in _application(app_name)["deployments"]]
        except (OSError, TimeoutError):
            # A request in a replica does not wait for a controller that is away.
            if not in_replica():
                raise
            return DeploymentHandle(deployment_name, app_name)
        if deployment_name not in names:
            raise _NoSuchDeploymentError(
                f"application {app_name!r} has no deployment {deployment_name!r}; it has {', '.join(names)}"
            )
        if in_replica() and len(_known_here) < _MOST_KNOWN:
            _known_here.add((deployment_name, app_name))
    return DeploymentHandle(deployment_name, app_name)


#: Deployments that a replica has asked the controller for, so that it asks once.
_known_here: set[tuple[str, str]] = set()
_MOST_KNOWN = 1000
#: A replica waits this long for a controller that is away.
_STATUS_TIMEOUT_S = 5.0


class _NoSuchDeploymentError(RayServeException, KeyError):
    """Ray Serve documents the one and raises the other."""

    __str__ = Exception.__str__


def _application(name: str) -> dict[str, Any]:
    local = _runtime.local_applications.get(name)
    if local is not None:
        return local.status()
    applications = _statuses()
    for application in applications:
        if application["name"] == name:
            return application
    names = ", ".join(application["name"] for application in applications) or "none"
    raise RayServeException(f"no application is named {name!r}; running: {names}")


def _statuses() -> list[dict[str, Any]]:
    from eagleray import _core
    from eagleray._driver import current

    path = _runtime.find_controller()  # of the replica's node, which need not be the resident one
    if path:
        return _core.Client(path).status(_STATUS_TIMEOUT_S)
    session = current.joined()
    if session is None:
        raise RayServeException("nothing is running: there is no node, neither of this process nor resident")
    return session.status()


@shortened
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
