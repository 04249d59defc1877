"""The identity of what travels by value: a hash over structure, not over pickled bytes.

Pickled bytes of one program differ from run to run: sets are in hash order, cloudpickle gives dynamic classes a
random tracking id, and code objects carry file names and line numbers. So the object graph is walked the way
cloudpickle would pickle it, and hashed without those. An object that lives in an importable module is its name: its
code is in the capture, or in an installed package with a version.

What cannot be hashed is no error of the user's: the caller makes a new version and says so in the log.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import hashlib
import pickle
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

_ATOMS = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range)
_CLASS_NOISE = frozenset(
    {"__dict__", "__weakref__", "_abc_impl", "__slotnames__", "__firstlineno__", "__static_attributes__", "__annotate__"}
)
_GLOBAL_OPS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})


class Unhashable(Exception):  # noqa: N818: a state of the object, not a failure of the program
    """The object's structure cannot be walked; the message says which part."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """The result of `identify`.

    Attributes:
        digest: Hex SHA-256 of the structure.
        modules: Top-level names of the modules that it refers to by name.
    """

    digest: str
    modules: frozenset[str]


def identify(value: Any) -> Identity:
    """Hash the structure of `value`.

    Args:
        value: A callable with its arguments, or any picklable object.

    Returns:
        The same identity in every process in which the same program made the same value.

    Raises:
        Unhashable: part of it can be neither walked nor referred to by name.
    """
    walker = _Walker()
    try:
        digest = walker.digest(value)
    except RecursionError:
        raise Unhashable(f"{type(value).__name__} is nested too deeply") from None
    return Identity(digest.hex(), frozenset(walker.modules))


class _Walker:
    def __init__(self) -> None:
        self.modules: set[str] = set()
        self._memo: dict[int, int] = {}
        # Keeps what was seen alive, so that no id is used twice.
        self._seen: list[Any] = []

    def digest(self, value: Any) -> bytes:
        """Hash one value; a second visit of the same object is a back-reference, so cycles end."""
        if isinstance(value, _ATOMS) and not isinstance(value, enum.Enum):
            return _leaf(type(value).__name__, repr(value))
        known = self._memo.get(id(value))
        if known is not None:
            return _leaf("seen", str(known))
        self._memo[id(value)] = len(self._memo)
        self._seen.append(value)
        return self._walk(value)

    def _walk(self, value: Any) -> bytes:  # noqa: PLR0911: one line a kind reads best
        if isinstance(value, types.ModuleType):
            self._refer(value.__name__)
            return _leaf("module", value.__name__)
        if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType) and self._by_name(value):
            return _leaf("name", f"{value.__module__}:{value.__qualname__}")
        for kinds, walk in _KINDS:
            if isinstance(value, kinds):
                return walk(self, value)
        return self._reduced(value)

    def all(self, kind: str, values: Iterable[Any]) -> bytes:
        """Hash values in order."""
        return _node(kind, [self.digest(value) for value in values])

    def mapping(self, kind: str, items: Iterable[tuple[Any, Any]]) -> bytes:
        """Hash pairs in order."""
        return _node(kind, [part for key, item in items for part in (self.digest(key), self.digest(item))])

    def unordered(self, kind: str, values: Iterable[Any]) -> bytes:
        """Hash values so that their order does not count: each apart from the others."""
        digests = []
        for value in values:
            apart = _Walker()
            apart._memo = dict(self._memo)
            digests.append(apart.digest(value))
            self.modules |= apart.modules
            self._seen.extend(apart._seen)
        return _node(kind, sorted(digests))

    def function(self, function: types.FunctionType) -> bytes:
        code = function.__code__
        referenced = {name: function.__globals__[name] for name in _global_names(code) if name in function.__globals__}
        cells = [_cell_contents(cell) for cell in function.__closure__ or ()]
        return _node(
            "function",
            [
                self.digest(function.__qualname__),
                self.code(code),
                self.digest(function.__defaults__),
                self.mapping("dict", sorted((function.__kwdefaults__ or {}).items())),
                self.all("closure", cells),
                self.mapping("globals", sorted(referenced.items())),
                self.mapping("dict", sorted(function.__dict__.items())),
            ],
        )

    def code(self, code: types.CodeType) -> bytes:
        # Not in it: file name, line numbers, and the name of the first line's table.
        numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        table = getattr(code, "co_exceptiontable", b"")
        return _node(
            "code", [self.digest(part) for part in (code.co_code, table, numbers, names)] + [self.all("constants", code.co_consts)]
        )

    def class_(self, class_: type) -> bytes:
        members = sorted(
            (name, member)
            for name, member in vars(class_).items()
            if name not in _CLASS_NOISE and not isinstance(member, types.GetSetDescriptorType | types.MemberDescriptorType)
        ) if _comparable(vars(class_)) else []
        return _node(
            "class",
            [
                self.digest(class_.__qualname__),
                self.digest(type(class_)),
                self.all("bases", class_.__bases__),
                self.mapping("members", members),
            ],
        )

    def _reduced(self, value: Any) -> bytes:
        try:
            reduced = value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        except RecursionError:
            raise
        except Exception as error:
            raise Unhashable(f"an object of type {type(value).__module__}.{type(value).__qualname__}: {error}") from error
        if isinstance(reduced, str):
            return _leaf("name", f"{getattr(value, '__module__', '')}:{reduced}")
        make, arguments, *rest = reduced
        state, items, pairs = [*rest, None, None, None][:3]
        return _node(
            "object",
            [
                self.digest(type(value)),
                self.digest(make),
                self.digest(arguments),
                self.digest(state),
                self.all("items", items or ()),
                self.mapping("pairs", pairs or ()),
            ],
        )

    def _by_name(self, value: Any) -> bool:
        """Whether cloudpickle would write only the name: the importable module has this very object under it."""
        module_name = getattr(value, "__module__", None)
        if not isinstance(module_name, str) or module_name == "__main__" or module_name in _registered_by_value():
            return False
        found: Any = sys.modules.get(module_name)
        if found is None:
            return False
        for part in value.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is not value:
            return False
        self._refer(module_name)
        return True

    def _refer(self, module_name: str) -> None:
        self.modules.add(module_name.partition(".")[0])


_Walk = Callable[[_Walker, Any], bytes]
_KINDS: list[tuple[Any, _Walk]] = [
    ((list, tuple), lambda walker, value: walker.all(type(value).__name__, [type(value), *value] if type(value) not in (list, tuple) else value)),
    (dict, lambda walker, value: walker.mapping("dict", value.items()) if type(value) is dict else walker._reduced(value)),
    ((set, frozenset), lambda walker, value: walker.unordered(type(value).__name__, value)),
    (types.FunctionType, _Walker.function),
    (types.CodeType, _Walker.code),
    (enum.Enum, lambda walker, value: walker.all("enum", [type(value), value.name])),
    (type, _Walker.class_),
    (types.MethodType, lambda walker, value: walker.all("method", [value.__func__, value.__self__])),
    ((staticmethod, classmethod), lambda walker, value: walker.all(type(value).__name__, [value.__func__])),
    (property, lambda walker, value: walker.all("property", [value.fget, value.fset, value.fdel])),
    (functools.partial, lambda walker, value: walker.all("partial", [value.func, value.args, value.keywords])),
    (types.MappingProxyType, lambda walker, value: walker.mapping("dict", value.items())),
    ((bytearray, memoryview), lambda _walker, value: _bytes("bytes", value)),
    (pickle.PickleBuffer, lambda _walker, value: _bytes("buffer", value.raw())),
]


def _leaf(kind: str, text: str) -> bytes:
    return hashlib.sha256(f"{kind}\0{text}".encode(errors="surrogatepass")).digest()


def _bytes(kind: str, value: Any) -> bytes:
    digest = hashlib.sha256(f"{kind}\0".encode())
    digest.update(value)
    return digest.digest()


def _node(kind: str, parts: list[bytes]) -> bytes:
    digest = hashlib.sha256(f"{kind}\0{len(parts)}\0".encode())
    for part in parts:
        digest.update(part)
    return digest.digest()


def _cell_contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return "(empty cell)"


def _comparable(names: Iterable[Any]) -> bool:
    return all(isinstance(name, str) for name in names)


def _registered_by_value() -> set[str]:
    cloudpickle = sys.modules.get("cloudpickle")
    return cloudpickle.list_registry_pickle_by_value() if cloudpickle is not None else set()


@functools.lru_cache(maxsize=4096)
def _global_names(code: types.CodeType) -> tuple[str, ...]:
    names = {
        instruction.argval for instruction in dis.get_instructions(code) if instruction.opname in _GLOBAL_OPS
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(_global_names(constant))
    return tuple(sorted(names))
