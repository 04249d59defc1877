"""What the local engine can carry out of a deployment's options, and what it says of the rest.

Options are checked where they are written, whatever the engine; here, before anything is sent, those that this engine
or this release cannot honour are refused, all at once. Those that are honoured in another way than in Ray Serve, or not
yet, are named in a warning. Nothing is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eagleray.serve._deployment_config import DEFAULT_ROUTER, RequestRouterConfig

if TYPE_CHECKING:
    from eagleray.serve._options import DeploymentConfig
    from eagleray.serve.schema import LoggingConfig

_BACKOFF = ("initial_backoff_s", "backoff_multiplier", "max_backoff_s")
_STATS = ("request_routing_stats_period_s", "request_routing_stats_timeout_s")


def refuse(deployments: list[tuple[str, DeploymentConfig]], logging_config: LoggingConfig | None = None) -> None:
    """Raises what stands in the way of these deployments, by name, and of their application's `logging_config`.

    Raises:
        ValueError: an option cannot be carried out; the text names each, and what to do instead.
    """
    problems = [f"deployment {name!r}: {problem}" for name, config in deployments for problem in _problems(config)]
    if logging_config is not None and logging_config.logs_dir is not None:
        problems.append(_LOGS_DIR)
    if problems:
        from eagleray import __version__

        raise ValueError(
            f"nothing was deployed, since the local engine of eagleray {__version__} cannot carry out:\n  "
            + "\n  ".join(problems)
        )


def _problems(config: DeploymentConfig) -> list[str]:
    options = config.ray_actor_options
    found = []
    for key, instead in _ELSEWHERE.items():
        if options.get(key):
            found.append(f"ray_actor_options {key}: {instead}")
    for key, value in (options.get("runtime_env") or {}).items():
        if key != "env_vars" and value:
            found.append(
                f"ray_actor_options runtime_env {key!r}: replicas run in the driver's environment and working "
                "directory, with its packages and code; only env_vars can be set"
            )
    if config.placement_group_bundles is not None:
        found.append("placement_group_bundles: placement groups need a cluster; state num_cpus and resources instead")
    limit = config.max_replicas_per_node
    least = config.first_replicas
    if config.autoscaling_config is not None:
        least = max(least, config.autoscaling_config.min_replicas)
    if limit is not None and least > limit:
        found.append(
            f"max_replicas_per_node={limit}: there is one node, and {least} replicas are wanted; raise the one or "
            "lower the other"
        )
    if config.gang_scheduling_config is not None:
        found.append("gang_scheduling_config: replicas start one by one; leave it out")
    if config.deployment_actors:
        found.append("deployment_actors: there are no actors; make the shared part a deployment and pass its handle")
    if config.request_router_config.request_router_class != DEFAULT_ROUTER:
        found.append(
            f"request_router_class {config.request_router_config.request_router_class!r}: requests are routed by "
            "power of two choices, and those of one session_id or model to one replica; leave it out"
        )
    if config.logging_config is not None and config.logging_config.logs_dir is not None:
        found.append(_LOGS_DIR)
    return found


_LOGS_DIR = "logging_config logs_dir: what replicas write goes to the node's log directory, and to the terminal"

_ELSEWHERE = {
    "accelerator_type": "one machine has no types to choose from; leave it out",
    "label_selector": "one machine has no labels to choose by; leave it out",
    "fallback_strategy": "one machine has no labels to choose by; leave it out",
}


def warnings(
    deployments: list[tuple[str, DeploymentConfig]], code: dict[str, Callable[..., Any]] | None = None
) -> list[str]:
    """What is honoured in another way, or not yet, for people.

    Args:
        deployments: Their options, by name.
        code: Their classes and functions, by name: some have hooks that nobody calls yet.
    """
    code = code or {}
    found = []
    for name, config in deployments:
        found += _without_effect(name, config)
        scaling, limit = config.autoscaling_config, config.max_replicas_per_node
        if scaling is not None and limit is not None and limit < scaling.max_replicas:
            found.append(
                f"deployment {name!r}: max_replicas is {scaling.max_replicas}, but there is one node, and "
                f"max_replicas_per_node is {limit}, so it scales up to {limit}"
            )
        if scaling is not None and _has_hook(code.get(name), "record_autoscaling_stats"):
            found.append(
                f"deployment {name!r}: record_autoscaling_stats is not called yet, so autoscaling policies find no "
                "metrics of it in their context"
            )
        if _has_hook(code.get(name), "record_routing_stats"):
            found.append(
                f"deployment {name!r}: record_routing_stats is not called, since it is for custom routers, which are "
                "not available yet"
            )
    return found


def _has_hook(code: Any, name: str) -> bool:
    # Functions have no hooks, whatever their attributes.
    return isinstance(code, type) and callable(getattr(code, name, None))


def _without_effect(name: str, config: DeploymentConfig) -> list[str]:
    found = []
    router, usual = config.request_router_config, RequestRouterConfig()
    changed = [key for key in _BACKOFF if getattr(router, key) != getattr(usual, key)]
    if changed:
        found.append(
            f"deployment {name!r}: {', '.join(changed)} of request_router_config have no effect, since routers do not "
            "poll: a replica tells them at once when it has room"
        )
    changed = [key for key in _STATS if getattr(router, key) != getattr(usual, key)]
    if changed:
        found.append(
            f"deployment {name!r}: {', '.join(changed)} of request_router_config have no effect, since "
            "record_routing_stats is for custom routers, which are not available yet"
        )
    return found
