"""A copy of an ASGI application, made when a class is decorated with it.

The copy goes to the replicas, so it is made by pickling: what cannot be pickled is found here, at the user's line. Its
structure is copied (routes, middleware, state, and functions made by other functions, whose cells refer to the
application); plain functions, classes and modules stay themselves, so that the copy and the class around it share
their globals.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import threading
import types
from collections.abc import Collection
from typing import Any

import cloudpickle

_LOCK = type(threading.Lock())


def copy(app: Any, shared: Collection[Any]) -> Any:
    """A copy that has the functions in `shared`, and every function without cells, in common with `app`.

    Raises:
        TypeError: part of `app` cannot be pickled.
    """
    _teach_pickle()
    kept: list[Any] = []
    file = io.BytesIO()
    try:
        _Pickler(file, kept, {id(function) for function in shared}).dump(app)
        file.seek(0)
        return _Unpickler(file, kept).load()
    except Exception as error:
        raise TypeError(
            f"the ASGI application ({type(app).__name__}) cannot be copied for the replicas: {error}\nMake it there "
            "instead: pass serve.ingress a function without parameters that returns it"
        ) from error


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self, file: io.BytesIO, kept: list[Any], shared: set[int]) -> None:
        super().__init__(file, protocol=5)
        self._kept = kept
        self._shared = shared

    def persistent_id(self, value: Any) -> int | None:
        if isinstance(value, types.FunctionType):
            if value.__closure__ and id(value) not in self._shared:
                return None
        elif not isinstance(value, (type, types.ModuleType)):
            return None
        self._kept.append(value)
        return len(self._kept) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, kept: list[Any]) -> None:
        super().__init__(file)
        self._kept = kept

    def persistent_load(self, number: Any) -> Any:
        return self._kept[number]


def _teach_pickle() -> None:
    """Objects of Starlette and FastAPI that do not pickle by themselves, although nothing in them is bound to here."""
    datastructures = sys.modules.get("starlette.datastructures")
    if datastructures is not None:
        # Its __getattr__ never ends on an object that has no attributes yet, which is how unpickling begins.
        copyreg.pickle(datastructures.State, _reduce_state)
    routing = sys.modules.get("fastapi.routing")
    included = getattr(routing, "_IncludedRouter", None)
    if isinstance(included, type):
        # It has a lock, for what it computes from the rest.
        copyreg.pickle(included, _reduce_without_locks)


def _reduce_state(state: Any) -> tuple[Any, ...]:
    return type(state), (dict(state._state),)


def _reduce_without_locks(value: Any) -> tuple[Any, ...]:
    names = tuple(name for name, item in vars(value).items() if isinstance(item, _LOCK))
    rest = {name: item for name, item in vars(value).items() if name not in names}
    return _with_locks, (type(value), names), rest


def _with_locks(kind: type, names: tuple[str, ...]) -> Any:
    made: Any = object.__new__(kind)
    for name in names:
        made.__dict__[name] = threading.Lock()
    return made
