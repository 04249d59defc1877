"""From an import path to what it names: every way to fail says what failed, where, and what is near."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eagleray._driver import target
from eagleray._driver.target import CommandError


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def failure(path: str) -> CommandError:
    with pytest.raises(CommandError) as raised:
        target.find(path)
    return raised.value


def test_a_module_that_is_not_there_is_named_with_one_that_is_like_it(directory: Path) -> None:
    (directory / "shop.py").write_text("")
    (directory / "models").mkdir()
    (directory / "models" / "__init__.py").write_text("")
    (directory / "models" / "rank.py").write_text("")
    found = failure("shup:app")
    assert found.kind == "module_not_found"
    assert "did you mean 'shop'?" in str(found)
    assert "did you mean 'models.rank'?" in str(failure("models.rnak:app"))
    assert "did you mean" not in str(failure("zebra:app"))


def test_an_error_of_the_users_code_has_its_place_and_its_traceback(directory: Path) -> None:
    (directory / "inner.py").write_text("\n\nvalue = 1 / 0\n")
    (directory / "outer.py").write_text("import inner\n")
    found = failure("outer:app")
    assert (found.kind, found.place) == ("import_failed", f"{directory}/inner.py:3")
    assert "ZeroDivisionError" in found.shown
    (directory / "typo.py").write_text("a = 1\ndef (\n")
    found = failure("typo:app")
    assert (found.kind, found.place) == ("import_failed", f"{directory}/typo.py:2")
    (directory / "needs.py").write_text("import not_installed_here\n")
    assert failure("needs:app").place == f"{directory}/needs.py:1"


def test_an_attribute_that_is_not_there_has_the_file(directory: Path) -> None:
    (directory / "empty.py").write_text("")
    found = failure("empty:app")
    assert (found.kind, found.place) == ("attribute_missing", f"{directory}/empty.py")


def test_a_builder_that_fails_and_one_that_is_none_are_told_apart(directory: Path) -> None:
    (directory / "builders.py").write_text("def fails(args):\n    raise KeyError('colour')\nthing = 1\n")
    with pytest.raises(CommandError) as raised:
        target.build(target.find("builders:fails"), {}, "builders:fails")
    assert (raised.value.kind, raised.value.place) == ("builder_failed", f"{directory}/builders.py:2")
    with pytest.raises(CommandError) as raised:
        target.build(target.find("builders:thing"), {}, "builders:thing")
    assert raised.value.kind == "not_an_application"
