"""Metrics of user code: counters, gauges and histograms that `/metrics` of the node shows beside Eagleray's own.

Inside a replica each has the tags `deployment`, `replica` and `application` besides its own. To count is a look into a
dictionary and one step in memory that the node reads; nothing is sent and nothing waits. A metric belongs to the
process that first counts with it: one made by a module is that of the replica which uses it.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

from eagleray import _core, _metrics, _runtime
from eagleray._request import current

__all__ = ["Counter", "Gauge", "Histogram"]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OF_REPLICAS = ("deployment", "replica", "application")
_TAKEN = frozenset(_core.metric_names())
_kinds: dict[str, str] = {}


class _Metric:
    """What the three have in common."""

    _kind = ""
    _bounds: tuple[float, ...] = ()

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
        _check_keys(tag_keys)
        self._name = name
        self._description = description
        self._tag_keys: tuple[str, ...] = tag_keys or ()
        self._default_tags: dict[str, str] = {}
        self._is_discarded = not _is_name(name)
        self._series: dict[tuple[str, ...], _core.MetricSeries] = {}
        if not self._is_discarded:
            _claim(name, self._kind)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._name, self._description, self._tag_keys)

    def set_default_tags(self, default_tags: dict[str, str]) -> _Metric:
        """Tags that each use has unless it says others. Returns the metric itself."""
        for key, value in default_tags.items():
            if key in _OF_REPLICAS and _runtime.in_replica():
                raise ValueError(f"{key!r} is a tag that Eagleray sets itself in a replica; give yours another name")
            if key not in self._tag_keys:
                raise ValueError(f"metric {self._name!r} has no tag {key!r}; it has {self._tag_keys}")
            _check_value(key, value)
        self._default_tags = dict(default_tags)
        return self

    @property
    def info(self) -> dict[str, Any]:
        """What the metric was made with."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def _record(self, value: float, tags: dict[str, str] | None) -> None:
        if not isinstance(value, (int, float)):
            raise TypeError(f"value must be int or float, got {type(value)}")
        values = self._values(tags)
        if self._is_discarded:
            return
        series = self._series.get(values)
        if series is None:
            series = self._find(values)
            if series is None:
                return
        series.record(value)

    def _values(self, tags: dict[str, str] | None) -> tuple[str, ...]:
        """The values of the tags, in the order of the keys."""
        keys = self._tag_keys
        if not keys:
            return ()
        given = self._default_tags
        if tags:
            for key, value in tags.items():
                _check_value(key, value)
            given = {**given, **tags}
        if "route" in keys and "route" not in given:
            request = current.get()
            given = {**given, "route": "" if request is None else request.route}
        try:
            return tuple([given[key] for key in keys])
        except KeyError:
            missing = ", ".join(key for key in keys if key not in given)
            raise ValueError(
                f"metric {self._name!r}: there is no value for the tags: {missing}; pass them in `tags`, or set "
                "them with set_default_tags"
            ) from None

    def _find(self, values: tuple[str, ...]) -> _core.MetricSeries | None:
        """The series of these values in this process; None: it is counted nowhere."""
        context = _runtime.replica_context()
        of_replica: tuple[str, ...] = ()
        labels = self._tag_keys
        if context is not None:
            of_replica = (context.deployment, context.replica_id.unique_id, context.app_name)
            labels = (*_OF_REPLICAS, *labels)
        family = _metrics.family(self._kind, self._name, self._description, labels, self._bounds)
        if family is None:
            self._is_discarded = True
            warnings.warn(
                f"metric {self._name!r} is not counted: this process has {_metrics.MOST_METRICS} others", stacklevel=5
            )
            return None
        series = family.series([*of_replica, *values])
        # Not before it is known whose it is: what a module counts while it is imported may be before a fork. Those
        # beyond the bound are one series, which is found by asking.
        if context is not None and len(self._series) < _metrics.MOST_SETS:
            self._series[values] = series
        return series


class Counter(_Metric):
    """A number that only goes up. `/metrics` shows it with `_total` at its end.

    Args:
        name: Its name: letters, digits, `_` and `:`.
        description: For people.
        tag_keys: The names of its tags.
    """

    _kind = "counter"

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Adds `value`, which is above 0."""
        if not isinstance(value, (int, float)):
            raise TypeError(f"value must be int or float, got {type(value)}")
        if not value > 0:
            raise ValueError(f"value must be >0, got {value}")
        self._record(value, tags)


class Gauge(_Metric):
    """A number that is set.

    Args:
        name: Its name: letters, digits, `_` and `:`.
        description: For people.
        tag_keys: The names of its tags.
    """

    _kind = "gauge"

    def set(self, value: float | None, tags: dict[str, str] | None = None) -> None:
        """Sets it; None leaves it as it is."""
        if value is not None:
            self._record(value, tags)


class Histogram(_Metric):
    """Numbers by bucket.

    Args:
        name: Its name: letters, digits, `_` and `:`.
        description: For people.
        boundaries: Where each bucket ends; above 0 and rising. One more bucket takes what lies beyond the last.
        tag_keys: The names of its tags.
    """

    _kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: list[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        if boundaries is None or len(boundaries) == 0:
            raise ValueError(f'histogram {name!r} needs boundaries, such as Histogram("name", boundaries=[1.0, 2.0])')
        if len(boundaries) > _MOST_BOUNDARIES:
            raise ValueError(f"histogram {name!r} has {len(boundaries)} boundaries; {_MOST_BOUNDARIES} is the most")
        bounds = tuple(float(bound) for bound in boundaries)
        for index, bound in enumerate(bounds):
            if not 0 < bound < float("inf"):
                raise ValueError(f"boundary {index} of histogram {name!r} is {bound}; all must be above 0 and finite")
            if index and bound <= bounds[index - 1]:
                raise ValueError(f"boundaries must rise: in histogram {name!r} {bound} comes after {bounds[index - 1]}")
        self.boundaries = boundaries
        self._bounds = bounds
        super().__init__(name, description, tag_keys)
        if "le" in self._tag_keys:
            raise ValueError(f"'le' is the tag of a histogram's buckets; histogram {name!r} cannot have one of its own")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._name, self._description, self.boundaries, self._tag_keys)

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Puts `value` into its bucket. What is no number (NaN) is left out."""
        self._record(value, tags)

    @property
    def info(self) -> dict[str, Any]:
        """What the metric was made with."""
        return super().info | {"boundaries": self.boundaries}


_MOST_BOUNDARIES = 256


def _is_name(name: str) -> bool:
    if not name:
        raise ValueError("a metric needs a name")
    if _NAME.fullmatch(name):
        return True
    warnings.warn(
        f"metric {name!r} is not counted: a name has letters, digits, `_` and `:`, and no digit first", stacklevel=5
    )
    return False


def _claim(name: str, kind: str) -> None:
    """One name is one kind of metric in a process, and none of Eagleray's own."""
    if name in _TAKEN:
        raise ValueError(f"{name!r} is the name of a metric of Eagleray's own; choose another")
    other = _kinds.setdefault(name, kind) if len(_kinds) < 10 * _metrics.MOST_METRICS else kind
    if other != kind:
        raise ValueError(f"{name!r} is the name of a {other} already, so it cannot be that of a {kind}; choose another")


def _check_keys(tag_keys: Any) -> None:
    if tag_keys is None:
        return
    if not isinstance(tag_keys, tuple):
        raise TypeError(f"tag_keys should be a tuple type, got: {type(tag_keys)}")
    for key in tag_keys:
        if not isinstance(key, str):
            raise TypeError(f"tag keys must be str, got {type(key)}")
        if not _LABEL.fullmatch(key) or key.startswith("__"):
            raise ValueError(
                f"{key!r} cannot be a tag: use letters, digits and `_`, and begin with no digit and no `__`"
            )
        if key in _OF_REPLICAS and _runtime.in_replica():
            raise ValueError(f"{key!r} is a tag that Eagleray sets itself in a replica; give yours another name")
    if len(set(tag_keys)) != len(tag_keys):
        raise ValueError(f"a tag comes twice in {tag_keys}")
    if len(tag_keys) > _MOST_TAGS:
        raise ValueError(f"{len(tag_keys)} tags are too many; {_MOST_TAGS} is the most")


_MOST_TAGS = 28


def _check_value(key: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"tag values must be str, got {type(value)} for {key!r}")
