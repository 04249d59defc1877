"""The options that Python knows are those of the one table of the config, with its defaults and ranges."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eagleray._driver import engine
from eagleray.serve import _old_names, _resources
from eagleray.serve._model import REQUIRED, Model
from eagleray.serve._options import CHECKS, DeploymentConfig, configure
from eagleray.serve.config import (
    AutoscalingConfig,
    AutoscalingPolicy,
    BackpressureConfig,
    DeploymentActorConfig,
    GangSchedulingConfig,
    HTTPOptions,
    RequestRouterConfig,
    gRPCOptions,
)
from eagleray.serve.schema import LoggingConfig, TracingConfig

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "config.schema.json").read_text())
APPLICATION: dict[str, Any] = SCHEMA["properties"]["applications"]["items"]
DEPLOYMENT: dict[str, Any] = APPLICATION["properties"]["deployments"]["items"]


def bare(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without what makes null a value too."""
    for choice in schema.get("anyOf", ()):
        if choice != {"type": "null"}:
            found: dict[str, Any] = bare(choice)
            return found
    return schema


def inner(schema: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The schema of a key within objects and lists."""
    for key in keys:
        schema = bare(bare(schema)["properties"][key])
        schema = bare(schema.get("items", schema))
    return schema


def today(schema: dict[str, Any]) -> dict[str, Any]:
    """The keys that are no old names."""
    return {name: key for name, key in schema["properties"].items() if not key.get("deprecated")}


MODELS: list[tuple[type[Model], dict[str, Any]]] = [
    (AutoscalingConfig, inner(DEPLOYMENT, "autoscaling_config")),
    (AutoscalingPolicy, inner(DEPLOYMENT, "autoscaling_config", "policy")),
    (BackpressureConfig, inner(DEPLOYMENT, "backpressure_config")),
    (DeploymentActorConfig, inner(DEPLOYMENT, "deployment_actors")),
    (GangSchedulingConfig, inner(DEPLOYMENT, "gang_scheduling_config")),
    (LoggingConfig, inner(DEPLOYMENT, "logging_config")),
    (LoggingConfig, inner(SCHEMA, "logging_config")),
    (RequestRouterConfig, inner(DEPLOYMENT, "request_router_config")),
    (TracingConfig, inner(SCHEMA, "tracing_config")),
    (gRPCOptions, inner(SCHEMA, "grpc_options")),
]


@pytest.mark.parametrize(("model", "schema"), MODELS, ids=[model.__name__ for model, _ in MODELS])
def test_an_object_has_the_keys_and_the_defaults_of_the_table(model: type[Model], schema: dict[str, Any]) -> None:
    keys = today(schema)
    assert set(model._options) == set(keys)
    for name, option in model._options.items():
        assert (option.default is REQUIRED) == (name in schema.get("required", ())), name
        if option.default is not REQUIRED:
            default = option.default() if isinstance(option.default, type) else option.default
            stated = default.model_dump(exclude_unset=True) if isinstance(default, Model) else default
            assert stated == keys[name]["default"], name


def numbers() -> Iterator[tuple[type[Model], str, dict[str, Any]]]:
    for model, schema in MODELS:
        for name, key in today(schema).items():
            if bare(key).get("type") in ("integer", "number"):
                yield model, name, bare(key)


@pytest.mark.parametrize(("model", "name", "key"), list(numbers()))
def test_a_number_has_the_range_of_the_table(model: type[Model], name: str, key: dict[str, Any]) -> None:
    check = model._options[name].check
    if model is gRPCOptions and name == "request_timeout_s":
        return  # no range: nobody obeys it yet
    least = key.get("minimum", key.get("exclusiveMinimum"))
    assert least is not None
    with pytest.raises(ValueError, match=name):
        check(name, least - 1)
    if "exclusiveMinimum" in key:
        with pytest.raises(ValueError, match=name):
            check(name, least)
    else:
        check(name, least)
    if "maximum" in key and key["maximum"] < 2**31 - 1:
        check(name, key["maximum"])
        with pytest.raises(ValueError, match=name):
            check(name, key["maximum"] + 1)


def test_a_deployment_has_the_options_and_the_defaults_of_the_table() -> None:
    keys = today(DEPLOYMENT)
    assert set(CHECKS) == set(keys) - {"name"}
    standard = DeploymentConfig()
    for name in CHECKS:
        value = getattr(standard, name)
        stated = value.model_dump(exclude_unset=True) if isinstance(value, Model) else value
        assert stated == keys[name]["default"], name


def test_resources_and_environments_have_the_keys_of_the_table() -> None:
    assert set(_resources.ACTOR_OPTIONS) == set(today(inner(DEPLOYMENT, "ray_actor_options")))
    assert set(_resources.RUNTIME_ENV_KEYS) == set(today(inner(DEPLOYMENT, "ray_actor_options", "runtime_env")))
    assert set(_resources.RUNTIME_ENV_KEYS) == set(today(inner(APPLICATION, "runtime_env")))
    strategies = inner(DEPLOYMENT, "placement_group_strategy")["enum"]
    assert set(_resources.STRATEGIES) == set(strategies)


def test_http_options_have_the_keys_and_the_defaults_of_the_table() -> None:
    keys = today(inner(SCHEMA, "http_options"))
    # A script's own: where the proxy runs stands beside them in a file, and the others are refused.
    of_scripts = {"location", "middlewares", "num_cpus", "root_url"}
    assert {field.name for field in dataclasses.fields(HTTPOptions)} == set(keys) | of_scripts
    # A script listens on loopback, and a file is for a server; the port may come from the environment.
    standard = HTTPOptions(port=8000, host="0.0.0.0")
    for name in keys:
        value = getattr(standard, name)
        assert (list(value) if isinstance(value, tuple) else value) == keys[name]["default"], name


#: How each option is written that a file cannot have yet.
NOT_YET: dict[str, dict[str, Any]] = {
    "placement_group_bundles": {"placement_group_bundles": [{"CPU": 1}]},
    "placement_group_strategy": {"placement_group_bundles": [{"CPU": 1}], "placement_group_strategy": "SPREAD"},
    "placement_group_bundle_label_selector": {
        "placement_group_bundles": [{"CPU": 1}],
        "placement_group_bundle_label_selector": [{"a": "b"}],
    },
    "gang_scheduling_config": {"gang_scheduling_config": {"gang_size": 1}},
    "deployment_actors": {"deployment_actors": [{"name": "a", "actor_class": "m:A"}]},
    "logging_config.logs_dir": {"logging_config": {"logs_dir": "/var/log"}},
    "request_router_config.request_router_class": {
        "request_router_config": {"request_router_class": "json:JSONDecoder"}
    },
    "ray_actor_options.accelerator_type": {"ray_actor_options": {"accelerator_type": "A100"}},
    "ray_actor_options.label_selector": {"ray_actor_options": {"label_selector": {"a": "b"}}},
    "ray_actor_options.fallback_strategy": {"ray_actor_options": {"fallback_strategy": [{}]}},
    **{
        f"ray_actor_options.runtime_env.{key}": {"ray_actor_options": {"runtime_env": {key: ["x"]}}}
        for key in _resources.RUNTIME_ENV_KEYS
        if key != "env_vars"
    },
}


def not_yet(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """The keys of a deployment that the table says are not available."""
    for name, key in today(schema).items():
        if "Not available in this release" in key["description"]:
            yield path + name
        elif "properties" in bare(key):
            yield from not_yet(bare(key), f"{path}{name}.")


def test_what_a_file_cannot_have_yet_a_script_cannot_have_either() -> None:
    assert set(not_yet(DEPLOYMENT)) == set(NOT_YET)
    for key, options in NOT_YET.items():
        # Of options that need another, that one is named.
        with pytest.raises(
            ValueError, match=f"(?s)cannot carry out:.*({key.rpartition('.')[2]}|{next(iter(options))})"
        ):
            engine.refuse([("D", configure(DeploymentConfig(), options))])
    engine.refuse([("D", configure(DeploymentConfig(), {"ray_actor_options": {"num_cpus": 1, "num_gpus": 0}}))])


@pytest.mark.parametrize(
    ("called", "schema"),
    [("serve.deployment", DEPLOYMENT), ("autoscaling_config", inner(DEPLOYMENT, "autoscaling_config"))],
)
def test_the_old_names_of_files_are_old_names_in_python_too(called: str, schema: dict[str, Any]) -> None:
    old = {name for name, key in schema["properties"].items() if key.get("deprecated")}
    assert old
    assert old <= _old_names.RENAMED[called].keys()
