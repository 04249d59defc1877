"""The hooks of user code: metadata, reconfigure, check_health. Replicas run them, and so does local testing mode.

`record_autoscaling_stats` and `record_routing_stats` are not called yet: policies do without, and routers of users
come later. Whoever deploys a class that has one is told so (`_driver/engine.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from eagleray import _user_config, _values
from eagleray._user_code import children, pool
from eagleray._user_code.deployed import UserCode, is_async


async def run(hook: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """An async hook on the loop, a sync one in a thread: requests go on meanwhile."""
    result = hook(*args, **kwargs) if is_async(hook) else await pool.in_thread(hook, *args, **kwargs)
    if inspect.isawaitable(result):
        result = await result
    children.end_if_came_back()
    return result


async def apply_user_config(user_code: UserCode, user_config: str, rank: Any) -> None:
    """Runs `reconfigure` with a `user_config`, given as text; empty for none, which only a `rank` parameter asks for.

    Raises:
        ValueError: there is a `user_config`, and a function was deployed.
        RayServeException: there is one, and the class has no `reconfigure`.
    """
    value = _user_config.decode(user_config)
    hook = user_code.hook("reconfigure")
    if hook is None:
        if value is not None:
            raise _nothing_to_configure(user_code)
        return
    with_rank = wants_rank(user_code)
    if value is None and not with_rank:
        return
    await run(hook, value, **({"rank": rank} if with_rank else {}))


def wants_rank(user_code: UserCode) -> bool:
    """Whether `reconfigure` has a parameter named `rank`."""
    hook = user_code.hook("reconfigure")
    return hook is not None and "rank" in inspect.signature(hook).parameters


def _nothing_to_configure(user_code: UserCode) -> Exception:
    if user_code.is_function:
        return ValueError("user_config is set, but a function has no reconfigure method; deploy a class, or drop it")
    from eagleray.serve.exceptions import RayServeException

    return RayServeException(
        f"user_config is set, but class {type(user_code.target).__name__} has no reconfigure method; "
        "add `def reconfigure(self, user_config)` to the class, or drop user_config"
    )


def without_destructor(instance: Any) -> None:
    """Gives the instance a class without `__del__`, so that the collector does not run it (again)."""
    kind: Any = type(instance)
    try:
        instance.__class__ = type(kind)(kind.__name__, (kind,), {"__slots__": (), "__del__": lambda _: None})
    except TypeError:
        pass  # of a class with a layout of its own


async def record_replica_metadata(user_code: UserCode) -> dict[str, Any]:
    """Runs `record_replica_metadata`, if there is one. Callers see a copy of what it returned, in `choose_replica`.

    Raises:
        TypeError: it returned neither a dict nor None, or what cannot be pickled.
    """
    hook = user_code.hook("record_replica_metadata")
    metadata = None if hook is None else await run(hook)
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise TypeError(f"record_replica_metadata must return a dict or None, got {type(metadata).__name__}")
    try:
        copy: dict[str, Any] = _values.load(_values.dump(metadata))
    except Exception as error:
        raise TypeError(
            f"what record_replica_metadata returned cannot be pickled, and callers are in other processes: {error}"
        ) from None
    return copy


async def check_health(user_code: UserCode) -> None:
    """Runs `check_health`, if there is one. Raises what it raises."""
    hook = user_code.hook("check_health")
    if hook is not None:
        await run(hook)
