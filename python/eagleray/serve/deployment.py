"""`@serve.deployment`, and what it makes: a `Deployment`, and by `bind` an `Application`.

Options are checked where they are written, all of them, so that a mistake is one line in the user's own file. An
option of Ray Serve that is not there yet is refused by name: nothing is ignored in silence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, overload

from eagleray.serve import _validate
from eagleray.serve.config import BackpressureConfig
from eagleray.serve.schema import LoggingConfig

__all__ = ["Application", "Deployment", "deployment"]


class _Unset:
    """Marks an option that was not given, so that None is a value."""

    def __repr__(self) -> str:
        return "<not given>"

    def __bool__(self) -> bool:
        return False


_UNSET: Any = _Unset()

_NOT_YET = (
    "autoscaling_config", "deployment_actors", "gang_scheduling_config", "max_replicas_per_node",
    "max_surge_percent", "placement_group_bundle_label_selector", "placement_group_bundles",
    "placement_group_strategy", "request_router_config", "rolling_update_percentage",
)  # fmt: skip

_ACTOR_OPTIONS = (
    "accelerator_type", "fallback_strategy", "label_selector", "memory", "num_cpus", "num_gpus", "resources",
    "runtime_env",
)  # fmt: skip

DEFAULT_MAX_BODY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class DeploymentConfig:
    """The options of a deployment, checked."""

    num_replicas: int = 1
    max_ongoing_requests: int = 5
    max_queued_requests: int = -1
    backpressure_config: BackpressureConfig = field(default_factory=BackpressureConfig)
    user_config: Any = None
    graceful_shutdown_wait_loop_s: float = 2.0
    graceful_shutdown_timeout_s: float = 20.0
    health_check_period_s: float = 10.0
    health_check_timeout_s: float = 30.0
    hang_timeout_s: float | None = 300.0
    max_constructor_retry_count: int = 20
    ray_actor_options: dict[str, Any] = field(default_factory=dict)
    logging_config: LoggingConfig | None = None

    @property
    def resources(self) -> dict[str, float]:
        """What a replica reserves, by name."""
        options = self.ray_actor_options
        named = {key: float(options[key]) for key in ("num_cpus", "memory") if options.get(key)}
        return {**named, **{key: float(value) for key, value in (options.get("resources") or {}).items()}}

    @property
    def env_vars(self) -> dict[str, str]:
        """Environment variables of the replicas."""
        return dict((self.ray_actor_options.get("runtime_env") or {}).get("env_vars") or {})


def _num_replicas(value: Any) -> int:
    if value is None:
        return 1
    if value == "auto":
        raise _validate.not_available('num_replicas="auto"', "state a number")
    if isinstance(value, str):
        raise ValueError(f'num_replicas must be a number of at least 1 or "auto", got {value!r}')
    return _validate.integer("num_replicas", value, minimum=1)


def _max_ongoing_requests(value: Any) -> int:
    if value is None:
        raise ValueError("max_ongoing_requests must be an integer of at least 1, got None")
    return _validate.integer("max_ongoing_requests", value, minimum=1)


def _max_queued_requests(value: Any) -> int:
    number = _validate.integer("max_queued_requests", value, minimum=-1)
    if number == 0:
        raise ValueError("max_queued_requests must be -1 (no limit) or at least 1, got 0")
    return number


def _user_config(value: Any) -> Any:
    if value is not None:
        _validate.to_json("user_config", value)
    return value


def _ray_actor_options(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"ray_actor_options must be a dict, got {type(value).__name__}")
    _validate.unknown_keys("ray_actor_options", value, _ACTOR_OPTIONS)
    for key in ("num_cpus", "num_gpus", "memory"):
        if value.get(key) is not None:
            _validate.quantity(f"ray_actor_options.{key}", value[key])
    if value.get("num_gpus"):
        raise _validate.not_available("ray_actor_options.num_gpus above 0")
    for key in ("accelerator_type", "fallback_strategy", "label_selector"):
        if value.get(key):
            raise _validate.not_available(f"ray_actor_options.{key}")
    resources = value.get("resources") or {}
    if not isinstance(resources, dict):
        raise TypeError(f"ray_actor_options.resources must be a dict, got {type(resources).__name__}")
    for key, number in resources.items():
        _validate.quantity(f"ray_actor_options.resources[{key!r}]", number)
    _runtime_env(value.get("runtime_env") or {})
    return dict(value)


def _runtime_env(value: Any) -> None:
    if not isinstance(value, dict):
        raise TypeError(f"ray_actor_options.runtime_env must be a dict, got {type(value).__name__}")
    for key, given in value.items():
        if key != "env_vars" and given:
            raise _validate.not_available(
                f"ray_actor_options.runtime_env[{key!r}]",
                "only env_vars is; replicas run in the driver's working directory and Python",
            )
    variables = value.get("env_vars") or {}
    if not isinstance(variables, dict):
        raise TypeError(f"ray_actor_options.runtime_env['env_vars'] must be a dict, got {type(variables).__name__}")
    for key, text in variables.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"ray_actor_options.runtime_env['env_vars'] takes strings only, got {key!r}: {text!r}")
        if not key or "=" in key or "\0" in key + text or key.startswith("EAGLERAY_"):
            raise ValueError(f"ray_actor_options.runtime_env['env_vars'] cannot set {key!r}")


def _seconds(name: str, *, positive: bool) -> Callable[[Any], float]:
    return lambda value: _validate.seconds(name, value, positive=positive)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "num_replicas": _num_replicas,
    "max_ongoing_requests": _max_ongoing_requests,
    "max_queued_requests": _max_queued_requests,
    "backpressure_config": BackpressureConfig._take,
    "user_config": _user_config,
    "graceful_shutdown_wait_loop_s": _seconds("graceful_shutdown_wait_loop_s", positive=False),
    "graceful_shutdown_timeout_s": _seconds("graceful_shutdown_timeout_s", positive=False),
    "health_check_period_s": _seconds("health_check_period_s", positive=True),
    "health_check_timeout_s": _seconds("health_check_timeout_s", positive=True),
    "hang_timeout_s": lambda value: (
        None if value is None else _validate.seconds("hang_timeout_s", value, positive=True)
    ),
    "max_constructor_retry_count": lambda value: _validate.integer("max_constructor_retry_count", value, minimum=1),
    "ray_actor_options": _ray_actor_options,
    "logging_config": lambda value: None if value is None else LoggingConfig._take(value),
}


def _configure(base: DeploymentConfig, given: dict[str, Any]) -> DeploymentConfig:
    changes: dict[str, Any] = {}
    for key, value in given.items():
        if value is _UNSET:
            continue
        if key == "version":
            raise ValueError("version is no option: a deployment's version follows from its code and arguments")
        if key in _NOT_YET:
            if value is not None:
                raise _validate.not_available(f"{key} of a deployment")
            continue
        if key not in _CHECKS:
            import difflib

            near = difflib.get_close_matches(key, [*_CHECKS, "name"], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"serve.deployment has no option {key!r}{hint}")
        changes[key] = _CHECKS[key](value)
    return replace(base, **changes)


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
        from eagleray._driver.build import reduce_application

        return reduce_application(self)

    def __repr__(self) -> str:
        return f"Application(name={self._bound_deployment.name})"


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
        """How many replicas run."""
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

    def set_logging_config(self, logging_config: Any) -> None:
        """Replaces `logging_config`."""
        self._config = replace(self._config, logging_config=LoggingConfig._take(logging_config))

    def options(self, func_or_class: Any = None, **options: Any) -> Deployment:
        """A copy with the options given here; what is not given stays as it is."""
        name = options.pop("name", _UNSET)
        target = self._func_or_class if func_or_class is None else _target(func_or_class)
        return Deployment(
            self._name if name is _UNSET else _name(name),
            target,
            _configure(self._config, options),
            _internal=True,
        )

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
    max_constructor_retry_count: int = ...,
    ray_actor_options: dict[str, Any] | None = ...,
    logging_config: LoggingConfig | dict[str, Any] | None = ...,
) -> Callable[[Callable[..., Any]], Deployment]: ...
def deployment(_func_or_class: Any = None, /, **options: Any) -> Any:
    """Makes a class or function a deployment.

    Usable bare and with options::

        @serve.deployment(num_replicas=2, max_ongoing_requests=10)
        class Model:
            def __init__(self, path): ...
            async def __call__(self, request): ...

    One option is Eagleray's own: `hang_timeout_s` (300; None: never). An async method that blocks its event loop stops
    everything in its replica. After one second requests go to other replicas while there are any, and `serve.status()`
    shows where it stands; after `hang_timeout_s` without a turn of the loop the replica is killed and replaced. Sync
    methods, which run in threads, constructors and `reconfigure` take as long as they need.

    Raises:
        TypeError: what is decorated is neither a class nor a function, an option has the wrong type or is not known.
        ValueError: the value of an option is out of range, or the option is not available yet.
    """
    name = options.pop("name", _UNSET)
    checked_name = None if name is _UNSET or name is None else _name(name)
    config = _configure(DeploymentConfig(), options)

    def decorate(target: Any) -> Deployment:
        return Deployment(checked_name or _target(target).__name__, _target(target), config, _internal=True)

    return decorate if _func_or_class is None else decorate(_func_or_class)
