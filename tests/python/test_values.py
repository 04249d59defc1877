"""Values as bytes: what goes over the wire comes back equal, and what is no value says so."""

import pickle
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from eagleray import _values
from eagleray._values import BUFFER, PICKLE, VALUE, Segment
from eagleray.serve.exceptions import RayServeException


class Refuses:
    def __reduce__(self) -> Any:
        raise RayServeException("not like this")


class Unresolved:
    pass


def test_a_value_of_one_segment_is_a_bare_pickle() -> None:
    body = _values.join(_values.dump_arguments((1, Path("/x")), {"k": [1]}))
    assert body == pickle.dumps(((1, Path("/x")), {"k": [1]}), protocol=5)
    assert _values.load(body) == ((1, Path("/x")), {"k": [1]})
    assert _values.load(memoryview(body)) == _values.load(body)


def test_what_only_cloudpickle_can_pickle_travels_by_value() -> None:
    (function,), _ = _values.load(_values.join(_values.dump_arguments((lambda x: x + 1,), {})))
    assert function(1) == 2


def test_an_unresolved_argument_is_a_segment_of_its_own() -> None:
    first, second = Unresolved(), Unresolved()
    segments = _values.dump_arguments((0, first), {"a": 1, "b": second}, Unresolved)
    assert [segment.kind for segment in segments] == [PICKLE, VALUE, VALUE]
    assert [segment.data for segment in segments[1:]] == [first, second]
    nested = _values.join([Segment(PICKLE, pickle.dumps([2, 3], protocol=5)), Segment(BUFFER, b"unused")])
    filled = [segments[0], Segment(VALUE, _values.dump("first")), Segment(VALUE, nested)]
    assert _values.load(_values.join(filled)) == ((0, "first"), {"a": 1, "b": [2, 3]})


def test_out_of_band_buffers_keep_their_order() -> None:
    kept: list = []
    value = [pickle.PickleBuffer(b"one"), "x", pickle.PickleBuffer(b"two")]
    pickled = _values.dump(value, kept)
    body = _values.join([Segment(PICKLE, pickled), *(Segment(BUFFER, buffer.raw()) for buffer in kept)])
    first, text, second = _values.load(body)
    assert (bytes(first), text, bytes(second)) == (b"one", "x", b"two")


def test_an_argument_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TypeError, match=r"argument 2 \(lock\) cannot be pickled"):
        _values.dump_arguments((1, threading.Lock()), {})
    with pytest.raises(TypeError, match="argument 'x'"):
        _values.dump_arguments((), {"x": [threading.Lock()]})
    with pytest.raises(RayServeException, match="not like this"):
        _values.dump_arguments(([Refuses()],), {})


@pytest.mark.parametrize(
    "body",
    [
        b"\x01",
        struct.pack("<BI", 1, 2**32 - 1),
        struct.pack("<BIBQ", 1, 1, PICKLE, 2**60),
        struct.pack("<BIBQ", 1, 1, 99, 0),
        struct.pack("<BIBQ", 1, 1, PICKLE, 4) + b"abc",
    ],
)
def test_a_body_that_is_no_value_is_an_error_and_allocates_nothing(body: bytes) -> None:
    with pytest.raises(ValueError, match="a value"):
        _values.load(body)
