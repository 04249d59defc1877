"""What a config declares, over the options in code."""

import enum
import math
from typing import Any

import pytest

from eagleray import _user_config
from eagleray._driver import building
from eagleray._driver.declared import merged
from eagleray.serve._options import DeploymentConfig, configure


class Level(enum.IntEnum):
    HIGH = 2


def user_config(code: Any, **declared: Any) -> Any:
    """That of a deployment, with what a config states of it."""
    application = {"import_path": "a:b", "deployments": [{"name": "A", **declared}]}
    over, _ = merged(application, {"A": configure(DeploymentConfig(), {"user_config": code})})
    return over["A"].user_config


@pytest.mark.parametrize("code", [{0: "cat"}, {"a": (1, 2)}, {"a": 2**70}, {"a": math.inf}, {"a": Level.HIGH}, [], 0])
def test_a_user_config_in_code_arrives_as_it_was_written(code: Any) -> None:
    found = user_config(code, max_ongoing_requests=3)
    assert _user_config.encode(found) == _user_config.encode(code)


@pytest.mark.parametrize("declared", [{"b": 1}, None])
def test_a_user_config_in_the_config_takes_the_place_of_that_in_code(declared: Any) -> None:
    assert user_config({0: "cat"}, user_config=declared) == declared


def test_a_failure_can_be_sent_whatever_characters_it_has() -> None:
    said = building._said("build_failed", "no file \udcff", "/tmp/\udcff.py:1", "", "")
    assert said["message"] == "no file \\udcff"
    assert said["place"] == "/tmp/\\udcff.py:1"
