"""Finds what it was that could not be pickled, for a message that names it: an argument, or a variable that code uses.

Pickling says what kind of object it choked on, and not where it came from: a lock is most often a module's variable
that a method three calls down uses. So what was bound is taken apart the way cloudpickle takes it, down to the
innermost part that has a name and cannot be pickled. Only done on the way to an error, so it may take its time.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from eagleray._code import identity, pickling

if TYPE_CHECKING:
    from eagleray.serve.deployment import Application


def describe(application: Application) -> tuple[str, str]:
    """What cannot be pickled, in words, and what to do instead."""
    deployment = application._bound_deployment
    name = deployment.name
    arguments = [(f"argument {number}", value) for number, value in enumerate(application._init_args, 1)]
    arguments += [(f"argument {key!r}", value) for key, value in application._init_kwargs.items()]
    for title, value in arguments:
        if not _pickles(value):
            found = f"{title} ({type(value).__name__}) of deployment {name!r}"
            return found, f"Create it in the constructor of {name}, or pass what it is made from"
    inner = _inside(deployment.func_or_class, set())
    where = "function" if isinstance(deployment.func_or_class, types.FunctionType) else "constructor"
    if inner is None:
        return f"the class or function of deployment {name!r}", f"Create it in the {where} of {name}"
    return (
        f"{inner}, which deployment {name!r} takes along,",
        f"Create it in the {where} of {name}, or in a module that is imported (`import module`, then `module.name`)",
    )


def _inside(value: Any, seen: set[int]) -> str | None:
    """The innermost named part of code that cannot be pickled."""
    if id(value) in seen:
        return None
    seen.add(id(value))
    for title, part, rest in _parts(value):
        if not _pickles(part):
            return _inside(part, seen) or f"{title} ({type(part).__name__}) {rest}"
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any, str]]:
    """What cloudpickle takes along with a function or class that goes by value, each between the parts of its title."""
    if isinstance(value, (staticmethod, classmethod)):
        yield from _parts(value.__func__)
    elif isinstance(value, property):
        for accessor in (value.fget, value.fset, value.fdel):
            yield from _parts(accessor)
    elif hasattr(value, "cache_parameters"):
        yield from _parts(value.__wrapped__)
    elif isinstance(value, functools.cached_property):
        yield from _parts(value.func)
    elif isinstance(value, types.FunctionType):
        user = f"that {value.__qualname__} uses"
        for name in sorted(identity.global_names(value.__code__)):
            if name in value.__globals__:
                yield f"the global variable {name!r}", value.__globals__[name], user
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                yield f"the variable {name!r}", cell.cell_contents, user
            except ValueError:
                continue
        for number, default in enumerate(value.__defaults__ or (), 1):
            yield f"default {number}", default, f"of {value.__qualname__}"
    elif isinstance(value, type):
        for base in value.__bases__:
            yield f"the base {base.__qualname__}", base, f"of {value.__qualname__}"
        for name, member in vars(value).items():
            if name not in ("__dict__", "__weakref__"):
                yield f"the attribute {name!r}", member, f"of {value.__qualname__}"


def _pickles(value: Any) -> bool:
    if isinstance(value, (staticmethod, classmethod, property)):
        return all(_pickles(part) for _, part, _ in _parts(value))
    try:
        pickling.dumps(value)
    except Exception:
        return False
    return True
