"""Pickles a deployment's callable and arguments for its replicas.

cloudpickle with these rules more. A class or function that an imported module defines under `@serve.deployment` goes by
reference, since the name in the module now belongs to the `Deployment` around it and cloudpickle would not find it. A
context variable or a lock, which has no pickle, goes as its name in the imported module that has it, so that both sides
of a `from module import name` share it; a context variable of the script is made anew, with its name and default.

The ASGI application of a class under `@serve.ingress` goes as it was when the class was decorated (`ingress_of`), with
its locks as new and open ones, and with the names that the user's modules have for it and its parts.

A function that an installed package made inside one of its own goes as a place in the package's code (`inner`).

A class that goes by value keeps its qualified name, which cloudpickle drops: `@serve.ingress` knows methods by it. The
kinds of objects that pickle has wrong are in `kinds`.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import inspect
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from eagleray._code import inner, kinds
from eagleray._code.places import is_user_file
from eagleray.serve._freeze import LOCKS, Snapshot, new_lock, teach_pickle
from eagleray.serve.deployment import Deployment

NAMEABLE = (contextvars.ContextVar, *LOCKS)
"""Types without a pickle whose objects are known by where they are."""


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self, file: io.BytesIO, buffer_callback: Callable[[Any], Any] | None, *, with_text: bool) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._sources = kinds.Sources(with_text=with_text)

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.CodeType):
            return self._sources.reduce(obj, self.dispatch_table[types.CodeType](obj))
        if inspect.isclass(obj) or inspect.isfunction(obj):
            module_name = getattr(obj, "__module__", None)
            if module_name != "__main__" and _is_decorated(obj, module_name):
                return undecorated, (module_name, obj.__qualname__)
            if isinstance(obj, types.FunctionType) and (place := inner.place_of(obj)) is not None:
                return inner.reduce(obj, place)
        if isinstance(obj, NAMEABLE):
            named = reduce_nameable(obj)
            return new_lock(obj) if named is NotImplemented and id(obj) in _locks.get() else named
        # By its name: its module needs asyncio, which a script without ASGI application does not load for this.
        if type(obj).__qualname__ == "Ingress" and isinstance(getattr(obj, "snapshot", None), Snapshot):
            make, arguments, state = obj.__reduce_ex__(5)[:3]
            return make, arguments, {**state, "names": _names_of(obj.snapshot)}
        reduced = kinds.reduce(obj)
        if reduced is not NotImplemented:
            return reduced
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


_locks: contextvars.ContextVar[frozenset[int]] = contextvars.ContextVar(
    "locks of ASGI applications", default=frozenset()
)


@contextlib.contextmanager
def as_decorated(func_or_class: Any) -> Iterator[None]:
    """While it lasts, the ASGI application of a class is as it was when the class was decorated, and can be sent."""
    bases = reversed(func_or_class.__mro__) if inspect.isclass(func_or_class) else ()
    ingresses = [vars(base)["_eagleray_ingress"] for base in bases if "_eagleray_ingress" in vars(base)]
    locks = {id(lock) for one in ingresses if one.snapshot is not None for lock in one.snapshot.locks}
    token = _locks.set(_locks.get() | locks)
    try:
        with contextlib.ExitStack() as stack:
            for one in ingresses:
                if one.snapshot is not None:
                    stack.enter_context(one.snapshot.in_place())
            yield
    finally:
        _locks.reset(token)


def _names_of(snapshot: Snapshot) -> tuple[tuple[str, str, Any], ...]:
    """The names that the user's imported modules have for the application and its parts."""
    parts = {id(part): part for part in snapshot.parts}
    return tuple(
        (name, attribute, parts[id(value)])
        for name, module in list(sys.modules.items())
        if _is_of_the_user(name, module)
        for attribute, value in list(vars(module).items())
        if id(value) in parts
    )


def _is_of_the_user(name: str, module: Any) -> bool:
    path = getattr(module, "__file__", None) if isinstance(module, types.ModuleType) else None
    return name != "__main__" and isinstance(path, str) and is_user_file(path)


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


def dumps(
    value: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None, *, with_text: bool = True
) -> bytes:
    """The pickle of `value`, as every process loads it with the standard library's `pickle.loads`.

    Args:
        value: What to pickle.
        buffer_callback: Takes out-of-band buffers; None: everything is in band.
        with_text: Whether the text of the files that code by value is from goes along, for tracebacks.

    Raises:
        Exception: what the value's own pickling raised; mostly TypeError or `pickle.PicklingError`.
    """
    teach_pickle()
    with io.BytesIO() as file:
        _Pickler(file, buffer_callback, with_text=with_text).dump(value)
        return file.getvalue()
