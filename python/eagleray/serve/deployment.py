"""`@serve.deployment`, and what it makes: a `Deployment`, and by `bind` an `Application`.

Options are checked where they are written, by `_options`.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, overload

from eagleray._shortened import shortened
from eagleray.serve import _old_names
from eagleray.serve._autoscaling_config import AutoscalingConfig
from eagleray.serve._deployment_config import (
    BackpressureConfig,
    DeploymentActorConfig,
    GangSchedulingConfig,
    RequestRouterConfig,
)
from eagleray.serve._options import UNSET, DeploymentConfig, configure
from eagleray.serve.schema import LoggingConfig

__all__ = ["Application", "Deployment", "deployment"]


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the name of a deployment must be a string, got {type(value).__name__}")
    if not value or "#" in value or "/" in value or not value.isprintable():
        raise ValueError(f"the name of a deployment must be printable, without '#' and '/', got {value!r}")
    return value


class Application:
    """One or more deployments bound to their arguments: what `serve.run` takes. Made by `Deployment.bind`."""

    def __init__(self, bound_deployment: Deployment, init_args: tuple[Any, ...], init_kwargs: dict[str, Any]) -> None:
        self._bound_deployment = bound_deployment
        self._init_args = init_args
        self._init_kwargs = init_kwargs

    def __reduce__(self) -> tuple[Any, ...]:
        make = _pickled_as.make
        if make is None:
            raise TypeError(f"{self!r} cannot be pickled; pass it to bind() of another deployment, or to serve.run()")
        reduced: tuple[Any, ...] = make(self).__reduce__()
        return reduced

    def __repr__(self) -> str:
        return f"Application(name={self._bound_deployment.name})"


class _PickledAs(threading.local):
    make: Callable[[Application], Any] | None = None


_pickled_as = _PickledAs()


@contextlib.contextmanager
def pickled_as(make: Callable[[Application], Any]) -> Iterator[None]:
    """While it lasts, what `make` returns takes the place of each application that this thread pickles."""
    before, _pickled_as.make = _pickled_as.make, make
    try:
        yield
    finally:
        _pickled_as.make = before


class Deployment:
    """A class or function with its serving options. Made by `@serve.deployment`."""

    def __init__(self, name: str, func_or_class: Any, config: DeploymentConfig, *, _internal: bool = False) -> None:
        if not _internal:
            raise RuntimeError("a Deployment is made by @serve.deployment or by Deployment.options, not directly")
        self._name = name
        self._func_or_class = func_or_class
        self._config = config
        if isinstance(getattr(func_or_class, "__doc__", None), str):
            self.__doc__ = func_or_class.__doc__

    @property
    def name(self) -> str:
        """Name, unique within its application."""
        return self._name

    @property
    def version(self) -> str | None:
        """Always None: the version follows from code and arguments, and exists once deployed."""
        return None

    @property
    def func_or_class(self) -> Any:
        """What was decorated."""
        return self._func_or_class

    @property
    def num_replicas(self) -> int:
        """How many replicas run; 1 where that is left to autoscaling."""
        return self._config.num_replicas

    @property
    def max_ongoing_requests(self) -> int:
        """How many requests one replica works on at a time."""
        return self._config.max_ongoing_requests

    @property
    def max_queued_requests(self) -> int:
        """How many requests may wait in one process that sends them; -1 is no limit."""
        return self._config.max_queued_requests

    @property
    def backpressure_config(self) -> BackpressureConfig:
        """What a request beyond `max_queued_requests` is answered."""
        return self._config.backpressure_config

    @property
    def user_config(self) -> Any:
        """Argument of the callable's `reconfigure`."""
        return self._config.user_config

    @property
    def ray_actor_options(self) -> dict[str, Any]:
        """Resources and environment of a replica."""
        return dict(self._config.ray_actor_options)

    @property
    def logging_config(self) -> LoggingConfig | None:
        """How the deployment logs, if it says so."""
        return self._config.logging_config

    @property
    def init_args(self) -> tuple[Any, ...]:
        """Always empty: arguments belong to the `Application` that `bind` returns."""
        return ()

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """Always empty, as `init_args`."""
        return {}

    def __getattr__(self, name: str) -> Any:
        raise _old_names.gone("Deployment", name)

    @shortened
    def set_logging_config(self, logging_config: Any) -> None:
        """Replaces `logging_config`."""
        self._config = replace(self._config, logging_config=LoggingConfig.take(logging_config))

    @shortened
    def options(self, func_or_class: Any = None, **options: Any) -> Deployment:
        """A copy with the options given here; what is not given stays as it is.

        Takes all options of the decorator, with the same checks. Of `num_replicas` and `autoscaling_config` the one
        that is given here replaces the other.
        """
        name = options.pop("name", UNSET)
        target = self._func_or_class if func_or_class is None else _target(func_or_class)
        return Deployment(
            self._name if name is UNSET else _name(name),
            target,
            configure(self._config, options),
            _internal=True,
        )

    @shortened
    def bind(self, *args: Any, **kwargs: Any) -> Application:
        """Binds constructor arguments. Applications among them become handles when the result is deployed."""
        if not inspect.isclass(self._func_or_class) and (args or kwargs):
            raise ValueError(f"deployment {self._name} is a function: bind() takes no arguments for it")
        return Application(self, args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            f"a deployment cannot be called: deploy it with serve.run({self._name}.bind()) and call the handle with "
            f".remote(), or call {self._name}.func_or_class for the plain object"
        )

    def __repr__(self) -> str:
        return f"Deployment(name={self._name})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Deployment):
            return NotImplemented
        return self._name == other._name and self._config == other._config

    def __hash__(self) -> int:
        return hash(self._name)


def _target(value: Any) -> Any:
    if isinstance(value, Deployment):
        raise TypeError(f"{value.name} is a deployment already; use {value.name}.options(...) to change it")
    if not inspect.isclass(value) and not inspect.isfunction(value):
        raise TypeError(f"@serve.deployment goes on a class or a function, got {type(value).__name__}")
    return value


@overload
def deployment(_func_or_class: Callable[..., Any], /) -> Deployment: ...
@overload
def deployment(
    _func_or_class: None = None,
    /,
    *,
    name: str = ...,
    num_replicas: int | str | None = ...,
    max_ongoing_requests: int = ...,
    max_queued_requests: int = ...,
    backpressure_config: BackpressureConfig | dict[str, Any] = ...,
    user_config: Any = ...,
    graceful_shutdown_wait_loop_s: float = ...,
    graceful_shutdown_timeout_s: float = ...,
    health_check_period_s: float = ...,
    health_check_timeout_s: float = ...,
    hang_timeout_s: float | None = ...,
    max_body_bytes: int = ...,
    max_constructor_retry_count: int = ...,
    ray_actor_options: dict[str, Any] | None = ...,
    logging_config: LoggingConfig | dict[str, Any] | None = ...,
    autoscaling_config: AutoscalingConfig | dict[str, Any] | None = ...,
    placement_group_bundles: list[dict[str, float]] | None = ...,
    placement_group_strategy: str | None = ...,
    placement_group_bundle_label_selector: list[dict[str, str]] | None = ...,
    max_replicas_per_node: int | None = ...,
    request_router_config: RequestRouterConfig | dict[str, Any] | None = ...,
    gang_scheduling_config: GangSchedulingConfig | dict[str, Any] | None = ...,
    deployment_actors: list[DeploymentActorConfig | dict[str, Any]] | None = ...,
    rolling_update_percentage: float = ...,
    max_surge_percent: int = ...,
    max_requests_per_replica: int = ...,
    max_rss: int = ...,
    min_ready_s: float = ...,
    start_timeout_s: float = ...,
) -> Callable[[Callable[..., Any]], Deployment]: ...
@shortened
def deployment(_func_or_class: Any = None, /, **options: Any) -> Any:
    """Makes a class or function a deployment.

    Usable bare and with options::

        @serve.deployment(num_replicas=2, max_ongoing_requests=10)
        class Model:
            def __init__(self, path): ...
            async def __call__(self, request): ...

    Three options are Eagleray's own.

    `hang_timeout_s` (300; None: never): an async method that blocks its event loop stops everything in its replica.
    After one second requests go to other replicas while there are any, and `serve.status()` shows where it stands;
    after `hang_timeout_s` without a turn of the loop the replica is killed and replaced. Sync methods, which run in
    threads, constructors and `reconfigure` take as long as they need.

    `max_body_bytes` (64 MiB): a sync method gets the body of a request whole, so a longer one is answered with 413; an
    async method reads it as it comes, and has no such limit.

    `max_requests_per_replica` (0: no limit) is for code that leaks: a replica that has accepted so many requests is
    replaced after its next health check, one replica of the deployment at a time, and drains once the new one serves.
    So is one that has `max_rss` bytes in memory (0: no limit).

    `start_timeout_s` (0: all the time that it needs): a replica that is not ready so long after its start has failed to
    start.

    `min_ready_s` (0): an update counts on a replica of a new version when it has been ready, and well, for so long.
    Until then what ran before stays at full size, and a new replica that is lost has failed to start.

    Raises:
        TypeError: what is decorated is neither a class nor a function, an option has the wrong type or is not known.
        ValueError: the value of an option is out of range, or the option is not available yet.
    """
    name = options.pop("name", UNSET)
    checked_name = None if name is UNSET else _name(name)
    config = configure(DeploymentConfig(), options)

    @shortened
    def decorate(target: Any) -> Deployment:
        return Deployment(checked_name or _target(target).__name__, _target(target), config, _internal=True)

    return decorate if _func_or_class is None else decorate(_func_or_class)
