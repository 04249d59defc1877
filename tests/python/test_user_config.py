"""A `user_config` arrives as it was written, and an equal one is equal text."""

import collections
import enum
import json
import math
import subprocess
import sys
from typing import Any, NamedTuple

import pytest

from eagleray import _user_config, serve, testing


class Pair(NamedTuple):
    first: int
    second: int


class Level(enum.IntEnum):
    LOW = 1


PLAIN = [{"a": [1, 2.5, None, True, "é\ud800"]}, [], 0, "typed:", False, {"dict": []}]
TYPED = [
    {"by_class": {0: 0.5, 1: 0.7}, "size": (3, 4)},
    {None: 1, True: 2, 1.5: [(), ((1,),)], "dict": {"tuple": [1]}},
    (1, {"pickle": "x"}),
    b"\x00\xff",
    {"pair": Pair(1, 2), "level": Level.LOW, "ordered": collections.OrderedDict(a=1)},
]


def exactly(value: Any) -> Any:
    """The value with all its types."""
    if isinstance(value, dict):
        return type(value), [(exactly(key), exactly(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [exactly(item) for item in value]
    return type(value), value


@pytest.mark.contract("1.1/user_config", "4.1/reconfigure-value")
@pytest.mark.parametrize("value", [*PLAIN, *TYPED])
def test_it_arrives_as_it_was_written(value: Any) -> None:
    text = _user_config.encode(value)
    assert exactly(_user_config.decode(text)) == exactly(value)
    assert text == _user_config.encode(_user_config.decode(text)), "equal ones are equal text"
    assert text.encode("ascii")


def test_what_json_says_exactly_is_json() -> None:
    for value in PLAIN:
        assert json.loads(_user_config.encode(value)) == value
    assert _user_config.encode(None) == ""
    assert _user_config.decode("") is None
    assert math.isnan(_user_config.decode(_user_config.encode((math.nan,)))[0])


def test_the_text_is_the_same_in_every_process() -> None:
    program = "from eagleray import _user_config; print(_user_config.encode({'a': {1: (b'x', 'y' * 30)}, 2: 'y' * 30}))"
    texts = {subprocess.run([sys.executable, "-c", program], capture_output=True).stdout for _ in range(2)}
    assert texts == {(_user_config.encode({"a": {1: (b"x", "y" * 30)}, 2: "y" * 30}) + "\n").encode()}


@pytest.mark.contract("4.1/reconfigure-value")
def test_reconfigure_gets_it() -> None:
    @serve.deployment
    class Thresholds:
        def reconfigure(self, user_config: Any) -> None:
            self.config = user_config

        def __call__(self) -> Any:
            return self.config

    for value in TYPED:
        with testing.local(Thresholds.options(user_config=value).bind()) as handle:
            assert exactly(handle.remote().result()) == exactly(value)
