"""The config of an application over the options of its code, as the native model merges them."""

import json
from typing import Any

import pytest

from eagleray import _core


def merge(application: dict[str, Any], code: dict[str, dict[str, Any]]) -> dict[str, Any]:
    merged = json.loads(_core.merge_config(json.dumps({"import_path": "a:b", **application}), json.dumps(code)))
    assert isinstance(merged, dict)
    return merged


def test_what_the_config_does_not_state_stays_as_the_code_has_it() -> None:
    merged = merge(
        {"deployments": [{"name": "A", "ray_actor_options": {"num_cpus": 2}}]},
        {"A": {"ray_actor_options": {"memory": 5}, "max_ongoing_requests": 9}, "B": {}},
    )
    assert merged["deployments"] == {
        "A": {"ray_actor_options": {"num_cpus": 2, "memory": 5}, "max_ongoing_requests": 9},
        "B": {},
    }


def test_a_number_of_replicas_ends_what_was_automatic() -> None:
    code = {"A": {"autoscaling_config": {"min_replicas": 2, "max_replicas": 4}}}
    merged = merge({"deployments": [{"name": "A", "num_replicas": 3}]}, code)
    assert merged["deployments"]["A"] == {"num_replicas": 3, "autoscaling_config": None}
    merged = merge(
        {"deployments": [{"name": "A", "autoscaling_config": {"max_replicas": 9}}]}, {"A": {"num_replicas": 2}}
    )
    assert merged["deployments"]["A"] == {"autoscaling_config": {"max_replicas": 9}}


def test_all_that_is_wrong_is_said_at_once_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean") as raised:
        merge({"deployments": [{"name": "Ranker"}, {"name": "Zebra"}]}, {"Rank": {}, "Shop": {}})
    text = str(raised.value)
    assert '"Ranker"' in text
    assert '"Zebra"' in text
    assert 'did you mean "Rank"?' in text
    assert "it has Rank, Shop" in text


def test_what_is_no_config_is_refused() -> None:
    with pytest.raises(ValueError, match="num_replica"):
        merge({"deployments": [{"name": "A", "num_replica": 3}]}, {"A": {}})
    with pytest.raises(ValueError, match="application"):
        _core.merge_config("{", "{}")
    with pytest.raises(ValueError, match="code_options"):
        _core.merge_config("{}", "[]")
