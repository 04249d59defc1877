"""Options of deployments and arguments of `serve`: what is taken, and how what is not taken is refused."""

import logging
import pickle
import re
from pathlib import Path

import pytest

from eagleray import serve
from eagleray.serve._limits import LIMITS
from eagleray.serve.config import BackpressureConfig, HTTPOptions
from eagleray.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError
from eagleray.serve.handle import DeploymentHandle
from eagleray.serve.schema import (
    ApplicationStatus,
    DeploymentStatus,
    DeploymentStatusTrigger,
    LoggingConfig,
    ProxyStatus,
    ReplicaState,
)


class Target:
    def __init__(self, value: int = 0) -> None: ...


def function() -> None: ...


@pytest.mark.contract("1.1/usage", "1.1/name", "1.1/num_replicas", "1.1/max_ongoing_requests", "2/properties", "2/repr")
def test_the_decorator_works_bare_and_with_options() -> None:
    bare = serve.deployment(Target)
    assert isinstance(bare, serve.Deployment)
    assert (bare.name, bare.num_replicas, bare.max_ongoing_requests, bare.max_queued_requests) == ("Target", 1, 5, -1)
    assert (bare.user_config, bare.version, bare.init_args, bare.init_kwargs) == (None, None, (), {})
    assert repr(bare) == "Deployment(name=Target)"

    named = serve.deployment(name="other", num_replicas=3, user_config={"a": [1]})(Target)
    assert (named.name, named.num_replicas, named.user_config, named.func_or_class) == ("other", 3, {"a": [1]}, Target)
    assert serve.deployment(function).name == "function"


@pytest.mark.contract("2/options", "2/equality")
def test_options_inherits_what_is_not_given() -> None:
    first = serve.deployment(num_replicas=3, max_ongoing_requests=7)(Target)
    second = first.options(num_replicas=4, name="second")
    assert (first.name, first.num_replicas) == ("Target", 3)
    assert (second.name, second.num_replicas, second.max_ongoing_requests) == ("second", 4, 7)
    assert first == serve.deployment(num_replicas=3, max_ongoing_requests=7)(Target)
    assert first != second


@pytest.mark.contract(
    "1.1/name",
    "1.1/version",
    "1.1/num_replicas",
    "1.1/ray_actor_options",
    "1.1/user_config",
    "1.1/max_ongoing_requests",
    "1.1/max_queued_requests",
    "1.1/backpressure_config",
    "1.1/graceful_shutdown_wait_loop_s",
    "1.1/graceful_shutdown_timeout_s",
    "1.1/health_check_period_s",
    "1.1/health_check_timeout_s",
    "1.1/logging_config",
    "1.1/max_constructor_retry_count",
)
@pytest.mark.contract("1.1/unknown", "G/1", better="an unknown key is refused with the nearest one named")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": 3}, TypeError),
        ({"name": "a#b"}, ValueError),
        ({"version": "1"}, ValueError),
        ({"num_replicas": 0}, ValueError),
        ({"num_replicas": -1}, ValueError),
        ({"num_replicas": "many"}, ValueError),
        ({"max_ongoing_requests": None}, ValueError),
        ({"max_ongoing_requests": 0}, ValueError),
        ({"max_ongoing_requests": True}, ValueError),
        ({"max_queued_requests": 0}, ValueError),
        ({"max_queued_requests": -2}, ValueError),
        ({"user_config": {1, 2}}, ValueError),
        ({"backpressure_config": {"status_code": 500}}, ValueError),
        ({"backpressure_config": {"retry_after_s": -1}}, ValueError),
        ({"backpressure_config": {"retry_after_s": float("inf")}}, ValueError),
        ({"backpressure_config": {"status": 503}}, ValueError),
        ({"graceful_shutdown_wait_loop_s": -1}, ValueError),
        ({"graceful_shutdown_timeout_s": float("nan")}, ValueError),
        ({"health_check_period_s": 0}, ValueError),
        ({"health_check_timeout_s": "soon"}, ValueError),
        ({"hang_timeout_s": 0}, ValueError),
        ({"max_body_bytes": 0}, ValueError),
        ({"max_body_bytes": None}, ValueError),
        ({"hang_timeout_s": "never"}, ValueError),
        ({"max_constructor_retry_count": 0}, ValueError),
        ({"ray_actor_options": []}, TypeError),
        ({"ray_actor_options": {"cpus": 1}}, ValueError),
        ({"ray_actor_options": {"num_cpus": -1}}, ValueError),
        ({"ray_actor_options": {"num_gpus": 1.5}}, ValueError),
        ({"ray_actor_options": {"memory": 1e300}}, ValueError),
        ({"ray_actor_options": {"num_gpus": float("nan")}}, ValueError),
        (
            {"ray_actor_options": {"num_gpus": 1, "runtime_env": {"env_vars": {"CUDA_VISIBLE_DEVICES": "0"}}}},
            ValueError,
        ),
        ({"ray_actor_options": {"resources": {"x": "1"}}}, TypeError),
        ({"ray_actor_options": {"runtime_env": {"env_vars": {"A": 1}}}}, TypeError),
        ({"ray_actor_options": {"runtime_env": {"env_vars": {"EAGLERAY_NODE": "x"}}}}, ValueError),
        ({"logging_config": "INFO"}, TypeError),
        ({"logging_config": {"level": "INFO"}}, ValueError),
        ({"num_replica": 2}, TypeError),
    ],
)
def test_a_wrong_option_is_refused_where_it_is_written(options: dict[str, object], error: type[Exception]) -> None:
    (name,) = options
    with pytest.raises(error, match=name):
        serve.deployment(**options)(Target)
    with pytest.raises(error):
        serve.deployment(Target).options(**options)


@pytest.mark.contract("1.1/num_replicas", "1.1/max_queued_requests", "1.1/backpressure_config", "1.1/logging_config")
@pytest.mark.contract("1.1/ray_actor_options-num_cpus", better="nothing is reserved on one machine unless it is stated")
def test_values_that_ray_serve_takes_are_taken() -> None:
    taken = serve.deployment(
        num_replicas=None,
        max_queued_requests="5",
        backpressure_config={"status_code": 429, "retry_after_s": 1.5},
        ray_actor_options={
            "num_cpus": 0.5,
            "num_gpus": 0,
            "memory": 100,
            "resources": {"disk": 2},
            "runtime_env": {"env_vars": {"A": "b"}},
        },
        logging_config={"enable_access_log": False},
        autoscaling_config=None,
        placement_group_bundles=None,
    )(Target)
    assert (taken.num_replicas, taken.max_queued_requests) == (1, 5)
    assert taken.backpressure_config == BackpressureConfig(status_code=429, retry_after_s=1.5)
    assert taken._config.resources == {"num_cpus": 0.5, "memory": 100.0, "disk": 2.0}
    assert taken._config.env_vars == {"A": "b"}
    assert taken.logging_config == LoggingConfig(enable_access_log=False)


@pytest.mark.contract("2/direct", "1.1/target")
def test_a_deployment_is_neither_made_nor_called_directly() -> None:
    with pytest.raises(RuntimeError, match=r"serve\.deployment"):
        serve.Deployment("x", Target, serve.deployment(Target)._config)
    with pytest.raises(RuntimeError, match="bind"):
        serve.deployment(Target)()
    with pytest.raises(TypeError, match="class or a function"):
        serve.deployment(3)
    with pytest.raises(TypeError, match="already"):
        serve.deployment(serve.deployment(Target))


@pytest.mark.contract("2/bind", "2/bind-function")
def test_functions_take_no_bound_arguments() -> None:
    assert isinstance(serve.deployment(function).bind(), serve.Application)
    with pytest.raises(ValueError, match="function"):
        serve.deployment(function).bind(1)


@pytest.mark.contract("1.5/run-target", "1.5/run-name", "1.5/run-route_prefix")
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"target": Target}, TypeError, "Application"),
        ({"target": serve.deployment(Target)}, TypeError, "bind"),
        ({"name": ""}, RayServeException, "name"),
        ({"name": 3}, TypeError, "name"),
        ({"route_prefix": "x"}, ValueError, "route_prefix"),
        ({"route_prefix": "/x/"}, ValueError, "route_prefix"),
        ({"route_prefix": "/{x}"}, ValueError, "route_prefix"),
        ({"external_scaler_enabled": 1}, ValueError, "external_scaler_enabled"),
        ({"logging_config": 3}, TypeError, "logging_config"),
    ],
)
def test_serve_run_checks_its_arguments_before_it_starts_anything(
    arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        serve.run(**{"target": serve.deployment(Target).bind(), **arguments})


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("route_prefix", "an application has one: serve.run"),
        ("num_gpus", "it goes into ray_actor_options"),
        ("max_replicas", "it goes into autoscaling_config"),
        ("num_replica", "did you mean 'num_replicas'"),
    ],
)
def test_an_option_of_older_programs_is_refused_with_its_place(option: str, words: str) -> None:
    with pytest.raises(TypeError, match=f"no option '{option}'; {words}"):
        serve.deployment(**{option: 1})(Target)  # type: ignore[call-overload]


def test_a_detached_start_is_told_what_outlives_scripts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EAGLERAY_SERVE_FORCE_LOCAL_TESTING_MODE", "1")
    monkeypatch.setattr(logging.getLogger("eagleray.serve"), "handlers", [caplog.handler])
    serve.start(detached=True)
    assert "for a node that outlives scripts, run `eagleray start`" in caplog.text


@pytest.mark.contract("1.5/start-renamed", "1.5/start-controller_options")
@pytest.mark.contract("1.5/start-unknown", better="an unknown option of start raises TypeError")
@pytest.mark.contract("G/18", better="a TLS key without its certificate raises ValueError")
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"http_port": 1}, ValueError, "http_options"),
        ({"htpp_options": {}}, TypeError, "htpp_options"),
        ({"http_options": {"prot": 1}}, ValueError, "port"),
        ({"http_options": {"port": 70000}}, ValueError, "port"),
        ({"http_options": {"request_timeout_s": 0}}, ValueError, "request_timeout_s"),
        ({"http_options": {"keep_alive_timeout_s": "soon"}}, ValueError, "keep_alive_timeout_s"),
        ({"http_options": {"limits": {"header_byte": 9000}}}, ValueError, "'header_bytes'"),
        ({"http_options": {"limits": {"header_count": 0}}}, ValueError, "whole number from 1 to 10000, got 0"),
        ({"http_options": {"limits": {"body_idle_s": "soon"}}}, ValueError, "body_idle_s must be a number"),
        ({"http_options": {"limits": {"memory_drain_percent": 95}}}, ValueError, "must not fall"),
        ({"http_options": {"limits": 3}}, TypeError, "mapping"),
        ({"http_options": {"trusted_proxies": ["10.0.0.0/33"]}}, ValueError, "10.0.0.0/33"),
        ({"http_options": {"trusted_proxies": "10.0.0.1"}}, TypeError, "list"),
        ({"http_options": {"allowed_hosts": ["localhost", "a:80"]}}, ValueError, "'a:80'"),
        ({"http_options": {"allowed_hosts": ["*"]}}, ValueError, "'*'"),
        ({"http_options": {"allowed_hosts": "localhost"}}, TypeError, "list"),
        ({"http_options": {"ssl_certfile": "x"}}, ValueError, "ssl_keyfile go together"),
        ({"http_options": {"ssl_certfile": 3, "ssl_keyfile": "x"}}, ValueError, "ssl_certfile must be the path"),
        ({"http_options": {"ssl_ca_certs": "x"}}, ValueError, "needs ssl_certfile"),
        ({"http_options": {"ssl_keyfile_password": "x"}}, ValueError, "openssl pkey"),
        ({"http_options": 8000}, TypeError, "http_options"),
        ({"grpc_options": {"grpc_servicer_functions": ["a:b"]}}, ValueError, "grpc_options"),
        ({"grpc_options": {"prot": 1}}, ValueError, "'port'"),
        ({"logging_config": {"log_level": "DEBUG"}}, ValueError, "give it to serve.run"),
        ({"tracing_config": {"enabled": True}}, ValueError, "tracing"),
        ({"controller_options": 3}, TypeError, "controller_options"),
        ({"controller_options": {"runtime_env": {"pip": []}}}, ValueError, "'pip'"),
        ({"controller_options": {"runtime_env": {"env_vars": {"A": "b"}}}}, ValueError, "where the node is started"),
        ({"proxy_location": "Nowhere"}, ValueError, "Nowhere"),
    ],
)
def test_serve_start_checks_its_arguments(arguments: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        serve.start(**arguments)


def test_every_problem_of_limits_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)uri_bytes.*'connections'"):
        HTTPOptions(limits={"uri_bytes": True, "connection": 3})
    assert HTTPOptions(limits={"header_count": 200, "body_idle_s": 0.5}).limits["header_count"] == 200
    assert HTTPOptions(request_timeout_s=-1).request_timeout_s is None, "a negative one is none, as in Ray Serve"


def test_the_page_of_limits_has_what_python_checks() -> None:
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \|", page, re.MULTILINE)
    assert len(rows) == len(LIMITS)
    for key, *numbers in rows:
        assert tuple(map(float, numbers)) == LIMITS[key][:3], key


@pytest.mark.contract("10.1/http-host", better="`EAGLERAY_SERVE_DEFAULT_HTTP_HOST`, and one for the port")
@pytest.mark.contract("G/23")
def test_http_defaults_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EAGLERAY_SERVE_DEFAULT_HTTP_PORT", raising=False)
    monkeypatch.delenv("EAGLERAY_SERVE_DEFAULT_HTTP_HOST", raising=False)
    assert (HTTPOptions().host, HTTPOptions().port) == ("127.0.0.1", 8000)
    monkeypatch.setenv("EAGLERAY_SERVE_DEFAULT_HTTP_PORT", "0")
    monkeypatch.setenv("EAGLERAY_SERVE_DEFAULT_HTTP_HOST", "::1")
    assert (HTTPOptions().host, HTTPOptions().port) == ("::1", 0)
    monkeypatch.setenv("EAGLERAY_SERVE_DEFAULT_HTTP_PORT", "http")
    with pytest.raises(ValueError, match="EAGLERAY_SERVE_DEFAULT_HTTP_PORT"):
        HTTPOptions()


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute"):
        serve.nonsense  # type: ignore[attr-defined]


@pytest.mark.contract("1.5/get_replica_context")
def test_outside_a_replica_there_is_no_replica_context() -> None:
    with pytest.raises(RayServeException, match="replica"):
        serve.get_replica_context()


@pytest.mark.contract("3.6/pickle")
def test_exceptions_survive_pickling() -> None:
    for error in (BackPressureError(3, 2, 429, 1.0), RequestCancelledError("id"), RayServeException("text")):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.contract("8/words")
def test_status_words_are_strings() -> None:
    assert ApplicationStatus("RUNNING") == "RUNNING"
    words = {
        ApplicationStatus: "NOT_STARTED DEPLOYING DEPLOY_FAILED RUNNING UNHEALTHY DELETING",
        DeploymentStatus: "UPDATING HEALTHY UNHEALTHY DEPLOY_FAILED UPSCALING DOWNSCALING",
        DeploymentStatusTrigger: (
            "UNSPECIFIED CONFIG_UPDATE_STARTED CONFIG_UPDATE_COMPLETED UPSCALE_COMPLETED DOWNSCALE_COMPLETED "
            "AUTOSCALING REPLICA_STARTUP_FAILED DEPLOYMENT_ACTOR_FAILED HEALTH_CHECK_FAILED INTERNAL_ERROR DELETING"
        ),
        ReplicaState: "STARTING UPDATING RECOVERING RUNNING STOPPING STOPPED PENDING_MIGRATION",
        ProxyStatus: "STARTING HEALTHY UNHEALTHY DRAINING DRAINED",
    }
    for kind, expected in words.items():
        assert {one.value for one in kind} == set(expected.split())
        assert all(one.name == one.value and isinstance(one, str) for one in kind)


@pytest.mark.contract("3.1/options", "3.1/attributes")
def test_a_handle_keeps_its_names_and_options_when_pickled() -> None:
    handle = DeploymentHandle("Model", "app").options(method_name="predict", session_id="s")
    copy = pickle.loads(pickle.dumps(handle))
    assert copy == handle
    assert (copy.deployment_name, copy.app_name, copy._options) == (
        "Model",
        "app",
        {"method_name": "predict", "session_id": "s"},
    )
    assert copy.other._options["method_name"] == "other"
    with pytest.raises(TypeError, match="methd"):
        handle.options(methd="x")
