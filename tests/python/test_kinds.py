"""What pickle alone has wrong, as it arrives in another process from a script."""

import linecache
import pickle
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from eagleray import _values
from eagleray._code import kinds, pickling
from eagleray._code.identity import identify

SCRIPT = """
import dataclasses, functools, inspect, sys, typing, weakref

@functools.cache
def fibonacci(number):
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

@functools.singledispatch
def kind(value):
    return "any"

@kind.register
def _(value: int):
    return "int"

UserId = typing.NewType("UserId", int)
P = typing.ParamSpec("P")
T = typing.TypeVar("T")
Ts = typing.TypeVarTuple("Ts")

def decorated(function: typing.Callable[P, T]) -> typing.Callable[P, UserId]: ...

class Words(typing.TypedDict, total=False):
    word: str

class Pair(typing.NamedTuple):
    first: int
    second: int = 2

@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    tags: list = dataclasses.field(default_factory=list)

class Model:
    size = functools.lru_cache(maxsize=3, typed=True)(lambda self: 7)

    @functools.cached_property
    def weights(self):
        return [1]

    def add(self, first, second):
        return first + second

    increase = functools.partialmethod(add, 1)

    @functools.singledispatchmethod
    def of(self, value):
        return "any"

    @of.register
    def _(self, value: int):
        return "int"

def with_default(value=dataclasses.MISSING):
    return value is dataclasses.MISSING

known = weakref.WeakKeyDictionary()

def answers():
    model, fields = Model(), dataclasses.fields(Point)
    hints = typing.get_type_hints(decorated)
    return [
        fibonacci(30), fibonacci.cache_info().currsize, fibonacci is fibonacci.__wrapped__.__globals__["fibonacci"],
        kind(1), kind(""), UserId(3), UserId.__supertype__.__name__, str(hints["return"].__args__[0]), str(Ts),
        Words(word="a"), Pair(1), [one.name for one in fields if one.default is dataclasses.MISSING],
        [one.name for one in fields if one.default_factory is not dataclasses.MISSING],
        model.size(), Model.size.cache_parameters(), model.weights, model.weights is model.weights,
        model.increase(2), model.of(1), model.of(""), with_default(), len(known),
        inspect.signature(with_default).return_annotation is inspect.Signature.empty,
    ]
"""


def elsewhere(data: bytes, use: str, path: Path) -> str:
    """What another process prints of the value."""
    path.write_bytes(data)
    program = f"import pickle, sys; value = pickle.loads(open(sys.argv[1], 'rb').read()); print({use})"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else done.stderr


@pytest.fixture
def script() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SCRIPT, "script.py", "exec"), names)
    return names


@pytest.mark.contract("2/kinds")
def test_what_a_script_makes_works_where_it_arrives(script: dict[str, Any], tmp_path: Path) -> None:
    expected = repr(script["answers"]())
    script["fibonacci"].cache_clear()
    for data in (pickling.dumps(script["answers"]), _values.dump(script["answers"])):
        assert elsewhere(data, "value()", tmp_path / "value") == expected + "\n"


def test_what_a_script_makes_can_be_compared_with_the_version_before(script: dict[str, Any]) -> None:
    again: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SCRIPT, "elsewhere.py", "exec"), again)
    assert identify(script["answers"]) == identify(again["answers"])
    changed: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SCRIPT.replace('NewType("UserId", int)', 'NewType("UserId", str)'), "script.py", "exec"), changed)
    assert identify(script["answers"]) != identify(changed["answers"])


class _Missing:
    pass


class _Words:
    def __init__(self, word: str) -> None:
        self.word = word


@pytest.mark.parametrize("make", [object, _Missing, lambda: _Words("missing")])
def test_a_sentinel_of_a_module_stays_itself(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sentinel, other = make(), make()
    module = types.ModuleType("module_with_sentinel")
    vars(module).update(NOT_GIVEN=sentinel)
    monkeypatch.setitem(sys.modules, "module_with_sentinel", module)
    monkeypatch.setattr(kinds, "_found", (0, {}))
    data = pickling.dumps([sentinel, other])
    first, second = pickle.loads(data)
    assert first is sentinel
    assert second is not other, "one without a name is copied"
    vars(module)["NOT_GIVEN"] = _Words("something else")
    assert type(pickle.loads(data)[0]) is type(sentinel), "another object under its name is not taken for it"
    monkeypatch.delitem(sys.modules, "module_with_sentinel")
    assert type(pickle.loads(data)[0]) is type(sentinel), "nor does a module that is missing stop it"


def test_functions_of_imported_modules_stay_names() -> None:
    import fnmatch

    cached: Any = vars(fnmatch)["_compile_pattern"]
    assert hasattr(cached, "cache_parameters")
    assert pickle.loads(pickling.dumps(cached)) is cached


@pytest.mark.contract("2/tracebacks")
def test_tracebacks_of_code_by_value_have_its_file_and_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "of the script.py"
    path.write_text("def fails():\n    def inner():\n        raise ValueError  # as it was\n    return inner()\n")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(path.read_text(), str(path), "exec"), names)
    linecache.cache["<cell 3>"] = (30, None, ["def cell():\n", "    return fails()  # cell\n"], "<cell 3>")
    exec(compile("".join(linecache.getlines("<cell 3>")), "<cell 3>", "exec"), names)
    sent, of_a_call = pickling.dumps(names["cell"]), _values.dump(names["cell"])
    path.write_text("something else\n" * 9)
    report = "traceback_of(value)"
    program = tmp_path / "traceback_of.py"
    program.write_text(
        "import traceback\ndef of(value):\n    try: value()\n    except ValueError: return traceback.format_exc()\n"
    )
    report = f"exec(open({str(program)!r}).read()) or of(value)"
    shown = elsewhere(sent, report, tmp_path / "value")
    assert f'File "{path}", line 3, in inner\n    raise ValueError  # as it was' in shown
    assert 'File "<cell 3>", line 2, in cell\n    return fails()  # cell' in shown
    assert f'File "{path}", line 3, in inner' in elsewhere(of_a_call, report, tmp_path / "value")
    assert len(of_a_call) < len(sent), "a call does not bring the text of files along"
