"""Names of older releases of Ray Serve: taken with one warning that says today's, or refused by a message that does."""

import logging
from typing import Any

import pytest

from eagleray import serve
from eagleray.serve import _old_names, config, handle
from eagleray.serve.config import AutoscalingConfig


class Target:
    pass


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("eagleray.serve"), "handlers", [caplog.handler])
    monkeypatch.setattr(_old_names, "_warned", set())
    return caplog


@pytest.mark.contract(
    "1.1/renamed", better="the old name is taken, with a warning, where Ray Serve drops or refuses it"
)
@pytest.mark.parametrize(
    ("old", "value", "today"),
    [
        ("max_concurrent_queries", 7, "max_ongoing_requests"),
        ("_graceful_shutdown_timeout_s", 7, "graceful_shutdown_timeout_s"),
        ("_health_check_period_s", 7, "health_check_period_s"),
    ],
)
def test_an_option_that_was_renamed_is_taken_with_one_warning(
    old: str, value: object, today: str, log: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {old: value}
    for made in (serve.deployment(**options)(Target), serve.deployment(Target).options(**options)):
        assert getattr(made._config, today) == value
        assert today in made._config.given
    assert len(log.records) == 1, "one warning for a process"
    assert f"write {today}" in log.text


@pytest.mark.contract(
    "1.1/renamed", better="the old name is taken, with a warning, where Ray Serve drops or refuses it"
)
@pytest.mark.parametrize("replicas", [None, "auto"])
def test_the_old_target_of_an_autoscaling_config_is_taken_however_it_is_given(
    replicas: str | None, log: pytest.LogCaptureFixture
) -> None:
    given = {"max_replicas": 4, "target_num_ongoing_requests_per_replica": 7}
    for autoscaling in (given, AutoscalingConfig(**given)):  # type: ignore[arg-type]
        made = serve.deployment(num_replicas=replicas, autoscaling_config=autoscaling)(Target)
        assert made._config.autoscaling_config is not None
        assert made._config.autoscaling_config.target_ongoing_requests == 7
        assert made._config.autoscaling_config.max_replicas == 4
    assert len(log.records) == 1
    assert "write target_ongoing_requests" in log.text


def test_an_option_under_both_of_its_names_is_refused() -> None:
    with pytest.raises(TypeError, match="leave 'max_concurrent_queries', the old name, out"):
        serve.deployment(max_concurrent_queries=1, max_ongoing_requests=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="are one option"):
        AutoscalingConfig(target_ongoing_requests=1, target_num_ongoing_requests_per_replica=1)  # type: ignore[call-arg]


@pytest.mark.contract("1.1/num_replicas")
@pytest.mark.parametrize(("given", "taken"), [("1", 1), ("3", 3), (" 2 ", 2), ("2.0", 2), (2.0, 2)])
def test_counts_may_be_strings_of_digits(given: Any, taken: int) -> None:
    made = serve.deployment(num_replicas=given, max_ongoing_requests=given)(Target)
    assert (made.num_replicas, made.max_ongoing_requests) == (taken, taken)
    assert AutoscalingConfig(min_replicas=given, max_replicas=given).max_replicas == taken


@pytest.mark.contract("1.1/num_replicas", better='"0" is refused as 0 is')
@pytest.mark.parametrize("given", ["", "0", "-1", "one", "1.5", "AUTO", "1e3"])
def test_other_strings_are_no_count(given: str) -> None:
    with pytest.raises(ValueError, match="num_replicas must be an integer"):
        serve.deployment(num_replicas=given)


@pytest.mark.parametrize(
    ("called", "old"), [(called, old) for called, names in _old_names.RENAMED.items() for old in names]
)
def test_what_is_renamed_goes_to_a_name_that_exists(called: str, old: str) -> None:
    from eagleray.serve._options import CHECKS

    known = {"serve.deployment": CHECKS, "autoscaling_config": AutoscalingConfig._options}[called]
    assert old not in known
    assert _old_names.RENAMED[called][old] in known


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: serve.deployment(autoscaling_config={"max_ongoing_requests": 3}), "beside autoscaling_config"),
        (lambda: serve.deployment(autoscaling_config={"target_ongoing_request": 3}), "did you mean 'target_ongoing_"),
        (lambda: serve.deployment(ray_actor_options={"GPU": 1}), "write num_gpus"),
        (lambda: serve.deployment(prev_version="1"), "so leave it out"),  # type: ignore[call-overload]
        (lambda: serve.run(serve.deployment(Target).bind(), port=80), "'port'; give it to the node first: serve.start"),
        (lambda: serve.run(serve.deployment(Target).bind(), _blocking=False), "wait_for_applications_running=False"),
        (lambda: serve.run(serve.deployment(Target).bind(), route_prefx="/"), "did you mean 'route_prefix'"),
        (lambda: serve.start(http_port=80), "write http_options={'port': ...}"),
        (lambda: serve.start(http_options={"http_port": 80}), "'http_port' in http_options; write port"),
        (lambda: serve.start(dedicated_cpu=True), "so leave it out"),
        (lambda: handle.DeploymentHandle("a", "b").options(use_new_handle_api=True), "so leave it out"),
        (lambda: serve.deployment(Target).deploy(), "deploy it with serve.run"),
        (lambda: serve.get_deployment("a"), "serve.get_deployment_handle"),  # type: ignore[attr-defined]
    ],
)
def test_what_means_nothing_today_is_refused_with_what_to_write(use: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
        use()
    assert words in str(caught.value)


def test_old_names_of_handles_and_locations_are_todays_classes(log: pytest.LogCaptureFixture) -> None:
    from eagleray.serve.handle import RayServeHandle, RayServeSyncHandle  # type: ignore[attr-defined]

    assert RayServeHandle is handle.DeploymentHandle
    assert RayServeSyncHandle is handle.DeploymentHandle
    assert config.DeploymentMode is config.ProxyLocation  # type: ignore[attr-defined]
    assert "RayServeHandle of eagleray.serve.handle is called DeploymentHandle" in log.text
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        handle.Nonsense  # type: ignore[attr-defined]
    assert not hasattr(serve.deployment(Target), "nonsense")
