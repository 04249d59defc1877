"""Identity of what travels by value: equal where the program is, in any process; different where it is not."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from eagleray._code.identity import Unhashable, identify

PROGRAM = """
import dataclasses, enum, functools, json
from eagleray import serve
from eagleray._driver.build import build
import helper

WORDS = {"b", "a", "c", "d", "e", "f"}

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int
    names: set = dataclasses.field(default_factory=lambda: {"x", "y", "z"})

def scale(number, by=2):
    def inner(n):
        class Local:
            factor = by
            def __call__(self):
                self.last = n
                self.first = n
                return n * self.factor
        return Local()()
    return inner(number) + len(WORDS)

class Base:
    kinds = frozenset({"k1", "k2", "k3"})

    @staticmethod
    def s(): return Color.RED

    @property
    def p(self): return scale(3)

@serve.deployment
class Model(Base):
    __slots__ = ("n", "q")

    def __init__(self, *args, **kwargs):
        super().__init__()

    def __call__(self, request):
        return [word for word in {"one", "two", "three"}] + [helper.text(), Model]

@serve.deployment
def other():
    return sorted(WORDS, key=lambda word: (len(word), word))

built = build(
    Model.bind(other.bind(), {"s", "t"}, functools.partial(scale, 3), color=Color.RED, point=Point(1)),
    name="default", route_prefix="/", logging_config=None,
)
print(json.dumps({d["name"]: [d["version"], d["version_note"]] for d in built.spec["deployments"]}))
"""


def versions(folder: Path, text: str = PROGRAM, seed: str = "random") -> dict[str, list[str]]:
    import json

    (folder / "main.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        env={"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    assert all(note == "" for _, note in found.values()), found
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("def text():\n    return 'one'\n")
    return tmp_path


def test_the_same_program_has_the_same_versions_under_every_hash_seed(folder: Path) -> None:
    first = versions(folder, seed="0")
    assert set(first) == {"Model", "other"}
    for seed in ("1", "2", "random"):
        assert versions(folder, seed=seed) == first


def test_a_comment_in_the_script_changes_nothing(folder: Path) -> None:
    first = versions(folder)
    shifted = PROGRAM.replace("import helper\n", "import helper\n\n# Three\n# more\n# lines\n")
    assert versions(folder, shifted) == first


def test_a_byte_in_a_helper_changes_every_version(folder: Path) -> None:
    first = versions(folder)
    (folder / "helper.py").write_text("def text():\n    return 'two'\n")
    second = versions(folder)
    assert first["Model"] != second["Model"]
    assert first["other"] != second["other"]


def test_a_file_beside_the_script_that_nobody_imported_yet_counts(folder: Path) -> None:
    first = versions(folder)
    (folder / "late.py").write_text("x = 1\n")
    assert versions(folder)["other"] != first["other"]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ('return [word for word in {"one"', 'return [word for word in {"ONE"', {"Model"}),
        ("return n * self.factor", "return n + self.factor", {"Model"}),
        ("by=2", "by=3", {"Model"}),
        ("RED = 1", "RED = 2", {"Model"}),
        ('{"k1", "k2", "k3"}', '{"k1", "k2"}', {"Model"}),
        ("point=Point(1)", "point=Point(2)", {"Model"}),
        ('{"b", "a",', '{"b", "A",', {"Model", "other"}),
        ("sorted(WORDS,", "sorted(WORDS, reverse=True,", {"other"}),
        (".bind(other.bind(), ", ".bind(3, other.bind(), ", {"Model"}),
    ],
)
def test_a_change_rolls_its_own_deployment_only(folder: Path, old: str, new: str, changed: set[str]) -> None:
    first = versions(folder)
    assert old in PROGRAM
    second = versions(folder, PROGRAM.replace(old, new))
    assert {name for name in first if first[name] != second[name]} == changed


def test_cycles_and_shared_objects_end() -> None:
    cycle: list[object] = [1]
    cycle.append(cycle)
    assert identify(cycle) == identify(cycle)
    shared = [1]
    assert identify([shared, shared]) != identify([[1], [1]]), "one list or two is a difference to the program"


def test_the_order_of_a_dict_counts_and_that_of_a_set_does_not() -> None:
    assert identify({"a": 1, "b": 2}) != identify({"b": 2, "a": 1})
    assert identify(set("abcdef")) == identify(set("fedcba"))
    assert identify({1, 2}) != identify(frozenset({1, 2}))


def test_values_of_different_types_differ() -> None:
    values = [0, 0.0, False, "0", b"0", None, (), [], {}, set(), bytearray(), 0j, range(0)]
    assert len({identify(value).digest for value in values}) == len(values)


def test_what_is_imported_is_named() -> None:
    identity = identify([Path, textwrap.dedent, len])
    assert {"textwrap", "builtins"} <= identity.modules


def test_what_cannot_be_hashed_is_named() -> None:
    with pytest.raises(Unhashable, match="generator"):
        identify([(word for word in ("a",))])
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(Unhashable, match="deep"):
        identify(nested)


def test_when_a_metric_was_made_does_not_count() -> None:
    def metric(name: str, created: float) -> object:
        kind = type("Counter", (), {"__module__": "prometheus_client.metrics"})
        made = kind()
        vars(made).update(_name=name, _created=created)
        return made

    assert identify(metric("calls", 1.0)) == identify(metric("calls", 2.0))
    assert identify(metric("calls", 1.0)) != identify(metric("errors", 1.0))
