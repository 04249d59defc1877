"""Options of deployments that stand for more than a number: placement, scaling, routers, gangs, actors, rollouts."""

import json
import pickle
import subprocess
import sys
from typing import Any

import pytest

from eagleray import serve
from eagleray._driver import engine
from eagleray._driver.build import build
from eagleray.serve.config import (
    AutoscalingConfig,
    BackpressureConfig,
    ControllerOptions,
    DeploymentActorConfig,
    GangSchedulingConfig,
    RequestRouterConfig,
    gRPCOptions,
)
from eagleray.serve.schema import EncodingType, LoggingConfig, TracingConfig


class Target:
    async def __call__(self) -> str:
        return ""


BUNDLE = {"placement_group_bundles": [{"CPU": 1}]}

REFUSED: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("num_replicas-autoscaling", {"num_replicas": 2, "autoscaling_config": {}}, ValueError, "exclude each other"),
    ("autoscaling_config", {"autoscaling_config": 3}, ValueError, "must be a AutoscalingConfig or a dict"),
    ("autoscaling_config", {"autoscaling_config": {"min_replicas": -1}}, ValueError, "from 0 to 10000"),
    ("autoscaling_config", {"autoscaling_config": {"min_replicas": 3}}, ValueError, "raise max_replicas"),
    ("autoscaling_config", {"autoscaling_config": {"initial_replicas": 9}}, ValueError, "initial_replicas"),
    ("autoscaling_config", {"autoscaling_config": {"max_replicas": 0}}, ValueError, "max_replicas"),
    ("autoscaling_config", {"autoscaling_config": {"target_ongoing_requests": 0}}, ValueError, "above 0"),
    ("autoscaling_config", {"autoscaling_config": {"upscale_delay_s": -1}}, ValueError, "upscale_delay_s"),
    ("autoscaling_config", {"autoscaling_config": {"upscaling_factor": 0}}, ValueError, "upscaling_factor"),
    ("autoscaling_config", {"autoscaling_config": {"aggregation_function": "median"}}, ValueError, "'mean'"),
    ("autoscaling_config", {"autoscaling_config": {"policy": {"policy_kwargs": {"a": {1}}}}}, ValueError, "JSON"),
    ("autoscaling_config", {"autoscaling_config": {"policy": {"function": "a:b"}}}, ValueError, "'policy_function'"),
    ("placement_group_bundles", {"placement_group_bundles": []}, ValueError, "list of dicts"),
    ("placement_group_bundles", {"placement_group_bundles": [{"CPU": 0}]}, ValueError, "at least"),
    ("placement_group_bundles", {**BUNDLE, "ray_actor_options": {"num_cpus": 2}}, ValueError, "first bundle"),
    ("placement_group_bundles", {**BUNDLE, "ray_actor_options": {"resources": {"a": 1}}}, ValueError, "first bundle"),
    ("placement_group_bundles-per-node", {**BUNDLE, "max_replicas_per_node": 1}, ValueError, "SPREAD"),
    ("placement_group_strategy", {"placement_group_strategy": "PACK"}, ValueError, "needs placement_group_bundles"),
    ("placement_group_strategy", {**BUNDLE, "placement_group_strategy": "TIGHT"}, ValueError, "STRICT_SPREAD"),
    (
        "placement_group_strategy",
        {**BUNDLE, "placement_group_strategy": "PACK", "gang_scheduling_config": {"gang_size": 1}},
        ValueError,
        "exclude each other",
    ),
    (
        "placement_group_bundle_label_selector",
        {"placement_group_bundle_label_selector": [{"a": "b"}]},
        ValueError,
        "needs placement_group_bundles",
    ),
    (
        "placement_group_bundle_label_selector",
        {"placement_group_bundles": [{"CPU": 1}] * 3, "placement_group_bundle_label_selector": [{"a": "b"}] * 2},
        ValueError,
        "one for each",
    ),
    ("max_replicas_per_node", {"max_replicas_per_node": "1"}, TypeError, "max_replicas_per_node"),
    ("max_replicas_per_node", {"max_replicas_per_node": 0}, ValueError, "1 to 100"),
    ("max_replicas_per_node", {"max_replicas_per_node": 101}, ValueError, "1 to 100"),
    (
        "max_replicas_per_node",
        {"max_replicas_per_node": 1, "gang_scheduling_config": {"gang_size": 1}},
        ValueError,
        "exclude each other",
    ),
    ("logging_config", {"logging_config": {"log_level": "LOUD"}}, ValueError, "log_level must be one of"),
    ("logging_config", {"logging_config": {"encoding": "XML"}}, ValueError, "'TEXT', 'JSON'"),
    ("logging_config", {"logging_config": {"enable_access_log": 1}}, ValueError, "True or False"),
    ("request_router_config", {"request_router_config": {"request_router_class": "no"}}, ValueError, "module:name"),
    (
        "request_router_config",
        {"request_router_config": {"request_router_class": "no_such_module:Router"}},
        ModuleNotFoundError,
        "no_such_module",
    ),
    ("request_router_config", {"request_router_config": {"request_router_class": "json:Router"}}, ImportError, "json"),
    ("request_router_config", {"request_router_config": {"request_router_kwargs": {"a": {1}}}}, ValueError, "JSON"),
    ("request_router_config", {"request_router_config": {"max_backoff_s": 0}}, ValueError, "above 0"),
    ("gang_scheduling_config", {"gang_scheduling_config": {}}, ValueError, "needs gang_size"),
    ("gang_scheduling_config", {"gang_scheduling_config": {"gang_size": 2}}, ValueError, "multiple"),
    (
        "gang_scheduling_config",
        {"gang_scheduling_config": {"gang_size": 1, "runtime_failure_policy": "RESTART_REPLICA"}},
        NotImplementedError,
        "use RESTART_GANG",
    ),
    ("deployment_actors", {"deployment_actors": {}}, ValueError, "must be a list"),
    ("deployment_actors", {"deployment_actors": [{"name": "a"}]}, ValueError, "needs actor_class"),
    (
        "deployment_actors",
        {"deployment_actors": [{"name": "a", "actor_class": "m:A"}, {"name": "a", "actor_class": "m:B"}]},
        ValueError,
        "two actors named 'a'",
    ),
    ("rolling_update_percentage", {"rolling_update_percentage": 0}, ValueError, "above 0 and at most 1"),
    ("rolling_update_percentage", {"rolling_update_percentage": 1.5}, ValueError, "at most 1"),
    ("max_surge_percent", {"max_surge_percent": -1}, ValueError, "from 0 to 100"),
    ("max_surge_percent", {"max_surge_percent": 101}, ValueError, "from 0 to 100"),
]


@pytest.mark.contract(
    "1.1/num_replicas-autoscaling",
    "1.1/autoscaling_config",
    "1.1/placement_group_bundles",
    "1.1/placement_group_bundles-per-node",
    "1.1/placement_group_strategy",
    "1.1/placement_group_bundle_label_selector",
    "1.1/max_replicas_per_node",
    "1.1/logging_config",
    "1.1/request_router_config",
    "1.1/gang_scheduling_config",
    "1.1/deployment_actors",
    "1.1/rolling_update_percentage",
    "1.1/max_surge_percent",
)
@pytest.mark.parametrize(("row", "options", "error", "words"), REFUSED)
def test_a_wrong_option_is_refused_with_what_to_write_instead(
    row: str, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        serve.deployment(**options)(Target)
    assert row.partition("-")[0] in str(raised.value) or issubclass(error, ImportError)
    with pytest.raises(error, match=words):
        serve.deployment(Target).options(**options)


UNKNOWN: list[tuple[str, dict[str, Any], str]] = [
    ("autoscaling_config", {"autoscaling_config": {"min_replica": 1}}, "'min_replicas'"),
    ("backpressure_config", {"backpressure_config": {"status": 503}}, "'status_code'"),
    ("logging_config", {"logging_config": {"level": "INFO"}}, "'log_level'"),
    ("request_router_config", {"request_router_config": {"router_class": "a:b"}}, "'request_router_class'"),
    ("gang_scheduling_config", {"gang_scheduling_config": {"size": 1}}, "'gang_size'"),
    ("deployment_actors", {"deployment_actors": [{"names": "a"}]}, "'name'"),
    ("ray_actor_options", {"ray_actor_options": {"num_cpu": 1}}, "'num_cpus'"),
    ("ray_actor_options", {"ray_actor_options": {"runtime_env": {"env_var": {}}}}, "'env_vars'"),
]


@pytest.mark.contract("G/1", "1.1/autoscaling_config-unknown", better="unknown keys are refused, the nearest is named")
@pytest.mark.parametrize(("option", "options", "nearest"), UNKNOWN)
def test_an_unknown_key_is_refused_with_the_nearest_one(option: str, options: dict[str, Any], nearest: str) -> None:
    with pytest.raises(ValueError, match=f"in {option}.*; did you mean {nearest}"):
        serve.deployment(**options)(Target)


def test_the_defaults_are_those_that_users_know() -> None:
    config = serve.deployment(Target)._config
    assert config.backpressure_config == BackpressureConfig(status_code=503, retry_after_s=None)
    assert (config.autoscaling_config, config.max_replicas_per_node, config.deployment_actors) == (None, None, None)
    assert (config.placement_group_bundles, config.placement_group_strategy, config.gang_scheduling_config) == (
        None,
        None,
        None,
    )
    assert (config.rolling_update_percentage, config.max_surge_percent) == (0.2, 0)
    assert (config.graceful_shutdown_wait_loop_s, config.graceful_shutdown_timeout_s) == (2, 20)
    assert (config.health_check_period_s, config.health_check_timeout_s) == (10, 30)
    assert config.max_constructor_retry_count == 20
    scaling = AutoscalingConfig()
    assert (scaling.min_replicas, scaling.initial_replicas, scaling.max_replicas) == (1, None, 1)
    assert (scaling.target_ongoing_requests, scaling.metrics_interval_s, scaling.look_back_period_s) == (2, 10, 30)
    assert (scaling.upscale_delay_s, scaling.downscale_delay_s, scaling.downscale_to_zero_delay_s) == (30, 600, None)
    assert (scaling.smoothing_factor, scaling.upscaling_factor, scaling.downscaling_factor) == (1, None, None)
    assert scaling.aggregation_function == "mean"
    assert scaling.policy.policy_function == "eagleray.serve.autoscaling_policy:default_autoscaling_policy"
    assert LoggingConfig().model_dump() == {
        "encoding": "TEXT",
        "log_level": "INFO",
        "logs_dir": None,
        "enable_access_log": True,
        "additional_log_standard_attrs": [],
    }
    assert gRPCOptions().model_dump() == {
        "port": 9000,
        "grpc_servicer_functions": [],
        "request_timeout_s": None,
        "enable_reflection": True,
    }
    router = RequestRouterConfig()
    assert (router.initial_backoff_s, router.backoff_multiplier, router.max_backoff_s) == (0.025, 2, 0.5)
    assert (router.request_routing_stats_period_s, router.request_routing_stats_timeout_s) == (10, 30)


@pytest.mark.contract("1.1/unset")
def test_what_is_not_given_differs_from_none_and_is_remembered() -> None:
    assert serve.deployment(Target)._config.given == frozenset()
    first = serve.deployment(user_config=None, num_replicas=None)(Target)
    assert first._config.given == {"user_config", "num_replicas"}
    second = first.options(max_ongoing_requests=3)
    assert second._config.given == {"user_config", "num_replicas", "max_ongoing_requests"}
    assert serve.deployment(user_config={"a": 1})(Target).options(user_config=None).user_config is None


@pytest.mark.contract("1.1/auto", "1.1/auto-max_ongoing_requests", "1.1/auto-plain")
def test_auto_is_one_to_a_hundred_and_what_is_given_over_it() -> None:
    auto = serve.deployment(num_replicas="auto")(Target)
    scaling = auto._config.autoscaling_config
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (1, 100, 2)
    assert (auto.max_ongoing_requests, auto.num_replicas) == (5, 1)

    over = serve.deployment(num_replicas="auto", autoscaling_config={"min_replicas": 3})(Target)._config
    assert over.autoscaling_config is not None
    assert (over.autoscaling_config.min_replicas, over.autoscaling_config.max_replicas) == (3, 100)

    plain = serve.deployment(autoscaling_config={"min_replicas": 0})(Target)._config
    assert plain.autoscaling_config is not None
    assert plain.autoscaling_config.max_replicas == 1


@pytest.mark.contract("2/options", "G/12", better="options takes rolling_update_percentage too")
def test_options_let_the_last_word_count() -> None:
    auto = serve.deployment(num_replicas="auto", name="auto")(Target)
    fixed = auto.options(num_replicas=3)
    assert (fixed.num_replicas, fixed._config.autoscaling_config) == (3, None)
    again = fixed.options(autoscaling_config={"max_replicas": 4})
    assert (again._config.first_replicas, again.num_replicas) == (1, 1)
    assert auto.options(autoscaling_config=None, num_replicas=2).num_replicas == 2
    assert auto.options(rolling_update_percentage=0.5)._config.rolling_update_percentage == 0.5


@pytest.mark.contract("1.1/auto-sent")
@pytest.mark.parametrize(
    ("config", "first"),
    [
        ({}, 1),
        ({"min_replicas": 0, "max_replicas": 3}, 1),
        ({"min_replicas": 2, "max_replicas": 3, "look_back_period_s": 30}, 2),
        ({"min_replicas": 0, "initial_replicas": 3, "max_replicas": 4, "aggregation_function": "max"}, 3),
    ],
)
def test_a_deployment_that_scales_is_sent_with_the_keys_that_are_stated(config: dict[str, Any], first: int) -> None:
    application = serve.deployment(autoscaling_config=config)(Target).bind()
    built = build(application, name="app", route_prefix="/", logging_config=None)
    (sent,) = built.spec["deployments"]
    assert json.loads(sent["autoscaling_config"]) == config
    assert sent["options"]["num_replicas"] == first
    assert built.warnings == []


@pytest.mark.contract("1.1/auto-sent")
def test_a_limit_for_a_node_is_one_for_the_deployment() -> None:
    application = serve.deployment(autoscaling_config={"max_replicas": 5}, max_replicas_per_node=2)(Target).bind()
    built = build(application, name="app", route_prefix="/", logging_config=None)
    assert json.loads(built.spec["deployments"][0]["autoscaling_config"]) == {"max_replicas": 2}
    assert "so it scales up to 2" in built.warnings[0]


@pytest.mark.parametrize("function", ["eagleray", "ray", "itself"])
def test_the_default_policy_may_be_stated(function: str) -> None:
    from eagleray.serve.autoscaling_policy import default_autoscaling_policy

    path = f"{function}.serve.autoscaling_policy:default_autoscaling_policy"
    policy = {"policy_function": default_autoscaling_policy if function == "itself" else path}
    config = serve.deployment(autoscaling_config={"policy": policy})(Target)._config
    engine.refuse([("a", config)])


NOT_HERE: list[tuple[dict[str, Any], str]] = [
    (BUNDLE, "placement groups need a cluster"),
    ({"gang_scheduling_config": {"gang_size": 1}}, "gang_scheduling_config"),
    ({"deployment_actors": [{"name": "a", "actor_class": "m:A"}]}, "there are no actors"),
    ({"request_router_config": {"request_router_class": "json:JSONDecoder"}}, "power of two choices"),
    ({"ray_actor_options": {"accelerator_type": "A100"}}, "accelerator_type"),
    ({"ray_actor_options": {"label_selector": {"zone": "a"}}}, "label_selector"),
    ({"ray_actor_options": {"runtime_env": {"pip": ["x"]}}}, "only env_vars can be set"),
    ({"max_replicas_per_node": 1, "num_replicas": 2}, "there is one node"),
    ({"max_replicas_per_node": 1, "autoscaling_config": {"min_replicas": 2, "max_replicas": 3}}, "there is one node"),
    ({"logging_config": {"logs_dir": "/x"}}, "logs_dir"),
]


@pytest.mark.contract(
    "1.1/placement_group-deploy",
    "1.1/gang_scheduling_config-deploy",
    "1.1/deployment_actors-deploy",
    "1.1/request_router_config-deploy",
)
@pytest.mark.parametrize(("options", "words"), NOT_HERE)
def test_what_this_engine_cannot_do_is_refused_when_it_is_deployed(options: dict[str, Any], words: str) -> None:
    application = serve.deployment(**options)(Target).bind()
    with pytest.raises(ValueError, match=f"(?s)nothing was deployed.*deployment 'Target'.*{words}"):
        build(application, name="app", route_prefix="/", logging_config=None)


def test_all_that_cannot_be_done_is_named_at_once() -> None:
    config = serve.deployment(**BUNDLE, deployment_actors=[{"name": "a", "actor_class": Target}])(Target)._config
    with pytest.raises(ValueError, match=r"(?s)'a': placement_group.*'a': deployment_actors.*'b': placement_group"):
        engine.refuse([("a", config), ("b", config)])


def test_what_has_no_effect_is_named_in_a_warning() -> None:
    quick = serve.deployment(request_router_config={"initial_backoff_s": 0.1})(Target)._config
    assert "initial_backoff_s of request_router_config have no effect" in engine.warnings([("x", quick)])[0]
    assert engine.warnings([("x", serve.deployment(max_replicas_per_node=1)(Target)._config)]) == []


class Recording:
    def record_autoscaling_stats(self) -> dict[str, float]:
        raise AssertionError("nobody asks")

    def record_routing_stats(self) -> dict[str, float]:
        raise AssertionError("nobody asks")


def test_hooks_that_nobody_calls_yet_are_named_in_warnings() -> None:
    def warnings(**options: Any) -> list[str]:
        application = serve.deployment(**options)(Recording).bind()
        return build(application, name="app", route_prefix="/", logging_config=None).warnings

    (routing,) = (line for line in warnings() if "record_" in line)
    assert routing.startswith("deployment 'Recording': record_routing_stats is not called")
    scaled = [line for line in warnings(num_replicas="auto") if "record_" in line]
    assert len(scaled) == 2
    assert any("record_autoscaling_stats is not called yet" in line for line in scaled)
    assert routing in scaled


def test_configuration_objects_check_assignments_too() -> None:
    scaling = AutoscalingConfig(min_replicas=1, max_replicas=4)
    scaling.min_replicas = 2
    assert scaling.model_fields_set == {"min_replicas", "max_replicas"}
    with pytest.raises(ValueError, match="raise max_replicas"):
        scaling.min_replicas = 9
    assert scaling.min_replicas == 2, "a refused value is not kept"
    with pytest.raises(ValueError, match="'max_replicas'"):
        scaling.max_replica = 9  # type: ignore[attr-defined]


def test_configuration_objects_copy_dump_and_pickle() -> None:
    for made in (
        AutoscalingConfig(min_replicas=2, max_replicas=3),
        RequestRouterConfig(max_backoff_s=1),
        GangSchedulingConfig(gang_size=2),
        DeploymentActorConfig(name="a", actor_class=Target),
        LoggingConfig(encoding="json", log_level="debug"),
        TracingConfig(),
        ControllerOptions(runtime_env={"env_vars": {"A": "b"}}),
    ):
        assert pickle.loads(pickle.dumps(made)) == made
        assert made.model_copy() == made
        assert type(made).model_validate(made.model_dump()) == made
        assert type(made).parse_obj(made.dict(exclude_unset=True)) == made
    assert AutoscalingConfig(min_replicas=1).model_copy(update={"min_replicas": 0}).min_replicas == 0
    assert LoggingConfig(encoding="json").encoding is EncodingType.JSON


def test_a_wrong_option_is_what_pydantic_raises_where_pydantic_is_known() -> None:
    program = """
import sys
from eagleray import serve
try:
    serve.deployment(num_replicas=-1)(print)
except ValueError as error:
    print(type(error) is ValueError, "pydantic" in sys.modules)
import pydantic
try:
    serve.deployment(num_replicas=-1)(print)
except pydantic.ValidationError as error:
    print(isinstance(error, ValueError), "num_replicas must be an integer of at least 1, got -1" in str(error))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.stdout.split("\n")[:2] == ["True False", "True True"], run.stderr


def test_a_short_look_back_is_warned_of() -> None:
    with pytest.warns(FutureWarning, match="look_back_period_s"):
        AutoscalingConfig(look_back_period_s=5)
