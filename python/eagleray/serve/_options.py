"""The options of a deployment: names, defaults, checks.

All are checked where they are written, so that a mistake is one line in the user's own file. What this release cannot
carry out is refused where it is deployed, by `eagleray._driver.engine`: nothing is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from eagleray.serve import _old_names, _validate
from eagleray.serve._autoscaling_config import AutoscalingConfig
from eagleray.serve._deployment_config import (
    BackpressureConfig,
    DeploymentActorConfig,
    GangSchedulingConfig,
    RequestRouterConfig,
)
from eagleray.serve._resources import (
    check_placement,
    placement_group_bundles,
    placement_group_strategy,
    ray_actor_options,
)
from eagleray.serve.schema import LoggingConfig


class _Unset:
    """Marks an option that was not given, so that None is a value."""

    def __repr__(self) -> str:
        return "<not given>"

    def __bool__(self) -> bool:
        return False


UNSET: Any = _Unset()

DEFAULT_MAX_BODY_BYTES = 64 * 1024 * 1024
MOST_REPLICAS_A_NODE = 100


@dataclass(frozen=True)
class DeploymentConfig:
    """The options of a deployment, checked.

    `given` holds the names of those that the user stated.
    """

    num_replicas: int = 1
    max_ongoing_requests: int = 5
    max_queued_requests: int = -1
    backpressure_config: BackpressureConfig = field(default_factory=BackpressureConfig)
    user_config: Any = None
    autoscaling_config: AutoscalingConfig | None = None
    graceful_shutdown_wait_loop_s: float = 2.0
    graceful_shutdown_timeout_s: float = 20.0
    health_check_period_s: float = 10.0
    health_check_timeout_s: float = 30.0
    hang_timeout_s: float | None = 300.0
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    max_constructor_retry_count: int = 20
    ray_actor_options: dict[str, Any] = field(default_factory=dict)
    placement_group_bundles: list[dict[str, float]] | None = None
    placement_group_strategy: str | None = None
    placement_group_bundle_label_selector: list[dict[str, str]] | None = None
    max_replicas_per_node: int | None = None
    logging_config: LoggingConfig | None = None
    request_router_config: RequestRouterConfig = field(default_factory=RequestRouterConfig)
    gang_scheduling_config: GangSchedulingConfig | None = None
    deployment_actors: list[DeploymentActorConfig] | None = None
    rolling_update_percentage: float = 0.2
    max_surge_percent: int = 0
    max_requests_per_replica: int = 0
    max_rss: int = 0
    min_ready_s: float = 0.0
    start_timeout_s: float = 0.0
    given: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def first_replicas(self) -> int:
        """How many replicas run: as stated, or where a deployment that scales begins."""
        return self.num_replicas if self.autoscaling_config is None else self.autoscaling_config.first

    @property
    def resources(self) -> dict[str, float]:
        """What a replica reserves, by name; `num_cpus` also where it is stated as none."""
        options = self.ray_actor_options
        named = {key: float(options[key]) for key in ("num_cpus", "memory") if options.get(key) is not None}
        if options.get("num_gpus"):
            named["num_gpus"] = float(options["num_gpus"])
        return {**named, **{key: float(value) for key, value in (options.get("resources") or {}).items()}}

    @property
    def env_vars(self) -> dict[str, str]:
        """Environment variables of the replicas."""
        return dict((self.ray_actor_options.get("runtime_env") or {}).get("env_vars") or {})


def _num_replicas(value: Any) -> int:
    if value is None:
        return 1
    if isinstance(value, str) and not value.strip().removesuffix(".0").isdecimal():
        message = f'num_replicas must be an integer of at least 1 or "auto", got {value!r}'
        raise _validate.invalid("num_replicas", message, value)
    return _validate.integer("num_replicas", value, minimum=1)


def _max_ongoing_requests(value: Any) -> int:
    if value is None:
        raise ValueError("max_ongoing_requests must be an integer of at least 1, got None; leave it out for 5")
    return _validate.integer("max_ongoing_requests", value, minimum=1)


def _max_queued_requests(value: Any) -> int:
    number = _validate.integer("max_queued_requests", value, minimum=-1)
    if number == 0:
        message = "max_queued_requests must be -1 (no limit) or at least 1, got 0"
        raise _validate.invalid("max_queued_requests", message, value)
    return number


def _user_config(value: Any) -> Any:
    return None if value is None else _validate.json_value("user_config", value)


def _max_replicas_per_node(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"max_replicas_per_node must be an int or None, got {value!r}")
    if not 1 <= value <= MOST_REPLICAS_A_NODE:
        raise ValueError(f"max_replicas_per_node must be from 1 to {MOST_REPLICAS_A_NODE}, got {value!r}")
    return value


def _deployment_actors(value: Any) -> list[DeploymentActorConfig] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise _validate.invalid("deployment_actors", f"deployment_actors must be a list, got {value!r}", value)
    actors = [DeploymentActorConfig.model_validate(actor) for actor in value]
    names = [actor.name for actor in actors]
    for name in names:
        if names.count(name) > 1:
            message = f"deployment_actors has two actors named {name!r}; give each a name of its own"
            raise _validate.invalid("deployment_actors", message, name)
    return actors


def _seconds(name: str, *, positive: bool) -> Callable[[Any], float]:
    return lambda value: _validate.seconds(name, value, positive=positive)


def _or_none(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "num_replicas": _num_replicas,
    "max_ongoing_requests": _max_ongoing_requests,
    "max_queued_requests": _max_queued_requests,
    "backpressure_config": lambda value: BackpressureConfig.model_validate({} if value is None else value),
    "user_config": _user_config,
    "autoscaling_config": _or_none(AutoscalingConfig.model_validate),
    "graceful_shutdown_wait_loop_s": _seconds("graceful_shutdown_wait_loop_s", positive=False),
    "graceful_shutdown_timeout_s": _seconds("graceful_shutdown_timeout_s", positive=False),
    "health_check_period_s": _seconds("health_check_period_s", positive=True),
    "health_check_timeout_s": _seconds("health_check_timeout_s", positive=True),
    "hang_timeout_s": _or_none(_seconds("hang_timeout_s", positive=True)),
    "max_body_bytes": lambda value: _validate.integer("max_body_bytes", value, minimum=1),
    "max_constructor_retry_count": lambda value: _validate.integer("max_constructor_retry_count", value, minimum=1),
    "ray_actor_options": ray_actor_options,
    "placement_group_bundles": _or_none(placement_group_bundles),
    "placement_group_strategy": _or_none(placement_group_strategy),
    "placement_group_bundle_label_selector": _or_none(lambda value: value),
    "max_replicas_per_node": _max_replicas_per_node,
    "logging_config": _or_none(LoggingConfig.take),
    "request_router_config": lambda value: RequestRouterConfig.model_validate({} if value is None else value),
    "gang_scheduling_config": _or_none(GangSchedulingConfig.model_validate),
    "deployment_actors": _deployment_actors,
    "rolling_update_percentage": lambda value: _validate.number(
        "rolling_update_percentage", value, positive=True, maximum=1
    ),
    "max_surge_percent": lambda value: _validate.integer("max_surge_percent", value, minimum=0, maximum=100),
    "max_requests_per_replica": lambda value: _validate.integer("max_requests_per_replica", value, minimum=0),
    "max_rss": lambda value: _validate.integer("max_rss", value, minimum=0),
    "min_ready_s": _seconds("min_ready_s", positive=False),
    "start_timeout_s": _seconds("start_timeout_s", positive=False),
}
"""By name: takes what the user gave and returns what is kept."""


def configure(base: DeploymentConfig, given: dict[str, Any]) -> DeploymentConfig:
    """`base`, with the options in `given` over it, checked one by one and together.

    Raises:
        TypeError: an option has the wrong type, or there is none of that name.
        ValueError: a value is out of range, or two options exclude each other.
    """
    given = {key: value for key, value in given.items() if value is not UNSET}
    given = _old_names.today("serve.deployment", given)
    for key in given:
        if key == "version":
            raise ValueError("version is no option: a deployment's version follows from its code and arguments")
        if key not in CHECKS:
            where = _validate.hint("serve.deployment", key, [*CHECKS, "name"])
            raise TypeError(f"serve.deployment has no option {key!r}{where}")
    automatic = isinstance(given.get("num_replicas"), str) and given["num_replicas"] == "auto"
    if automatic:
        given["num_replicas"] = None
        # Merged before it is checked: bounds that are given are bounds over 1 to 100.
        over = given.get("autoscaling_config", base.autoscaling_config)
        given["autoscaling_config"] = AutoscalingConfig.automatic(over)
    changes = {key: CHECKS[key](value) for key, value in given.items()}
    if changes.get("autoscaling_config") is not None and given.get("num_replicas") is not None:
        raise ValueError(
            f"num_replicas={given['num_replicas']!r} and autoscaling_config exclude each other: leave num_replicas "
            'out (or write "auto"), or leave autoscaling_config out'
        )
    if given.get("num_replicas") is not None:
        # A number is the last word: what was automatic is so no more.
        changes.setdefault("autoscaling_config", None)
    elif changes.get("autoscaling_config") is not None:
        changes["num_replicas"] = 1
    config = replace(base, **changes, given=base.given | given.keys())
    check_placement(config)
    _check_gang(config)
    return config


def _check_gang(config: DeploymentConfig) -> None:
    gang = config.gang_scheduling_config
    if gang is None:
        return
    if config.placement_group_strategy is not None:
        raise ValueError(
            "placement_group_strategy and gang_scheduling_config exclude each other; leave one of them out"
        )
    if config.max_replicas_per_node is not None:
        raise ValueError("max_replicas_per_node and gang_scheduling_config exclude each other; leave one of them out")
    if config.autoscaling_config is None and config.num_replicas % gang.gang_size:
        message = (
            f"num_replicas ({config.num_replicas}) must be a multiple of gang_scheduling_config.gang_size "
            f"({gang.gang_size})"
        )
        raise _validate.invalid("num_replicas", message, config.num_replicas)
