"""Functions that installed packages make inside their own go as a place in the package's code."""

import functools
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from eagleray._code import identity, inner, pickling

SOURCE = """
import functools
state = []

def counter(step=1):
    count = 0
    def add(by=step, *, times: int = 1) -> int:
        "adds"
        nonlocal count
        count += by * times
        state.append(count)
        return count
    def again():
        return again, add
    def never():
        return missing
        missing = 1
    return add, again

class Maker:
    @classmethod
    def made(cls, held):
        def outer():
            def innermost():
                return held
            return innermost
        return outer()

def wrapping(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An installed module."""
    directory = tmp_path / "site-packages"
    directory.mkdir()
    (directory / "installed_here.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(directory))
    import installed_here  # type: ignore[import-not-found]

    yield installed_here
    del sys.modules["installed_here"]


def sent(value: Any) -> Any:
    return pickle.loads(pickling.dumps(value))


def test_they_share_the_globals_of_their_module(package: Any) -> None:
    add = package.counter(step=3)[0]
    place = inner.place_of(add)
    assert place is not None
    assert (place.module, place.outer, place.name) == ("installed_here", "counter", "counter.<locals>.add")
    arrived = sent(add)
    assert arrived is not add
    assert arrived.__globals__ is package.__dict__
    assert arrived.__code__ is add.__code__
    assert (arrived(), arrived(times=2)) == (3, 9)
    assert package.state == [3, 9], "the module's own state, not a copy"
    assert (arrived.__doc__, arrived.__name__, arrived.__qualname__) == ("adds", "add", "counter.<locals>.add")
    assert arrived.__annotations__ == add.__annotations__
    assert b"nonlocal" not in pickling.dumps(add)
    assert len(pickling.dumps(add)) < 600


def test_a_function_that_holds_itself(package: Any) -> None:
    _, again = package.counter()
    arrived = sent(again)
    assert arrived()[0] is arrived
    assert identity.identify(again) == identity.identify(sent(again))


def test_the_innermost_of_several_and_of_a_class(package: Any) -> None:
    function = package.Maker.made({"held": 1})
    place = inner.place_of(function)
    assert place is not None
    assert place.outer == "Maker.made"
    assert sent(function)() == {"held": 1}
    assert identity.identify(function) != identity.identify(package.Maker.made({"held": 2}))
    assert "installed_here" in identity.identify(function).modules


def test_a_wrapper_with_the_name_of_a_users_function_goes_by_value(package: Any) -> None:
    def mine(number: int) -> int:
        return number + 1

    wrapper = package.wrapping(mine)
    assert inner.place_of(wrapper) is None
    assert sent(wrapper)(1) == 2


def test_code_of_the_user_goes_by_value(package: Any) -> None:
    def mine() -> int:
        return 1

    assert inner.place_of(mine) is None
    elsewhere = types.FunctionType(package.counter()[0].__code__, {}, "add", None, (types.CellType(0),))
    assert inner.place_of(elsewhere) is None, "its globals are not the module's"


def test_a_package_that_has_changed_says_so(package: Any) -> None:
    data = pickling.dumps(package.counter()[0])
    package.counter = functools.partial(print)
    with pytest.raises(ImportError, match="has changed since the application was deployed; deploy it again"):
        pickle.loads(data)
