"""`AutoscalingConfig` and what belongs to it.

Who decides is the controller. It is told the keys that are stated, since a stated `look_back_period_s` means more than
its default. A policy of the user's own runs in a process beside it (`eagleray._policy`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from eagleray._shortened import users_stacklevel
from eagleray.serve import _old_names, _validate
from eagleray.serve._model import (
    Model,
    choice,
    integer,
    json_object,
    number,
    option,
)

DEFAULT_POLICY = "eagleray.serve.autoscaling_policy:default_autoscaling_policy"
_DEFAULT_POLICIES = tuple(
    f"{package}.serve.autoscaling_policy:{name}"
    for package in ("eagleray", "ray")
    for name in ("default_autoscaling_policy", "replica_queue_length_autoscaling_policy")
)


#: As of `num_replicas`.
_MOST_REPLICAS = 10_000


class AggregationFunction(str, Enum):
    """How measurements of the look-back window become one number."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


def _policy_function(name: str, value: Any) -> Any:
    if callable(value):
        return value
    if not isinstance(value, str) or not value:
        raise _validate.invalid(
            name, f"{name} must be an import path 'module:name' or a callable, got {value!r}", value
        )
    return value


class AutoscalingPolicy(Model):
    """What decides on the number of replicas: a callable or its import path, and arguments if it is a class."""

    _called = "autoscaling_config.policy"

    policy_function: str | Callable[..., Any] = option(_policy_function, default=DEFAULT_POLICY)
    policy_kwargs: dict[str, Any] = option(json_object, default=dict)

    @property
    def is_default(self) -> bool:
        """Nobody has to be asked: the controller decides by the load."""
        function = self.policy_function
        named = function if isinstance(function, str) else f"{function.__module__}:{function.__qualname__}"
        return named in _DEFAULT_POLICIES


def _policy(name: str, value: Any) -> AutoscalingPolicy:
    return AutoscalingPolicy.model_validate(value)


class AutoscalingConfig(Model):
    """Between which numbers of replicas a deployment moves, and how quickly.

    Attributes:
        min_replicas, initial_replicas, max_replicas: Bounds, and where it begins (None: at `min_replicas`).
        target_ongoing_requests: Requests that run or wait, per replica, that are aimed at.
        metrics_interval_s, look_back_period_s: How often is measured, and over which time it is averaged, in seconds.
        upscale_delay_s, downscale_delay_s: For how long, in seconds, the wish must last.
        downscale_to_zero_delay_s: The same for the last replica; None is `downscale_delay_s`.
        upscaling_factor, downscaling_factor: Multiply each step; None is 1. The `smoothing` ones are their old names.
    """

    _called = "autoscaling_config"

    min_replicas: int = option(integer(minimum=0, maximum=_MOST_REPLICAS), default=1)
    initial_replicas: int | None = option(integer(minimum=0, maximum=_MOST_REPLICAS), default=None, optional=True)
    max_replicas: int = option(integer(minimum=1, maximum=_MOST_REPLICAS), default=1)
    target_ongoing_requests: float = option(number(positive=True), default=2.0)
    metrics_interval_s: float = option(number(positive=True), default=10.0)
    look_back_period_s: float = option(number(positive=True), default=30.0)
    smoothing_factor: float = option(number(positive=True), default=1.0)
    upscale_smoothing_factor: float | None = option(number(positive=True), default=None, optional=True)
    downscale_smoothing_factor: float | None = option(number(positive=True), default=None, optional=True)
    upscaling_factor: float | None = option(number(positive=True), default=None, optional=True)
    downscaling_factor: float | None = option(number(positive=True), default=None, optional=True)
    upscale_delay_s: float = option(number(positive=False), default=30.0)
    downscale_delay_s: float = option(number(positive=False), default=600.0)
    downscale_to_zero_delay_s: float | None = option(number(positive=False), default=None, optional=True)
    aggregation_function: AggregationFunction = option(choice(AggregationFunction), default=AggregationFunction.MEAN)
    policy: AutoscalingPolicy = option(_policy, default=AutoscalingPolicy)

    def _check_together(self) -> None:
        low, first, high = self.min_replicas, self.initial_replicas, self.max_replicas
        if low > high:
            raise _validate.invalid(
                "min_replicas",
                f"autoscaling_config.min_replicas ({low}) must be at most max_replicas ({high}); raise max_replicas",
                low,
            )
        if first is not None and not low <= first <= high:
            raise _validate.invalid(
                "initial_replicas",
                f"autoscaling_config.initial_replicas ({first}) must be from min_replicas ({low}) to max_replicas "
                f"({high})",
                first,
            )
        if self.look_back_period_s <= self.metrics_interval_s:
            warnings.warn(
                f"autoscaling_config.look_back_period_s ({self.look_back_period_s:g}) is at most metrics_interval_s "
                f"({self.metrics_interval_s:g}), so each decision rests on one measurement at most; give a longer one",
                FutureWarning,
                stacklevel=users_stacklevel(),
            )

    def get_upscaling_factor(self) -> float:
        """The factor of steps up, under whichever of its names it is stated."""
        return self._factor(self.upscaling_factor, self.upscale_smoothing_factor)

    def get_downscaling_factor(self) -> float:
        """The same of steps down."""
        return self._factor(self.downscaling_factor, self.downscale_smoothing_factor)

    def get_target_ongoing_requests(self) -> float:
        """Requests that are aimed at for each replica."""
        return self.target_ongoing_requests

    def _factor(self, factor: float | None, old: float | None) -> float:
        return next((one for one in (factor, old) if one is not None), self.smoothing_factor)

    @property
    def first(self) -> int:
        """Where the number of replicas begins; what has none at first counts as one where a number is needed."""
        first = self.min_replicas if self.initial_replicas is None else self.initial_replicas
        return max(first, 1)

    @classmethod
    def automatic(cls, over: Any) -> AutoscalingConfig:
        """What `num_replicas="auto"` means: 1 to 100 replicas, over which goes what the user set."""
        if isinstance(over, cls):
            given = {name: getattr(over, name) for name in over.model_fields_set}
        elif isinstance(over, dict):
            given = _old_names.today(cls._called, over)
        else:
            given = {} if over is None else cls.model_validate(over).model_dump()
        return cls.model_validate({"min_replicas": 1, "max_replicas": 100, "target_ongoing_requests": 2.0, **given})


@dataclass
class AutoscalingContext:
    """What a policy is asked with. Times are of the wall clock, in seconds.

    Attributes:
        deployment_id, deployment_name, app_name: Who it is about.
        current_num_replicas, target_num_replicas: Replicas that serve, and that shall, as the last decision had it.
        running_replicas: The ids of those that serve.
        total_num_requests, total_queued_requests: Requests that run or wait, and those that wait, over
            `look_back_period_s` by `aggregation_function`.
        aggregated_metrics, raw_metrics: What `record_autoscaling_stats` of replicas said, by name and `ReplicaID`: one
            value over the same time, and all of it.
        capacity_adjusted_min_replicas, capacity_adjusted_max_replicas: The bounds, at the present `target_capacity`.
        policy_state: What the policy returned beside its last number.
        last_scale_up_time, last_scale_down_time, current_time: None: there was none yet.
        config: The `autoscaling_config` of the deployment.
    """

    deployment_id: Any = None
    deployment_name: str = ""
    app_name: str = ""
    current_num_replicas: int = 0
    target_num_replicas: int = 0
    running_replicas: list[Any] = field(default_factory=list)
    total_num_requests: float = 0.0
    total_queued_requests: float = 0.0
    aggregated_metrics: dict[str, dict[Any, float]] = field(default_factory=dict)
    raw_metrics: dict[str, dict[Any, list[Any]]] = field(default_factory=dict)
    capacity_adjusted_min_replicas: int = 0
    capacity_adjusted_max_replicas: int = 0
    policy_state: dict[str, Any] = field(default_factory=dict)
    last_scale_up_time: float | None = None
    last_scale_down_time: float | None = None
    current_time: float | None = None
    config: AutoscalingConfig | None = None

    @property
    def total_running_requests(self) -> float:
        """Requests that replicas have."""
        return max(0.0, self.total_num_requests - (self.total_queued_requests or 0.0))
