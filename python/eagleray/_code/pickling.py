"""Pickles a deployment's callable and arguments for its replicas.

cloudpickle with one rule more: a class or function that an imported module defines under `@serve.deployment` goes by
reference, since the name in the module now belongs to the `Deployment` around it and cloudpickle would not find it.
"""

from __future__ import annotations

import importlib
import inspect
import io
import sys
from typing import Any

import cloudpickle

from eagleray.serve.deployment import Deployment


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined, unused-ignore]
    def reducer_override(self, obj: Any) -> Any:
        if inspect.isclass(obj) or inspect.isfunction(obj):
            module_name = getattr(obj, "__module__", None)
            if module_name != "__main__" and _is_decorated(obj, module_name):
                return undecorated, (module_name, obj.__qualname__)
        return super().reducer_override(obj)


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
