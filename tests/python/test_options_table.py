"""The table of deployment options is the native module's; what Python states beside it agrees with it."""

import ast
import dataclasses
import inspect
import sys
from typing import Any

import pytest

from eagleray import _core, serve
from eagleray._driver.build import build
from eagleray.serve._options import CHECKS, DeploymentConfig

ROWS = {row["key"]: row for row in _core.deployment_options()}

# How another value is written of what is no option of its own, or no number.
WRITTEN: dict[str, dict[str, Any]] = {
    "user_config": {"user_config": {"a": 1}},
    "resources": {"ray_actor_options": {"num_cpus": 2}},
    "environment": {"ray_actor_options": {"runtime_env": {"env_vars": {"A": "b"}}}},
    "access_log": {"logging_config": {"enable_access_log": False}},
    "logging": {"logging_config": {"log_level": "DEBUG"}},
    "backpressure_status": {"backpressure_config": {"status_code": 429}},
    "backpressure_retry_after_s": {"backpressure_config": {"retry_after_s": 3}},
}


class Target:
    async def __call__(self) -> str:
        return ""


def deployed(options: dict[str, Any]) -> dict[str, Any]:
    application = serve.deployment(**options)(Target).bind()
    entry: dict[str, Any] = build(application, name="app", route_prefix="/", logging_config=None).spec["deployments"][0]
    return entry


def another(key: str) -> dict[str, Any]:
    """Options with which `key` has another value than by default."""
    if key in WRITTEN:
        return WRITTEN[key]
    default, most = ROWS[key]["default"], ROWS[key]["maximum"]
    return {key: default + 2 if most is None or default + 2 <= most else default / 2}


def test_what_a_user_leaves_out_has_the_default_of_the_table() -> None:
    assert deployed({})["options"] == {key: row["default"] for key, row in ROWS.items()}


@pytest.mark.parametrize("key", ROWS)
def test_an_option_arrives_and_makes_another_version_just_if_its_scope_says_so(key: str) -> None:
    usual, changed = deployed({}), deployed(another(key))
    names = [name for name in ROWS if usual["options"][name] != changed["options"][name]]
    assert names == [key]
    assert (usual["version"] != changed["version"]) == (ROWS[key]["scope"] == "version")


@pytest.mark.parametrize("key", [key for key in ROWS if key in CHECKS and ROWS[key]["minimum"] is not None])
def test_a_value_below_the_range_is_refused_where_it_is_written(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        CHECKS[key](ROWS[key]["minimum"] - 1)


def test_the_places_that_name_options_name_the_same() -> None:
    fields = {field.name for field in dataclasses.fields(DeploymentConfig)} - {"given"}
    assert fields == set(CHECKS)
    assert ROWS.keys() - WRITTEN.keys() <= fields
    source = inspect.getsource(sys.modules[serve.Deployment.__module__])
    functions = [node for node in ast.parse(source).body if is_decorator(node)]
    (typed,) = [node for node in functions if node.args.kwonlyargs]
    assert {argument.arg for argument in typed.args.kwonlyargs} == fields | {"name"}


def is_decorator(node: ast.stmt) -> Any:
    return isinstance(node, ast.FunctionDef) and node.name == "deployment"
