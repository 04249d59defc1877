"""`serve.metrics` outside of a replica: what is accepted, and what is refused in which words."""

import pickle
from typing import Any

import pytest

from eagleray.serve.metrics import Counter, Gauge, Histogram


def test_everything_works_where_nobody_reads() -> None:
    counter = Counter("test_counter", "What.", tag_keys=("a",))
    assert counter.set_default_tags({"a": "x"}) is counter
    counter.inc()
    counter.inc(2, {"a": "y"})
    Gauge("test_gauge").set(None)
    Gauge("test_gauge").set(1)
    Histogram("test_histogram", boundaries=[1, 2]).observe(float("nan"))
    assert counter.info == {
        "name": "test_counter",
        "description": "What.",
        "tag_keys": ("a",),
        "default_tags": {"a": "x"},
    }


@pytest.mark.contract("9.6/reserved")
@pytest.mark.parametrize("keys", [["a"], "a", {"a"}])
def test_keys_that_are_no_tuple_are_refused(keys: Any) -> None:
    with pytest.raises(TypeError, match="tag_keys should be a tuple"):
        Counter("test_keys", tag_keys=keys)


@pytest.mark.contract("9.6/reserved")
def test_tags_of_replicas_are_refused_in_a_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    Counter("test_reserved", tag_keys=("replica",))
    monkeypatch.setenv("EAGLERAY_REPLICA", "abc")
    for tag in ("deployment", "replica", "application"):
        with pytest.raises(ValueError, match=f"'{tag}' is a tag that Eagleray sets itself"):
            Counter("test_reserved", tag_keys=(tag,))


@pytest.mark.contract("9.6/histogram")
@pytest.mark.parametrize("boundaries", [None, [], [0, 1], [-1], [float("inf")], [2, 1], [1, 1]])
def test_boundaries_that_make_no_buckets_are_refused(boundaries: Any) -> None:
    with pytest.raises(ValueError, match="boundar"):
        Histogram("test_boundaries", boundaries=boundaries)


def test_names() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        Counter("")
    with pytest.warns(UserWarning, match="not counted"):
        Counter("no-name").inc()
    with pytest.raises(ValueError, match=r"'serve_num_http_requests' is the name of a metric of Eagleray's own"):
        Counter("serve_num_http_requests")
    Counter("test_taken")
    Counter("test_taken")
    with pytest.raises(ValueError, match="is the name of a counter already, so it cannot be that of a gauge"):
        Gauge("test_taken")


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_counter_only_goes_up(value: float) -> None:
    with pytest.raises(ValueError, match="value must be >0"):
        Counter("test_up").inc(value)


def test_values_and_tags_of_another_type_are_refused() -> None:
    counter = Counter("test_types", tag_keys=("a",))
    wrong: Any = "1"
    with pytest.raises(TypeError, match="value must be int or float"):
        counter.inc(wrong, {"a": "x"})
    with pytest.raises(TypeError, match="tag values must be str"):
        counter.inc(1, {"a": 1})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="there is no value for the tags: a"):
        counter.inc()
    with pytest.raises(ValueError, match="has no tag 'b'"):
        counter.set_default_tags({"b": "x"})


def test_they_can_be_pickled() -> None:
    copy = pickle.loads(pickle.dumps(Histogram("test_pickled", "What.", [1.0], ("a",))))
    assert copy.info["boundaries"] == [1.0]
    assert copy.info["tag_keys"] == ("a",)
