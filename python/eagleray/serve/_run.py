"""`serve.run` and `serve.run_many`: from bound applications to handles of what runs.

Everything is checked before anything is sent, and all of `run_many` before the first of them is.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eagleray._runtime import in_replica
from eagleray._shortened import shortened
from eagleray.serve import _validate
from eagleray.serve.config import ControllerOptions
from eagleray.serve.context import building
from eagleray.serve.deployment import Application, Deployment
from eagleray.serve.exceptions import RayServeException
from eagleray.serve.schema import LoggingConfig

if TYPE_CHECKING:
    from eagleray.serve.handle import DeploymentHandle

_warned_ignored = False


@dataclass(frozen=True)
class RunTarget:
    """One application for `serve.run_many`, with what `serve.run` takes for one."""

    target: Application
    name: str = "default"
    route_prefix: str | None = "/"
    logging_config: LoggingConfig | dict[str, Any] | None = None
    external_scaler_enabled: bool = False


@dataclass(frozen=True)
class Wanted:
    """A target that was checked. `route_prefix` is empty for an application that HTTP does not reach."""

    application: Application
    name: str
    route_prefix: str
    logging_config: LoggingConfig | None
    external_scaler_enabled: bool = False


@shortened
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
    **unknown: Any,
) -> DeploymentHandle:
    """Deploys an application, waits until it runs and returns a handle to its ingress.

    Joins the user's resident node (`eagleray start`) if there is one; else this process's own, which ends with it.
    Deployments that did not change keep their replicas. With `blocking`, sleeps until Ctrl-C afterwards.
    `logging_config` is for deployments that have none.

    With `local_testing_mode` (or `_local_testing_mode`, or EAGLERAY_SERVE_FORCE_LOCAL_TESTING_MODE=1) everything runs
    in threads of this process, and nothing listens: for unit tests and debuggers. See `eagleray.testing`.

    Raises:
        TypeError: `target` is not an `Application`, an argument cannot be pickled, or there is no option of a name.
        ValueError: the route prefix is malformed, or an option is not available yet.
        RayServeException: the name or the prefix is not free.
        RuntimeError: the application failed to deploy, with the remote traceback; or the node did not start.
        Exception: in local testing mode, what a constructor raised.
    """
    for key in unknown:
        known = ("blocking", "name", "route_prefix", "logging_config", "local_testing_mode")
        raise TypeError(f"serve.run() has no option {key!r}{_validate.hint('serve.run()', key, known)}")
    wanted = checked(RunTarget(target, name, route_prefix, logging_config, external_scaler_enabled))
    check_controller_options(controller_options)
    return _run(
        [wanted], blocking=blocking, wait=True, here=_local_testing_mode or local_testing_mode or local_forced()
    )[0]


@shortened
def run_many(
    targets: Sequence[RunTarget],
    blocking: bool = False,
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
    controller_options: Any = None,
) -> list[DeploymentHandle]:
    """Deploys several applications at once and returns handles to their ingresses, in the order of `targets`.

    All are checked before the first is sent, and sent before the first is waited for, so they start side by side.

    Args:
        targets: The applications, each with a name and a route prefix of its own.
        blocking: Sleep until Ctrl-C afterwards.
        wait_for_ingress_deployment_creation: Holds in any case: deployments exist when the controller has answered.
        wait_for_applications_running: Wait until all run. Without it an application that fails to start shows in
            `serve.status()` only.
        _local_testing_mode: As for `serve.run`.
        controller_options: As for `serve.run`.

    Raises:
        ValueError: there are no targets, or as for `serve.run`.
        RayServeException: two targets have one name or one route prefix, or another application has it.
        TypeError: something is not a `RunTarget`, or as for `serve.run`.
        RuntimeError: applications failed to deploy, with the remote tracebacks; those that did not fail run.
    """
    del wait_for_ingress_deployment_creation
    given: list[Any] = list(targets)
    if not given:
        raise ValueError("serve.run_many() needs one RunTarget at least, got an empty list")
    for target in given:
        if not isinstance(target, RunTarget):
            hint = ": wrap it, serve.RunTarget(app, name=..., route_prefix=...)"
            raise TypeError(
                f"serve.run_many() takes RunTarget objects, got {type(target).__name__}"
                f"{hint if isinstance(target, Application) else ''}"
            )
    wanted = [checked(target) for target in given]
    check_controller_options(controller_options)
    _check_apart(wanted)
    here = _local_testing_mode or local_forced()
    return _run(wanted, blocking=blocking, wait=wait_for_applications_running, here=here)


def _run(wanted: list[Wanted], *, blocking: bool, wait: bool, here: bool) -> list[DeploymentHandle]:
    from eagleray.serve.handle import DeploymentHandle

    if ignored_here():
        return [DeploymentHandle(one.application._bound_deployment.name, one.name) for one in wanted]
    if here:
        from eagleray import _local

        handles = [_local.run(one.application, name=one.name, route_prefix=one.route_prefix) for one in wanted]
        if blocking:
            threading.Event().wait()
        return handles
    from eagleray import _driver

    try:
        handles = _driver.deploy(wanted, wait=wait)
        if blocking:
            _driver.block()
    except KeyboardInterrupt as stop:
        # Ctrl-C is an ordinary end: Python shows the line of the script, not where we slept.
        raise stop.with_traceback(None) from None
    return handles


def checked(target: RunTarget) -> Wanted:
    """Refuses a target that is none, or has a name, a prefix or options that cannot be."""
    _check_target(target.target)
    check_name(target.name)
    prefix = _check_route_prefix(target.route_prefix)
    logging_config = None if target.logging_config is None else LoggingConfig.take(target.logging_config)
    if not isinstance(target.external_scaler_enabled, bool):
        raise _validate.invalid(
            "external_scaler_enabled",
            f"external_scaler_enabled must be True or False, got {target.external_scaler_enabled!r}",
            target.external_scaler_enabled,
        )
    return Wanted(target.target, target.name, prefix, logging_config, target.external_scaler_enabled)


def _check_apart(wanted: list[Wanted]) -> None:
    for what, values in (
        ("name", [one.name for one in wanted]),
        ("route_prefix", [one.route_prefix for one in wanted if one.route_prefix]),
    ):
        for value in values:
            if values.count(value) > 1:
                raise RayServeException(
                    f"two targets of serve.run_many() have the {what} {value!r}; nothing was deployed, give each one "
                    "of its own"
                )


def check_controller_options(value: Any) -> None:
    """Refuses what is none, and environment variables, which nobody would read."""
    if value is None:
        return
    if not isinstance(value, (ControllerOptions, dict)):
        raise TypeError(f"controller_options must be ControllerOptions or a dict, got {type(value).__name__}")
    if ControllerOptions.model_validate(value).runtime_env.get("env_vars"):
        raise _validate.not_available(
            "controller_options", "the controller is a native process; set variables where the node is started"
        )


def _check_target(target: Any) -> None:
    if isinstance(target, Application):
        return
    hint = ""
    if isinstance(target, Deployment):
        hint = f": call .bind() on it, serve.run({target.name}.bind())"
    raise TypeError(f"serve.run() takes the Application that .bind() returns, got {type(target).__name__}{hint}")


def check_name(name: Any) -> None:
    """Refuses names that applications cannot have."""
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


def local_forced() -> bool:
    """Whether the environment asks for local testing mode."""
    return os.environ.get("EAGLERAY_SERVE_FORCE_LOCAL_TESTING_MODE") == "1"


def ignored_here() -> bool:
    """Whether this module-level call runs in a replica or in the build step, where it would recurse; warns once."""
    global _warned_ignored  # noqa: PLW0603 - one warning for a process
    if not in_replica() and not building():
        return False
    if not _warned_ignored:
        _warned_ignored = True
        from eagleray.serve._log import logger

        where = "the build step" if building() else "a replica"
        logger().warning(
            "serve.run and its kin are ignored in %s, which imported this file for its definitions; "
            'put the call under `if __name__ == "__main__":`',
            where,
        )
    return True
