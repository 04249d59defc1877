"""Functions that an installed package makes inside one of its own: they go as a place in its code, and what they hold.

A web framework makes a few for each route, and each would take its code and a copy of its module's globals along. Where
the package is installed its code is there already: the place is the outer function's name and the way to the code among
its constants. So a thousand routes are small, and what the module keeps for all of them stays one.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from typing import Any, NamedTuple

from eagleray._code import kinds
from eagleray._code.places import is_user_file


class Place(NamedTuple):
    """The module, the qualified name of the outermost function, and the way from constants to constants of code."""

    module: str
    outer: str
    way: tuple[int, ...]
    name: str


def place_of(function: types.FunctionType) -> Place | None:
    """Where the code of `function` is; None: it is no such function."""
    outer, inner, _ = function.__qualname__.partition(".<locals>.")
    if not inner or function.__module__ == "__main__":
        return None
    module = sys.modules.get(function.__module__)
    if module is None or function.__globals__ is not module.__dict__:
        return None
    return _place(function.__code__, function.__module__, outer)


@functools.lru_cache(maxsize=1024)
def _place(code: types.CodeType, module_name: str, outer: str) -> Place | None:
    file = getattr(sys.modules[module_name], "__file__", None)
    if not isinstance(file, str) or is_user_file(file) or kinds.is_registered_by_value(module_name):
        return None
    begin = _code_of(module_name, outer)
    way = None if begin is None else _way(begin, code)
    return None if way is None else Place(module_name, outer, way, code.co_qualname)


def _code_of(module_name: str, outer: str) -> types.CodeType | None:
    found: Any = sys.modules[module_name]
    for part in outer.split("."):
        found = getattr(found, part, None)
    found = getattr(found, "__func__", found)
    own = isinstance(found, types.FunctionType) and (found.__module__, found.__qualname__) == (module_name, outer)
    return found.__code__ if own else None


def _way(begin: types.CodeType, wanted: types.CodeType) -> tuple[int, ...] | None:
    for index, constant in enumerate(begin.co_consts):
        if constant is wanted:
            return (index,)
        if isinstance(constant, types.CodeType):
            rest = _way(constant, wanted)
            if rest is not None:
                return (index, *rest)
    return None


def reduce(function: types.FunctionType, place: Place) -> tuple[Any, ...]:
    """What pickling writes. The cells are filled after the function is there, since they may lead back to it."""
    cells = function.__closure__ or ()
    state = (
        tuple(_contents(cell) for cell in cells),
        function.__defaults__,
        function.__kwdefaults__,
        function.__annotations__,
        function.__dict__,
        (function.__name__, function.__qualname__, function.__doc__),
    )
    return _make, (*place, len(cells)), state, None, None, _fill


def _contents(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _make(module_name: str, outer: str, way: tuple[int, ...], name: str, cells: int) -> types.FunctionType:
    module = importlib.import_module(module_name)
    code: Any = _code_of(module_name, outer)
    for index in way:
        constants = getattr(code, "co_consts", ())
        code = constants[index] if index < len(constants) else None
    if not isinstance(code, types.CodeType) or code.co_qualname != name or len(code.co_freevars) != cells:
        raise ImportError(
            f"{module_name} has no function {name} any more: the package has changed since the application was "
            "deployed; deploy it again"
        )
    return types.FunctionType(code, module.__dict__, None, None, tuple(types.CellType() for _ in range(cells)))


def _fill(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    contents, defaults, keyword_defaults, annotations, attributes, names = state
    for cell, held in zip(function.__closure__ or (), contents, strict=True):
        if held:
            cell.cell_contents = held[0]
    function.__defaults__, function.__kwdefaults__ = defaults, keyword_defaults
    function.__annotations__ = annotations
    function.__dict__.update(attributes)
    function.__name__, function.__qualname__, function.__doc__ = names
