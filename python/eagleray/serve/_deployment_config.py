"""Objects among the options of a deployment: what a full queue answers, routers, gangs, actors beside replicas.

Those of later releases are checked as Ray Serve checks them, and refused when they are deployed
(`eagleray._driver.engine`), so that a program that has them is judged where it is written.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from enum import Enum
from typing import Any

from eagleray.serve import _validate
from eagleray.serve._model import (
    Model,
    anything,
    choice,
    dict_of,
    integer,
    json_object,
    list_of,
    number,
    option,
)

DEFAULT_ROUTER = "eagleray.serve.request_router:PowerOfTwoChoicesRequestRouter"


def _status_code(name: str, value: Any) -> int:
    if isinstance(value, bool) or value not in (503, 429):
        raise _validate.invalid(name, f"{name} must be 503 or 429, got {value!r}", value)
    return int(value)


class BackpressureConfig(Model):
    """What a request that finds the queue full is answered: the status, and the seconds of `retry-after` if any."""

    _called = "backpressure_config"

    status_code: int = option(_status_code, default=503)
    retry_after_s: float | None = option(number(positive=False), default=None, optional=True)


def import_path(name: str, value: Any) -> Any:
    """What `module:name` or `module.name` names, imported now.

    Raises:
        ImportError: there is no such module, or it has no such name.
        ValueError: not an import path.
    """
    if not isinstance(value, str) or value.count(":") > 1 or not (":" in value or "." in value):
        raise _validate.invalid(name, f"{name} must be an import path 'module:name', got {value!r}", value)
    module_name, _, attribute = value.partition(":") if ":" in value else value.rpartition(".")
    found: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ImportError(f"{name}: module {module_name!r} has no {attribute!r}") from None
    return found


def _router_class(name: str, value: Any) -> str:
    if isinstance(value, str):
        import_path(name, value)
        return value
    if isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    raise _validate.invalid(name, f"{name} must be an import path 'module:name' or a class, got {value!r}", value)


class RequestRouterConfig(Model):
    """Which class chooses replicas. Only the built-in one can be deployed."""

    _called = "request_router_config"

    request_router_class: str | type = option(_router_class, default=DEFAULT_ROUTER)
    request_router_kwargs: dict[str, Any] = option(json_object, default=dict)
    request_routing_stats_period_s: float = option(number(positive=True), default=10.0)
    request_routing_stats_timeout_s: float = option(number(positive=True), default=30.0)
    initial_backoff_s: float = option(number(positive=True), default=0.025)
    backoff_multiplier: float = option(number(positive=True), default=2.0)
    max_backoff_s: float = option(number(positive=True), default=0.5)


class GangPlacementStrategy(str, Enum):
    """Whether the replicas of a gang share a machine."""

    PACK = "PACK"
    SPREAD = "SPREAD"


class GangRuntimeFailurePolicy(str, Enum):
    """What happens to a gang when one of its replicas fails."""

    RESTART_GANG = "RESTART_GANG"
    RESTART_REPLICA = "RESTART_REPLICA"


class _NotImplementedValueError(NotImplementedError, ValueError):
    """Ray Serve raises the first; as the second it is reported like every other wrong value."""


def _failure_policy(name: str, value: Any) -> GangRuntimeFailurePolicy:
    policy: GangRuntimeFailurePolicy = choice(GangRuntimeFailurePolicy)(name, value)
    if policy is GangRuntimeFailurePolicy.RESTART_REPLICA:
        raise _NotImplementedValueError(f"{name} RESTART_REPLICA is not implemented; use RESTART_GANG")
    return policy


class GangSchedulingConfig(Model):
    """Replicas that start together or not at all."""

    _called = "gang_scheduling_config"

    gang_size: int = option(integer(minimum=1))
    gang_placement_strategy: GangPlacementStrategy = option(
        choice(GangPlacementStrategy), default=GangPlacementStrategy.PACK
    )
    runtime_failure_policy: GangRuntimeFailurePolicy = option(
        _failure_policy, default=GangRuntimeFailurePolicy.RESTART_GANG
    )


def _actor_class(name: str, value: Any) -> Any:
    if isinstance(value, type) or (callable(value) and not isinstance(value, str)):
        return value
    return _validate.text(name, value)


class DeploymentActorConfig(Model):
    """An actor that all replicas of a deployment share."""

    _called = "deployment_actors"

    name: str = option(_validate.text)
    actor_class: str | Callable[..., Any] = option(_actor_class)
    init_args: list[Any] = option(list_of(anything), default=list)
    init_kwargs: dict[str, Any] = option(dict_of(anything), default=dict)
    actor_options: dict[str, Any] = option(dict_of(anything), default=dict)
