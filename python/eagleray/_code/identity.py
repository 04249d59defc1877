"""The identity of what travels by value: a hash over structure, not over pickled bytes.

Pickled bytes of one program differ from run to run: sets are in hash order, cloudpickle gives dynamic classes a
random tracking id, and code objects carry file names and line numbers. So the object graph is walked the way
cloudpickle would pickle it, and hashed without those. A function by value is its bytecode, constants, defaults,
closure and the globals that it names; a class by value its bases and its namespace; a set is sorted by its elements'
own hashes; what lives in an importable module is its name, since its code is in the capture, or in an installed
package with a version; any other object is what it reduces to for pickling.

What cannot be hashed is no error of the user's: the caller makes a new version and says so.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from eagleray._code import inner, kinds
from eagleray._code.pickling import NAMEABLE, reduce_nameable
from eagleray.serve._freeze import LOCKS
from eagleray.serve.deployment import Deployment

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis), type(NotImplemented)})
#: Parts of a class's namespace that say where it was written, or that follow from the rest. What pydantic compiles
#: from a model's fields holds addresses.
_NOISE = frozenset({
    "__dict__", "__weakref__", "__module__", "__slotnames__", "__firstlineno__", "__static_attributes__",
    "__annotate__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__", "_abc_impl",
    "__pydantic_core_schema__", "__pydantic_validator__", "__pydantic_serializer__",
})  # fmt: skip
#: Attributes, by package, with the time at which an object was made, which is another in every process.
_TIMES = {
    "prometheus_client": frozenset({"_created"}),
    "slowapi": frozenset({"_Limiter__last_check_backend"}),
}
#: Names that Python 3.13 stores in a class body; their values are a line number and in hash order.
_BODY_NOISE = frozenset({"__firstlineno__", "__static_attributes__"})
_GLOBAL_OPERATIONS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})


#: Bytes that wait to be hashed are of this many pieces at most, or of one dict.
_MOST_PARTS = 10_000
#: What is known of a function's code serves every function of that code: frameworks make closures by the thousand.
_CODE_KEPT = 2048


def _tagged(kind: str, data: bytes | str) -> bytes:
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return b"%s:%d:%s" % (kind.encode(), len(raw), raw)


def _atom(value: Any) -> bytes:
    if value is None:
        return b"NoneType:4:None"
    kind = type(value)
    return _tagged(kind.__name__, value if kind is str or kind is bytes else repr(value))


class Unhashable(Exception):  # noqa: N818 - a state of the object, not a failure of the program
    """The object's structure cannot be walked; the message says which part."""


class Identity(NamedTuple):
    """Hex SHA-256 of a structure, and the top-level modules that it refers to by name."""

    digest: str
    modules: frozenset[str]


def identify(value: Any) -> Identity:
    """Hashes the structure of `value`: the same in every process in which the same program made the same value.

    Raises:
        Unhashable: part of it can be neither walked nor referred to by name.
    """
    walker = _Walker()
    try:
        walker.feed(value)
    except RecursionError:
        raise Unhashable(f"a {type(value).__name__} that is nested too deeply") from None
    return Identity(walker.digest().hex(), frozenset(walker.modules))


class _Walker:
    """Feeds one stream; a second visit of an object feeds the number of the first, so cycles end.

    An application with a thousand routes is a million attributes, so what most of them are, names and plain values, is
    put into the stream without a call for each.
    """

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.parts: list[bytes] = []  # of the stream, not hashed yet
        self.names: dict[str, bytes] = {}
        self.modules: set[str] = set()
        self.seen: dict[int, bytes] = {}  # by id: what a second visit puts into the stream
        self.alive: list[Any] = []  # ids stay taken while the walk lasts

    def tag(self, kind: str, data: bytes | str = b"") -> None:
        self.parts.append(_tagged(kind, data))

    def digest(self) -> bytes:
        self.flush()
        return self.hash.digest()

    def flush(self) -> None:
        self.hash.update(b"".join(self.parts))
        self.parts.clear()

    def feed(self, value: Any) -> None:
        kind = type(value)
        if kind in _ATOMS:
            self.parts.append(_atom(value))
            return
        if len(self.parts) > _MOST_PARTS:
            self.flush()
        again = self.seen.get(id(value))
        if again is not None:
            self.parts.append(again)
            return
        self.seen[id(value)] = _tagged("again", str(len(self.seen)))
        self.alive.append(value)
        walk = _WALKS.get(kind)
        if walk is not None:
            walk(self, value)
        elif isinstance(value, type):
            self.class_(value)
        elif isinstance(value, types.ModuleType):
            self.module(value)
        else:
            self.reduced(value)

    def each(self, kind: str, values: Any) -> None:
        values = list(values)
        self.tag(kind, str(len(values)))
        for value in values:
            self.feed(value)

    def mapping(self, value: Any) -> None:
        # In order: the order of a dict can be what the program means.
        self.tag("dict", str(len(value)))
        put, names, seen = self.parts.append, self.names, self.seen
        for key, item in value.items():
            if type(key) is str:
                name = names.get(key)
                if name is None:
                    name = names[key] = _atom(key)
                put(name)
            else:
                self.feed(key)
            if type(item) in _ATOMS:
                put(_atom(item))
            elif (again := seen.get(id(item))) is not None:
                put(again)
            else:
                self.feed(item)

    def unordered(self, value: Any) -> None:
        self.tag(type(value).__name__, str(len(value)))
        for _, element in sorted(((identify(element).digest, element) for element in value), key=lambda pair: pair[0]):
            self.feed(element)

    def buffer(self, value: Any) -> None:
        view = memoryview(value)
        self.tag("buffer", str(view.nbytes))
        self.flush()
        self.hash.update(view if view.c_contiguous else view.tobytes())

    def reference(self, value: Any) -> None:
        self.modules.add(value.__module__.partition(".")[0])
        self.tag("reference", f"{value.__module__} {value.__qualname__}")

    # --- code -----------------------------------------------------------------------------------------------------

    def function(self, value: types.FunctionType) -> None:
        if _by_reference(value):
            self.reference(value)
            return
        place = inner.place_of(value)
        if place is not None:
            self.inner_function(value, place)
            return
        self.tag("function", value.__name__)
        self.code(value.__code__)
        for part in (value.__defaults__, value.__kwdefaults__, value.__doc__, _annotations(value)):
            self.feed(part)
        self.mapping(value.__dict__)
        for cell in value.__closure__ or ():
            self.feed(cell)
        for name in sorted(global_names(value.__code__)):
            if name in value.__globals__:
                self.tag("global", name)
                self.feed(value.__globals__[name])

    def inner_function(self, value: types.FunctionType, place: inner.Place) -> None:
        self.modules.add(place.module.partition(".")[0])
        self.tag("inner", repr(place))
        for part in (value.__defaults__, value.__kwdefaults__):
            self.feed(part)
        self.mapping(value.__dict__)
        for cell in value.__closure__ or ():
            self.cell(cell)

    def code(self, value: types.CodeType) -> None:
        digest, modules = _of_code(value)
        self.tag("code", digest)
        self.modules |= modules

    def inside_of_code(self, value: types.CodeType) -> None:
        # Not in it: file name, line numbers, and the name of the scope it was written in.
        self.tag("name", value.co_name)
        numbers = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags)
        self.tag("shape", repr((numbers, value.co_varnames, value.co_freevars, value.co_cellvars)))
        if value.co_names:
            self.modules |= imported_names(value)
        if _BODY_NOISE.isdisjoint(value.co_names):
            self.tag("bytecode", value.co_code)
            self.tag("names", repr(value.co_names))
            self.tag("exceptions", value.co_exceptiontable)
            self.constant(value.co_consts)
        else:
            self.class_body(value)

    def constant(self, value: Any) -> None:
        # By value even where shared: the compiler shares equal constants as it likes.
        if isinstance(value, types.CodeType):
            self.code(value)
        elif isinstance(value, tuple):
            self.tag("constants", str(len(value)))
            for part in value:
                self.constant(part)
        elif isinstance(value, frozenset):
            self.tag("frozenset", " ".join(sorted(identify(element).digest for element in value)))
        else:
            self.feed(value)

    def class_body(self, value: types.CodeType) -> None:
        """The body of a class inside a function, less the line number and attribute list that it stores."""
        steps = [step for step in dis.get_instructions(value) if step.opname not in ("NOP", "CACHE")]
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            if following is not None and following.opname == "STORE_NAME" and following.argval in _BODY_NOISE:
                continue
            self.tag("step", step.opname)
            if step.opname.startswith("LOAD_") and "CONST" in step.opname:
                self.constant(step.argval)
            elif "JUMP" not in step.opname and step.opname != "FOR_ITER":
                self.tag("argument", str(step.argval))

    def cell(self, value: types.CellType) -> None:
        try:
            contents = value.cell_contents
        except ValueError:
            self.tag("empty cell")
            return
        self.tag("cell")
        self.feed(contents)

    def class_(self, value: type) -> None:
        if _by_reference(value):
            self.reference(value)
            return
        self.tag("class", value.__qualname__.rpartition("<locals>.")[2])
        self.feed(type(value))
        self.each("bases", value.__bases__)
        namespace = vars(value)
        for name in sorted(name for name in namespace if isinstance(name, str) and name not in _NOISE):
            self.tag("member", name)
            self.feed(namespace[name])

    def deployment(self, value: Deployment) -> None:
        # Without its options: what needs new processes among them is in the version of the deployment that has them.
        self.tag("deployment", value.name)
        self.feed(value.func_or_class)

    def descriptor(self, value: Any) -> None:
        self.tag("descriptor", f"{type(value).__name__} {value.__name__}")

    def property_(self, value: property) -> None:
        self.each("property", (value.fget, value.fset, value.fdel))

    def wrapped(self, value: Any) -> None:
        self.tag(type(value).__name__)
        self.feed(value.__func__)

    def method(self, value: types.MethodType) -> None:
        self.tag("method", value.__func__.__name__)
        self.feed(value.__self__)
        self.feed(value.__func__)

    def builtin(self, value: Any) -> None:
        self.tag("builtin", f"{value.__module__} {value.__qualname__}")
        if isinstance(value.__module__, str):
            self.modules.add(value.__module__.partition(".")[0])
        if not isinstance(value.__self__, types.ModuleType):
            self.feed(value.__self__)

    def module(self, value: types.ModuleType) -> None:
        self.tag("module", value.__name__)
        if sys.modules.get(value.__name__) is value:
            self.modules.add(value.__name__.partition(".")[0])
        else:
            self.mapping({name: item for name, item in vars(value).items() if not name.startswith("__")})

    # --- everything else ------------------------------------------------------------------------------------------

    def reduced(self, value: Any) -> None:
        kind = type(value)
        if kind.__module__.partition(".")[0] in ("pydantic", "pydantic_core"):
            if kind.__name__ == "TypeAdapter":
                self.each("type adapter", (value._type, value._config))
                return
            if kind.__name__ in ("SchemaValidator", "SchemaSerializer"):
                # Compiled from what is beside it, with addresses in it.
                self.tag(kind.__name__)
                return
        try:
            parts = reduce_nameable(value) if kind in NAMEABLE else kinds.reduce(value)
            if parts is NotImplemented and kind not in NAMEABLE:
                reduce = copyreg.dispatch_table.get(kind)
                parts = reduce(value) if reduce is not None else value.__reduce_ex__(5)
            if parts is NotImplemented and kind in LOCKS:
                # One that was pickled is made anew where it arrives: one is like another.
                self.tag("lock", kind.__name__)
                return
            if parts is NotImplemented:
                raise TypeError("it has no pickle")
        except RecursionError:
            raise
        except Exception as error:
            raise Unhashable(f"an object of type {kind.__module__}.{kind.__qualname__}: {error}") from error
        self.alive.append(parts)
        if isinstance(parts, str):
            self.tag("name", f"{getattr(value, '__module__', '')} {parts}")
            self.feed(getattr(value, "__wrapped__", None))
            return
        self.tag("object")
        self.feed(kind)
        make, arguments, state, items, pairs, setter = (*parts, None, None, None, None)[:6]
        self.feed(make)
        for argument in arguments or ():
            self.feed(argument)
        times = _TIMES.get(kind.__module__.partition(".")[0])
        if times is not None and type(state) is dict:
            state = {name: item for name, item in state.items() if name not in times}
            self.alive.append(state)
        self.state(state)
        self.each("items", items or ())
        for key, item in pairs or ():
            self.feed(key)
            self.feed(item)
        self.feed(setter)

    def state(self, state: Any) -> None:
        # Dicts of instances by their items alone: whether the dict itself is shared is of no interest.
        if type(state) is dict:
            self.mapping(state)
        elif type(state) is tuple and len(state) == 2 and all(part is None or type(part) is dict for part in state):
            for part in state:
                self.mapping(part or {})
        else:
            self.feed(state)


_WALKS: dict[type, Callable[[_Walker, Any], None]] = {
    list: lambda walker, value: walker.each("list", value),
    tuple: lambda walker, value: walker.each("tuple", value),
    dict: _Walker.mapping,
    types.MappingProxyType: _Walker.mapping,
    set: _Walker.unordered,
    frozenset: _Walker.unordered,
    bytearray: _Walker.buffer,
    memoryview: _Walker.buffer,
    pickle.PickleBuffer: lambda walker, value: walker.buffer(value.raw()),
    types.FunctionType: _Walker.function,
    types.CodeType: _Walker.code,
    types.CellType: _Walker.cell,
    types.MethodType: _Walker.method,
    types.BuiltinFunctionType: _Walker.builtin,
    types.MemberDescriptorType: _Walker.descriptor,
    types.GetSetDescriptorType: _Walker.descriptor,
    types.WrapperDescriptorType: _Walker.descriptor,
    types.MethodDescriptorType: _Walker.descriptor,
    types.ClassMethodDescriptorType: _Walker.descriptor,
    Deployment: _Walker.deployment,
    property: _Walker.property_,
    staticmethod: _Walker.wrapped,
    classmethod: _Walker.wrapped,
}


def _by_reference(value: Any) -> bool:
    """Whether only the name is pickled: an importable module has this very object, or its Deployment, under it."""
    module_name = getattr(value, "__module__", None)
    if not isinstance(module_name, str) or module_name == "__main__" or kinds.is_registered_by_value(module_name):
        return False
    found: Any = sys.modules.get(module_name)
    if found is None:
        return False
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
        found = getattr(found, "func_or_class", found) if found is not value else found
    # Types such as `function` say `builtins` and are in nobody's namespace; they are the same everywhere.
    return found is value or module_name == "builtins"


def _annotations(value: types.FunctionType) -> Any:
    try:
        return value.__annotations__
    except NameError:  # Python 3.14 evaluates them only now
        return None


def imported_names(code: types.CodeType) -> set[str]:
    """Top-level names of the modules that `code` imports while it runs."""
    steps = dis.get_instructions(code)
    return {step.argval.partition(".")[0] for step in steps if step.opname == "IMPORT_NAME"} - {""}


@functools.lru_cache(maxsize=_CODE_KEPT)
def _of_code(code: types.CodeType) -> tuple[bytes, frozenset[str]]:
    """The digest of code, and the modules that it imports while it runs."""
    walker = _Walker()
    walker.inside_of_code(code)
    return walker.digest(), frozenset(walker.modules)


@functools.lru_cache(maxsize=_CODE_KEPT)
def global_names(code: types.CodeType) -> frozenset[str]:
    """Names of globals that `code`, or code inside it, uses: what cloudpickle packs with a function by value."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in _GLOBAL_OPERATIONS}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= global_names(constant)
    return frozenset(names)
