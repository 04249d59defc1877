"""Pickles a deployment's callable and arguments for its replicas.

cloudpickle with three rules more. A class or function that an imported module defines under `@serve.deployment` goes by
reference, since the name in the module now belongs to the `Deployment` around it and cloudpickle would not find it. A
context variable or a lock, which has no pickle, goes as its name in the imported module that has it, so that both sides
of a `from module import name` share it; a context variable of the script is made anew, with its name and default.

A class that goes by value keeps its qualified name, which cloudpickle drops: `@serve.ingress` knows methods by it.
"""

from __future__ import annotations

import contextvars
import importlib
import inspect
import io
import sys
import threading
from typing import Any

import cloudpickle

from eagleray.serve.deployment import Deployment

NAMEABLE = (contextvars.ContextVar, type(threading.Lock()), type(threading.RLock()))
"""Types without a pickle whose objects are known by where they are."""


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined, unused-ignore]
    def reducer_override(self, obj: Any) -> Any:
        if inspect.isclass(obj) or inspect.isfunction(obj):
            module_name = getattr(obj, "__module__", None)
            if module_name != "__main__" and _is_decorated(obj, module_name):
                return undecorated, (module_name, obj.__qualname__)
        if isinstance(obj, NAMEABLE):
            return reduce_nameable(obj)
        reduced = super().reducer_override(obj)
        if (
            inspect.isclass(obj)
            and isinstance(reduced, tuple)
            and len(reduced) > 2
            and obj.__qualname__ != obj.__name__
        ):
            # Its attributes, as they are set on the class when it is made again.
            reduced[2][0]["__qualname__"] = obj.__qualname__
        return reduced


def reduce_nameable(value: Any) -> Any:
    """A context variable or lock for pickling; NotImplemented: it has no pickle."""
    for name, module in list(sys.modules.items()):
        if name == "__main__":
            continue
        for attribute, found in list(getattr(module, "__dict__", {}).items()):
            if found is value:
                return _attribute, (name, attribute)
    if not isinstance(value, contextvars.ContextVar):
        return NotImplemented
    try:
        return _variable, (value.name, contextvars.Context().run(value.get))
    except LookupError:
        return _variable, (value.name,)


def _attribute(module_name: str, name: str) -> Any:
    return getattr(importlib.import_module(module_name), name)


def _variable(name: str, *default: Any) -> contextvars.ContextVar[Any]:
    return contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar(name)


def _is_decorated(obj: Any, module_name: Any) -> bool:
    found: Any = sys.modules.get(module_name)
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return isinstance(found, Deployment) and found.func_or_class is obj


def undecorated(module_name: str, qualname: str) -> Any:
    """What `@serve.deployment` was put on, in the module of this name."""
    found: Any = importlib.import_module(module_name)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found.func_or_class if isinstance(found, Deployment) else found


def dumps(value: Any) -> bytes:
    """The pickle of `value`, as replicas load it with the standard library's `pickle.loads`."""
    with io.BytesIO() as file:
        _Pickler(file, protocol=5).dump(value)
        return file.getvalue()
