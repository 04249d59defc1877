"""What a policy is called: an import path where it has one, else its pickle.

A path is looked up when the application is deployed, so that a name that leads nowhere is refused there, and so that
the module is part of the captured code. What `__main__` or a function holds has no path that another process could
follow; it goes by value.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from eagleray.serve._autoscaling_config import AutoscalingPolicy


def stated(policy: AutoscalingPolicy) -> tuple[dict[str, Any], bytes]:
    """What is sent of a policy, and its pickle where it has no import path.

    Raises:
        ValueError: the path leads nowhere, to nothing that can be called, or it cannot be pickled.
    """
    function, kwargs = policy.policy_function, policy.policy_kwargs
    if isinstance(function, str):
        found(function)
        return {"policy_function": _ours(function), "policy_kwargs": kwargs}, b""
    path = f"{function.__module__}:{getattr(function, '__qualname__', type(function).__qualname__)}"
    if function.__module__ != "__main__" and _leads_to(path, function):
        return {"policy_function": path, "policy_kwargs": kwargs}, b""
    from eagleray._code import pickling
    from eagleray._code.identity import Unhashable, identify

    try:
        pickled = pickling.dumps(function)
    except Exception as error:
        raise ValueError(
            f"policy_function {path} cannot be pickled, and it runs in a process of its own: {error}"
        ) from None
    try:
        identity = identify((function, (), {})).digest
    except Unhashable:
        identity = os.urandom(16).hex()
    return {"policy_function": path, "policy_kwargs": kwargs, "identity": identity}, pickled


def found(path: str) -> Any:
    """What an import path names.

    Raises:
        ValueError: it leads nowhere, or to what cannot be called.
    """
    path = _ours(path)
    module_name, colon, attribute = path.partition(":")
    if not colon:
        module_name, _, attribute = path.rpartition(".")
    try:
        value = importlib.import_module(module_name)
        for name in attribute.split("."):
            value = getattr(value, name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"policy_function {path!r} cannot be found: {error}") from None
    if not callable(value):
        raise ValueError(f"policy_function {path!r} is {value!r}, which cannot be called")
    return value


def _ours(path: str) -> str:
    """The default and other policies of Ray Serve are here by the same names."""
    return f"eagle{path}" if path.startswith("ray.serve.") else path


def _leads_to(path: str, function: Any) -> bool:
    module_name, _, attribute = path.partition(":")
    value: Any = sys.modules.get(module_name)
    for name in attribute.split("."):
        value = getattr(value, name, None)
    return value is function
