"""Objects that pickle refuses, or names although only the script has them, or copies although there is one of each.

The rule: what the script or a notebook made (a cached function, a `NewType`, a `ParamSpec`) is made again from what it
was made of; what an importable module has stays a name. A sentinel, an object that is nothing but itself, or has words
only, and that a module has under a name (`dataclasses.MISSING`), goes as that name: code compares it with `is`. A code
object keeps the name of its file, which cloudpickle drops from 3.1.3 on, and brings along the text of it for
tracebacks.
"""

from __future__ import annotations

import copyreg
import functools
import importlib
import sys
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

from eagleray._code.places import is_user_file

_CACHED: Any = type(functools.lru_cache(len))


def reduce(value: Any) -> Any:
    """What to write for `value` instead of what pickle would; NotImplemented: pickle has it right."""
    make = _REDUCES.get(type(value))
    if make is not None:
        return make(value)
    if is_sentinel(value):
        found = _named_sentinels().get(id(value))
        if found is not None and vars(sys.modules.get(found[0], _NO_MODULE)).get(found[1]) is value:
            return _sentinel, (type(value), getattr(value, "__dict__", {}), *found)
    return NotImplemented


def has_its_name(value: Any) -> bool:
    """Whether an importable module has this very object under the name that it bears."""
    module_name = getattr(value, "__module__", None)
    if not isinstance(module_name, str) or module_name == "__main__" or is_registered_by_value(module_name):
        return False
    found: Any = sys.modules.get(module_name)
    for part in str(getattr(value, "__qualname__", None) or value.__name__).split("."):
        found = getattr(found, part, None)
    return found is value


def is_registered_by_value(module_name: str) -> bool:
    """Whether the user told cloudpickle to send this module's code by value."""
    cloudpickle = sys.modules.get("cloudpickle")
    registered = cloudpickle.list_registry_pickle_by_value() if cloudpickle is not None else ()
    return bool(registered) and any(module_name == name or module_name.startswith(name + ".") for name in registered)


# --- sentinels ------------------------------------------------------------------------------------------------------

_NO_MODULE = types.ModuleType("none")
_found: tuple[int, dict[int, tuple[str, str]]] = (0, {})


def is_sentinel(value: Any) -> bool:
    """Whether all there is to the object is which one it is, and words about that."""
    kind: Any = type(value)
    try:
        if not _is_kind_of_sentinel(kind):
            return False
    except TypeError:
        return False  # its metaclass makes classes that have no hash
    return all(type(word) is str for word in getattr(value, "__dict__", {}).values())


@functools.lru_cache(maxsize=10_000)
def _is_kind_of_sentinel(kind: Any) -> bool:
    return (
        kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and kind.__getstate__ is object.__getstate__
        and kind.__eq__ is object.__eq__
        and kind.__module__ != "__main__"
        and kind not in copyreg.dispatch_table
        and kind.__itemsize__ == 0
        and kind.__basicsize__ <= object.__basicsize__ + _TWO_POINTERS
        and not copyreg._slotnames(kind)  # type: ignore[attr-defined]
        and all(base is object or base.__flags__ & _HEAP_TYPE for base in kind.__mro__)
    )


_HEAP_TYPE = 1 << 9  # a class that was written in Python
_TWO_POINTERS = 16  # to its attributes, and to its weak references


def _named_sentinels() -> dict[int, tuple[str, str]]:
    """Module and name of every sentinel by id. Those that a module gets after its import are not looked for again."""
    global _found  # noqa: PLW0603 - looked for again when more is imported
    if _found[0] != len(sys.modules):
        names: dict[int, tuple[str, str]] = {}
        for name, module in list(sys.modules.items()):
            if name == "__main__" or not isinstance(module, types.ModuleType):
                continue
            for attribute, value in list(vars(module).items()):
                if is_sentinel(value) and (id(value) not in names or type(value).__module__ == name):
                    names[id(value)] = (name, attribute)
        _found = len(sys.modules), names
    return _found[1]


def _sentinel(kind: Any, words: dict[str, str], module_name: str, name: str) -> Any:
    try:
        found = getattr(importlib.import_module(module_name), name)
        if type(found) is kind and getattr(found, "__dict__", {}) == words:
            return found
    except Exception:
        pass  # it was put there while the program ran
    made = object.__new__(kind)
    if words:
        made.__dict__.update(words)
    return made


# --- what the script made -------------------------------------------------------------------------------------------


def _unless_named(reduce: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: NotImplemented if has_its_name(value) else reduce(value)


def _reduce_cached(value: Any) -> Any:
    if not hasattr(value, "cache_parameters"):
        return NotImplemented
    return _cached, (value.__wrapped__, value.cache_parameters())


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _reduce_cached_property(value: Any) -> Any:
    # Before Python 3.12 it has a lock, for what it has not computed yet.
    state = {name: item for name, item in vars(value).items() if name != "lock"}
    return functools.cached_property, (value.func,), state


def _reduce_new_type(value: Any) -> Any:
    return _new_type, (value.__name__, value.__supertype__, value.__module__)


def _new_type(name: str, supertype: Any, module_name: str) -> Any:
    make: Any = typing.NewType
    made = make(name, supertype)
    made.__module__ = module_name
    return made


def _reduce_parameters(value: Any) -> Any:
    options = {name: getattr(value, f"__{name}__", None) for name in ("bound", "covariant", "contravariant")}
    return _parameters, (value.__name__, {name: option for name, option in options.items() if option})


def _parameters(name: str, options: dict[str, Any]) -> Any:
    return typing.ParamSpec(name, **options)


def _reduce_alias(value: Any) -> Any:
    return _alias, (value.__name__, value.__value__, value.__type_params__)


def _alias(name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    make: Any = vars(typing)["TypeAliasType"]
    return make(name, value, type_params=parameters)


def _reduce_weak_dict(value: Any) -> Any:
    return type(value), (dict(value),)


_REDUCES: dict[Any, Callable[[Any], Any]] = {
    _CACHED: _unless_named(_reduce_cached),
    functools.cached_property: _reduce_cached_property,
    typing.NewType: _unless_named(_reduce_new_type),
    typing.ParamSpec: _unless_named(_reduce_parameters),
    typing.TypeVarTuple: _unless_named(lambda value: (typing.TypeVarTuple, (value.__name__,))),
    weakref.WeakKeyDictionary: _reduce_weak_dict,
    weakref.WeakValueDictionary: _reduce_weak_dict,
}
if hasattr(typing, "TypeAliasType"):  # since Python 3.12
    _REDUCES[typing.TypeAliasType] = _unless_named(_reduce_alias)


# --- code -----------------------------------------------------------------------------------------------------------


class Sources:
    """Writes code objects. With each file's first one goes its text, as tracebacks of this process show it."""

    def __init__(self, *, with_text: bool) -> None:
        self._with_text = with_text
        self._sent: set[str] = set()

    def reduce(self, code: types.CodeType, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        """What to write for `code`, which cloudpickle writes as `reduced`."""
        text = ""
        if self._with_text and code.co_filename not in self._sent:
            self._sent.add(code.co_filename)
            # What is installed is there too.
            if is_user_file(code.co_filename):
                import linecache

                text = "".join(linecache.getlines(code.co_filename))
        return made_code, (code.co_filename, text, *reduced)


def made_code(filename: str, text: str, make: Callable[..., types.CodeType], arguments: tuple[Any, ...]) -> Any:
    """A code object as it was, whose lines tracebacks show as they were."""
    if text:
        import linecache

        # Without a modification time, so that it is not compared with what the file has become.
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    return make(*arguments).replace(co_filename=filename)
