"""What cannot be pickled is named when it is deployed, and what has only a name travels by it."""

import contextvars
import pickle
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from eagleray import serve
from eagleray._code import pickling
from eagleray._code.identity import Unhashable, identify
from eagleray._driver.build import build

CODE = """
import contextvars, threading
from eagleray import serve
from shared import lock as of_module, word as word_of_module

gate = threading.Lock()
word = contextvars.ContextVar("word", default=5)
bare = contextvars.ContextVar("bare")

def enter():
    with gate:
        return 1

class Base:
    def uses_gate(self):
        return enter()

@serve.deployment
class Counter(Base):
    pass

@serve.deployment
class Outer:
    def __init__(self, inner):
        pass

def closes(over):
    @serve.deployment
    def deployed():
        return over
    return deployed

class Held:
    kept = threading.RLock()

@serve.deployment
def with_default(request, held=Held):
    return held

def values():
    with of_module:
        return word.get(), bare.get("none"), word_of_module.get()
"""


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A script, whose code travels by value, beside a module that it imports."""
    shared = types.ModuleType("shared")
    shared.__dict__.update(lock=threading.Lock(), word=contextvars.ContextVar("shared_word", default=7))
    monkeypatch.setitem(sys.modules, "shared", shared)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CODE, "script.py", "exec"), names)
    return names


def test_a_working_directory_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    @serve.deployment
    def hello() -> None: ...

    with pytest.raises(RuntimeError, match="the working directory does not exist any more"):
        build(hello.bind(), name="app", route_prefix="/", logging_config=None)


def refused(application: serve.Application) -> str:
    with pytest.raises(TypeError) as caught:
        build(application, name="app", route_prefix="/", logging_config=None)
    return str(caught.value)


def test_a_variable_that_code_uses_is_named_with_its_user(program: dict[str, Any]) -> None:
    expected = (
        "the global variable 'gate' (lock) that enter uses, which deployment 'Counter' takes along, cannot be pickled, "
        "and replicas are processes of their own: cannot pickle '_thread.lock' object\nCreate it in the constructor of "
        "Counter, or in a module that is imported (`import module`, then `module.name`)"
    )
    assert refused(program["Counter"].bind()) == expected
    assert refused(program["Outer"].bind([program["Counter"].bind()])) == expected, "once, and of the inner one"
    assert refused(program["closes"](threading.Lock()).bind()).startswith(
        "the variable 'over' (lock) that closes.<locals>.deployed uses, which deployment 'deployed' takes along,"
    )
    assert refused(program["with_default"].bind()).startswith("the attribute 'kept' (RLock) of Held")
    assert refused(program["Outer"].bind(threading.Lock())).startswith("argument 1 (lock) of deployment 'Outer' cannot")


def test_context_variables_and_locks_of_modules_travel_by_name(program: dict[str, Any]) -> None:
    values = program["values"]
    made = pickle.loads(pickling.dumps(values))
    assert made() == values() == (5, "none", 7)
    assert made.__globals__["word"] is not program["word"], "one of the script is made anew"
    for name in ("of_module", "word_of_module"):
        assert made.__globals__[name] is program[name]
    assert identify(values).digest == identify(made).digest
    assert identify(program["gate"]) == identify(threading.Lock()), "what is made anew is like any other"
    with pytest.raises(Unhashable, match="generator"):
        identify(word for word in ("a",))
