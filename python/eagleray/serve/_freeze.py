"""An ASGI application as it was when a class was decorated with it.

The rule: the application object itself is what is served, so that every name for it (of a module, of the script, in a
cell of a function) is a name for what answers requests, and a constructor that adds a route adds it there. What was
done to it between the decorator and the constructor is not seen: what it is built of (the application, and all of
Starlette and FastAPI in it, each with the lists and dicts that it holds) is put back before. What it merely refers to,
a cache or a registry of metrics, stays as it is, and the same object for everybody.

A snapshot is taken by pickling, so that what cannot go to the replicas is found at the user's line, and so that copies
can be made of it: for a second instance in one process, in local testing mode. In a copy plain functions, classes and
modules stay themselves, and locks are new and open.
"""

from __future__ import annotations

import contextlib
import contextvars
import copyreg
import functools
import io
import pickle
import sys
import threading
import types
from collections.abc import Callable, Collection, Iterator
from typing import Any

import cloudpickle

from eagleray._code import kinds

LOCKS = (type(threading.Lock()), type(threading.RLock()))
_KEPT = (type, types.ModuleType, contextvars.ContextVar, type(functools.lru_cache(len)))
_CONTAINERS = frozenset({dict, list, set})
_FRAMEWORKS = frozenset({"starlette", "fastapi"})


class Snapshot:
    """The state of `app`, which has the functions in `shared`, and every function without cells, in common with copies.

    Attributes:
        locks: The locks in it, which have nothing to say where it goes.
        parts: The application, and the objects of Starlette and FastAPI that it is built of.

    Raises:
        TypeError: part of `app` cannot be pickled.
    """

    def __init__(self, app: Any, shared: Collection[Any]) -> None:
        teach_pickle()
        file = io.BytesIO()
        pickler = _Pickler(file, app, {id(function) for function in shared})
        try:
            pickler.dump(app)
        except Exception as error:
            raise TypeError(
                f"the ASGI application ({type(app).__name__}) cannot be pickled for the replicas: {error}\nMake it "
                "there instead: pass serve.ingress a function without parameters that returns it"
            ) from error
        self.locks = pickler.locks
        self.parts = pickler.parts
        self._data = file.getvalue()
        self._kept = pickler.kept
        self._contents = [(one, _content(one)) for part in self.parts for one in _containers(part)]

    def copy(self) -> Any:
        """An application of its own with this state."""
        return _Unpickler(io.BytesIO(self._data), self._kept).load()

    def put_back(self) -> Callable[[], None]:
        """Gives the application this state; what it returns gives it the state of now again."""
        before = [(one, _content(one)) for one, _ in self._contents]
        _fill(self._contents)
        return lambda: _fill(before)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The application has this state while the context lasts."""
        undo = self.put_back()
        try:
            yield
        finally:
            undo()


def _containers(part: Any) -> Iterator[Any]:
    try:
        attributes = vars(part)
    except TypeError:
        return
    if type(attributes) is dict:
        yield attributes
        yield from (value for value in attributes.values() if type(value) in _CONTAINERS)


def _content(container: Any) -> Any:
    return list(container.items()) if type(container) is dict else list(container)


def _same(container: Any, content: list[Any]) -> bool:
    if len(container) != len(content):
        return False
    if type(container) is dict:
        pairs = zip(container.items(), content, strict=True)
        return all(key is old_key and value is old for (key, value), (old_key, old) in pairs)
    return all(value is old for value, old in zip(container, content, strict=True))


def _fill(contents: list[tuple[Any, list[Any]]]) -> None:
    for container, content in contents:
        if _same(container, content):
            continue  # another thread may look at it
        if type(container) is list:
            container[:] = content
        else:
            container.clear()
            container.update(content)


def _is_of_a_framework(kind: type) -> bool:
    return any((base.__module__ or "").partition(".")[0] in _FRAMEWORKS for base in kind.__mro__)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined, unused-ignore]
    """Notes what it meets: what copies keep, locks, and parts."""

    def __init__(self, file: io.BytesIO, app: Any, shared: set[int]) -> None:
        super().__init__(file, protocol=5)
        self.kept: list[Any] = []
        self.locks: list[Any] = []
        self.parts: list[Any] = []
        self._app = app
        self._shared = shared
        self._seen: set[int] = set()
        self._is_part: dict[type, bool] = {}

    def persistent_id(self, value: Any) -> int | None:
        kind = type(value)
        if isinstance(value, types.FunctionType):
            if value.__closure__ and id(value) not in self._shared:
                return None
        elif not isinstance(value, _KEPT):
            if kind not in self._is_part:
                self._is_part[kind] = _is_of_a_framework(kind)
            if (self._is_part[kind] or value is self._app) and id(value) not in self._seen:
                self._seen.add(id(value))
                self.parts.append(value)
            return None
        self.kept.append(value)
        return len(self.kept) - 1

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, LOCKS):
            self.locks.append(value)
            return new_lock(value)
        reduced = kinds.reduce(value)
        return super().reducer_override(value) if reduced is NotImplemented else reduced


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, kept: list[Any]) -> None:
        super().__init__(file)
        self._kept = kept

    def persistent_load(self, number: Any) -> Any:
        return self._kept[number]


def new_lock(lock: Any) -> tuple[Any, ...]:
    """What pickling writes for a lock that is made anew, open, where it arrives."""
    return (threading.Lock if type(lock) is LOCKS[0] else threading.RLock), ()


def teach_pickle() -> None:
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
    return type(state), (state._state,)


def _reduce_without_locks(value: Any) -> tuple[Any, ...]:
    names = tuple(name for name, item in vars(value).items() if isinstance(item, LOCKS))
    rest = {name: item for name, item in vars(value).items() if name not in names}
    return _with_locks, (type(value), names), rest


def _with_locks(kind: type, names: tuple[str, ...]) -> Any:
    made: Any = object.__new__(kind)
    for name in names:
        made.__dict__[name] = threading.Lock()
    return made
