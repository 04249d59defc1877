"""Names that earlier releases of Ray Serve had, and that public programs still write.

What was only renamed is taken under today's name, with one warning in a process that says it. What means something else
today, or nothing, is refused where it is written, by a message that says what to write instead. Ray Serve 2.60 drops
the ones in an `autoscaling_config` in silence, and so runs with another setting than the program states.

By the name that messages give the object: "serve.deployment", or `Model._called`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

#: Old name to today's, of the same meaning. The release in which today's came is beside it.
RENAMED: dict[str, dict[str, str]] = {
    "serve.deployment": {
        "max_concurrent_queries": "max_ongoing_requests",  # 2.10
        "_autoscaling_config": "autoscaling_config",  # 2.0, as are the next four
        "_graceful_shutdown_timeout_s": "graceful_shutdown_timeout_s",
        "_graceful_shutdown_wait_loop_s": "graceful_shutdown_wait_loop_s",
        "_health_check_period_s": "health_check_period_s",
        "_health_check_timeout_s": "health_check_timeout_s",
    },
    "autoscaling_config": {
        "target_num_ongoing_requests_per_replica": "target_ongoing_requests",  # 2.10
    },
}

#: Names in modules, old to today's: handles were of three classes until 2.10.
RENAMED_IN_MODULES: dict[str, dict[str, str]] = {
    "eagleray.serve.handle": dict.fromkeys(
        ("RayServeHandle", "RayServeSyncHandle", "RayServeDeploymentHandle"), "DeploymentHandle"
    ),
    "eagleray.serve.config": {"DeploymentMode": "ProxyLocation"},
}

_SCALING = ("min_replicas", "max_replicas", "initial_replicas", "target_ongoing_requests")
_ACTOR = ("num_cpus", "num_gpus", "memory", "resources", "accelerator_type", "runtime_env")

#: What older programs, and users who guess, write in the wrong place or to no effect: how the message goes on.
ELSEWHERE: dict[str, dict[str, str]] = {
    "serve.deployment": {
        "route_prefix": "; an application has one: serve.run(..., route_prefix=...)",
        "prev_version": "; a deployment's version follows from its code and arguments, so leave it out",
        "is_driver_deployment": "; write num_replicas instead",
        "init_args": "; arguments of the constructor are given to bind()",
        "init_kwargs": "; arguments of the constructor are given to bind()",
        **dict.fromkeys(_ACTOR, "; it goes into ray_actor_options={...}"),
        **dict.fromkeys(_SCALING, "; it goes into autoscaling_config={...}"),
    },
    "autoscaling_config": {
        "max_concurrent_queries": "; it is max_ongoing_requests of the deployment",
        "max_ongoing_requests": "; it is an option of the deployment, beside autoscaling_config",
        "num_replicas": "; write min_replicas and max_replicas",
        "_policy": "; write policy={'policy_function': ...}",
    },
    "ray_actor_options": {
        "CPU": "; write num_cpus",
        "GPU": "; write num_gpus",
        "object_store_memory": "; it has had no effect on a deployment, so leave it out",
        **dict.fromkeys(("max_restarts", "max_task_retries"), "; replicas that die are replaced, so leave it out"),
        **dict.fromkeys(("max_concurrency",), "; it is max_ongoing_requests of the deployment"),
        **dict.fromkeys(("num_replicas",), "; it is an option of the deployment, beside ray_actor_options"),
    },
    "http_options": {
        "fixed_number_replicas": "; each machine has one set of proxy threads, so leave it out",
        "fixed_number_selection_seed": "; each machine has one set of proxy threads, so leave it out",
        "http_host": "; write host",
        "http_port": "; write port",
    },
    "serve.run()": {
        "host": "; give it to the node first: serve.start(http_options={'host': ..., 'port': ...})",
        "port": "; give it to the node first: serve.start(http_options={'host': ..., 'port': ...})",
        "_blocking": "; serve.run() waits until the application runs. To go on at once, write "
        "serve.run_many([serve.RunTarget(app)], wait_for_applications_running=False)",
    },
    "serve.start()": {
        "dedicated_cpu": "; nothing is reserved for the controller, so leave it out",
        **{f"http_{key}": f"; write http_options={{{key!r}: ...}}" for key in ("host", "port", "middlewares")},
    },
    "DeploymentHandle.options()": {
        "use_new_handle_api": "; there is one kind of handle, so leave it out",
    },
}

#: Attributes that programs of older releases use, by the class or module that had them.
GONE: dict[str, dict[str, str]] = {
    "Deployment": {
        "deploy": "deploy it with serve.run(deployment.bind(...))",
        "delete": "delete its application with serve.delete(name)",
        "get_handle": "serve.run() returns a handle, and serve.get_deployment_handle(name, app_name) finds one",
        "url": "route_prefix belongs to the application: serve.run(..., route_prefix=...)",
        "route_prefix": "route_prefix belongs to the application: serve.run(..., route_prefix=...)",
    },
    "eagleray.serve": {
        "get_deployment": "serve.get_deployment_handle(name, app_name) finds a handle, serve.status() what runs",
        "list_deployments": "serve.status() lists what runs",
    },
}

_warned: set[tuple[str, str]] = set()


def today(called: str, given: Mapping[Any, Any]) -> dict[Any, Any]:
    """`given`, with today's names for those that were renamed; warns of each name once in a process.

    Args:
        called: How messages name what these are options of.
        given: Options by name.

    Raises:
        TypeError: an option is given under both names.
    """
    renamed = RENAMED.get(called)
    if not renamed or renamed.keys().isdisjoint(given):
        return dict(given)
    taken = {}
    for key, value in given.items():
        name = renamed.get(key, key)
        if name != key:
            if name in given:
                raise TypeError(f"{key!r} and {name!r} of {called} are one option; leave {key!r}, the old name, out")
            _warn(called, key, name)
        taken[name] = value
    return taken


def in_module(module: str, name: str) -> Any:
    """What a module's `__getattr__` answers: the thing under today's name, with one warning in a process.

    Raises:
        AttributeError: the module has nothing of that name and never had.
    """
    found = RENAMED_IN_MODULES.get(module, {}).get(name)
    if found is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    _warn(module, name, found)
    return getattr(sys.modules[module], found)


def elsewhere(called: str, key: Any) -> str:
    """How the message on an unknown key goes on, if it is one of `ELSEWHERE`; else empty."""
    return ELSEWHERE.get(called, {}).get(key, "")


def gone(owner: str, name: str) -> AttributeError:
    """The error for an attribute that `owner` does not have, or has not any more."""
    instead = GONE.get(owner, {}).get(name)
    what = f"{owner!r} has no attribute {name!r}"
    return AttributeError(f"{what}, which older releases of Ray Serve had; {instead}" if instead else what)


def _warn(called: str, old: str, name: str) -> None:
    from eagleray._runtime import in_replica

    if (called, old) in _warned or in_replica():  # the driver, which runs the same lines, has said it
        return
    _warned.add((called, old))
    from eagleray.serve._log import logger

    logger().warning(
        "%s of %s is called %s in today's Ray Serve and is taken as that; write %s", old, called, name, name
    )
