"""Values as bytes: the arguments, results and items of calls through handles.

The rule: this is the one place that turns a Python value into what goes over the wire, and back. A value is one or
more **segments**; its **body** is

- a bare pickle of protocol 5, whose first byte is 0x80, if there is one segment. That is nearly every call, and it
  costs nothing beyond the pickle;
- else an envelope: the byte 1, the number of segments (u32), for each its kind (u8) and its length (u64), then the
  segments. Numbers are little-endian.

| kind | segment |
|---|---|
| 0 PICKLE | the value itself; the first segment, and the only one of its kind |
| 1 BUFFER | the next out-of-band buffer of the pickle (PEP 574) |
| 2 VALUE | a body of its own, which takes the place of the pickle's next `Hole` |
| 3 PADDING | nothing: what follows begins at a multiple of 64 bytes |

With 0x80 added to its kind a segment is a number (u32): its bytes are in that region of those that came with the
message.

A VALUE lets the answer of one call become an argument of another although nobody in between has unpickled it: the bytes
of that answer are the segment, whatever they are made of. Only a top-level argument can be one.

What pickles out of band, arrays of numpy above all, is a BUFFER, whatever its length: it is not copied when it is
unpickled, and arrives read-only. From `SHARED_FROM` bytes on the whole body goes in shared memory, if there is room:
then these buffers are the shared memory itself (docs/internals/values.md).

Pickles are made and read by processes of one user, on sockets that nobody else can open.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

__all__ = ["BUFFER", "PADDING", "PICKLE", "SHARED_FROM", "VALUE", "Hole", "Segment", "Share", "dump", "dump_arguments",
           "dump_call", "dump_parts", "dump_value", "join", "load", "place", "refused",
           "split"]  # fmt: skip

PICKLE, BUFFER, VALUE, PADDING = range(4)
SHARED_FROM = 64 * 1024
"""Bytes of a body from which on shared memory is faster; docs/internals/values.md has the measurement."""

_ATTACHED = 0x80
_ALIGNMENT = 64

_PROTOCOL = 5
_ENVELOPE = 1
_COUNT = struct.Struct("<BI")
_ENTRY = struct.Struct("<BQ")

Buffer = Any
"""Bytes, or whatever else has the buffer protocol."""
Share = Callable[[Sequence[Any]], Any]
"""Copies buffers, one after the other, into shared memory; None: there is no room."""


class Segment(NamedTuple):
    """One piece of a value's body."""

    kind: int
    data: Any
    """Bytes, or what the caller replaces by bytes before `join`."""


class Hole:
    """Stands in a pickle for the VALUE of the same number, counted from 0."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return Hole, (self.number,)


def dump(value: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    """The pickle of a value. `buffers` gets the out-of-band buffers; without it, everything is in band.

    The plain pickler is written in C and several times faster; that of deployments (`_code/pickling.py`) takes over for
    what it refuses, and for what lives in `__main__`, which the plain one would name and the other side would not find.

    Raises:
        Exception: what the value's own pickling raised; mostly TypeError or `pickle.PicklingError`.
    """
    keep = None if buffers is None else buffers.append
    try:
        data = pickle.dumps(value, _PROTOCOL, buffer_callback=keep)
    except Exception as error:
        if _is_ours(error):
            raise
        data = b"__main__"
    if b"__main__" in data:
        from eagleray._code import pickling

        if buffers is not None:
            buffers.clear()
        data = pickling.dumps(value, keep, with_text=False)
    return data


def _is_ours(error: Exception) -> bool:
    """Whether a value of ours refused to be pickled, and says why."""
    from eagleray.serve.exceptions import RayServeException

    return isinstance(error, RayServeException)


class _Bytes:
    """Stands in for long `bytes`, which pickle only in band: as a buffer they are copied once here and once there."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (pickle.PickleBuffer(self.value),)


def _taken_apart(value: Any) -> Any:
    return _Bytes(value) if type(value) is bytes and len(value) >= SHARED_FROM else value


def _segments(value: Any, data: bytes, buffers: list[pickle.PickleBuffer]) -> list[Segment]:
    try:
        return [Segment(PICKLE, data), *(Segment(BUFFER, buffer.raw()) for buffer in buffers)]
    except BufferError:
        # One is not contiguous; in band it is copied so that it is.
        return [Segment(PICKLE, dump(value))]


def dump_value(value: Any, share: Share | None = None) -> Any:
    """The body of a result or an item: bytes, or what `share` made of it.

    Raises:
        Exception: what the value's own pickling raised.
    """
    if type(value) is bytes:
        value = _taken_apart(value)
    buffers: list[pickle.PickleBuffer] = []
    data = dump(value, buffers)
    if not buffers and len(data) < SHARED_FROM:
        return data
    return place(_segments(value, data, buffers), share)


def place(segments: Sequence[Segment], share: Share | None = None) -> Any:
    """The body of segments that are all there: bytes, or in shared memory what `share` made of it."""
    if len(segments) == 1 and len(segments[0].data) < SHARED_FROM:
        return bytes(segments[0].data)
    parts = _parts(segments)
    if share is not None and sum(memoryview(part).nbytes for part in parts) >= SHARED_FROM:
        shared = share(parts)
        if shared is not None:
            return shared
    return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)


def _parts(segments: Sequence[Segment]) -> list[Any]:
    """A body in pieces. Each buffer begins at a multiple of 64 bytes, as code that computes with it may want."""
    if len(segments) == 1:
        return [segments[0].data]
    buffers = sum(segment.kind == BUFFER for segment in segments)
    at = _COUNT.size + (len(segments) + buffers) * _ENTRY.size
    entries, parts = [], []
    for kind, data in segments:
        if kind == BUFFER:
            padding = -at % _ALIGNMENT
            entries.append(_ENTRY.pack(PADDING, padding))
            parts.append(bytes(padding))
            at += padding
        length = memoryview(data).nbytes
        entries.append(_ENTRY.pack(kind, length))
        parts.append(data)
        at += length
    return [b"".join((_COUNT.pack(_ENVELOPE, len(entries)), *entries)), *parts]


def dump_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], unresolved: type | tuple[()] = (), share: Share | None = None
) -> Any:
    """The body of a call, as `dump_value` has it: nearly every call. None: an argument is of type `unresolved`, or has
    to be taken apart; then it is for `dump_arguments`.

    Raises:
        TypeError, RayServeException: as `dump_arguments`.
    """
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, unresolved) or (type(value) is bytes and len(value) >= SHARED_FROM):
            return None
    try:
        return dump_value((args, kwargs), share)
    except Exception as error:
        raise refused(error, args, kwargs) from None


def dump_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], unresolved: type | tuple[()] = ()) -> list[Segment]:
    """The segments of a call: a pickle of `(args, kwargs)`, its buffers, and a VALUE for each argument of type
    `unresolved`.

    The data of a VALUE is that argument itself: the caller puts the bytes there once it has them.

    Raises:
        TypeError: an argument cannot be pickled; the message names it.
        RayServeException: an argument refuses to be pickled, for a reason of ours.
    """
    values: list[Segment] = []

    def taken_out(value: Any) -> Any:
        if not isinstance(value, unresolved):
            return _taken_apart(value)
        values.append(Segment(VALUE, value))
        return Hole(len(values) - 1)

    args = tuple(taken_out(value) for value in args)
    kwargs = {name: taken_out(value) for name, value in kwargs.items()}
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = dump((args, kwargs), buffers)
        return [*_segments((args, kwargs), data, buffers), *values]
    except Exception as error:
        raise refused(error, args, kwargs) from None


def dump_parts(value: Any, unresolved: Sequence[Any]) -> list[Segment]:
    """The segments of a call of which somebody else has taken the unresolved arguments out: holes are in the value.

    Raises:
        Exception: what the value's own pickling raised.
    """
    buffers: list[pickle.PickleBuffer] = []
    data = dump(value, buffers)
    return [*_segments(value, data, buffers), *(Segment(VALUE, one) for one in unresolved)]


def refused(error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exception:
    """What to raise where arguments could not be pickled; it names the first that cannot be."""
    if _is_ours(error):
        return error
    return TypeError(f"{_culprit(args, kwargs)} cannot be pickled: {error}")


def join(segments: Sequence[Segment]) -> bytes:
    """The body of segments as bytes."""
    return bytes(place(segments))


def split(body: Buffer) -> list[Segment]:
    """The segments of a body, which share its memory.

    Raises:
        ValueError: it is none.
    """
    view = memoryview(body)
    if view[:1] != bytes([_ENVELOPE]):
        return [Segment(PICKLE, view)]
    return list(_entries(view))


def _entries(view: memoryview) -> Iterator[Segment]:
    if len(view) < _COUNT.size:
        raise ValueError("a value is cut off in its envelope")
    _, count = _COUNT.unpack_from(view)
    at = _COUNT.size + count * _ENTRY.size
    if at > len(view):
        raise ValueError("a value is cut off in its envelope")
    for number in range(count):
        kind, length = _ENTRY.unpack_from(view, _COUNT.size + number * _ENTRY.size)
        if length > len(view) - at:
            raise ValueError("a value is cut off in its segments")
        yield Segment(kind, view[at : at + length])
        at += length


def load(body: Buffer, regions: Callable[[], Sequence[Any]] | None = None) -> Any:
    """The value of a body. For the body of a call's arguments that is `(args, kwargs)`, every `Hole` filled.

    `regions` gives what came with the message beside its body.

    Raises:
        Exception: what unpickling raised; for a body that is none, ValueError.
    """
    if type(body) is not bytes:
        body = memoryview(body).cast("B")
    if not body or body[0] != _ENVELOPE:
        return pickle.loads(body)
    pickled: Any = b""
    buffers, values = [], []
    attached: Sequence[Any] | None = None
    for flagged, segment in split(body):
        kind = flagged & ~_ATTACHED
        data: Any = segment
        if flagged != kind:
            if attached is None:
                attached = () if regions is None else regions()
            data = _attached(data, attached)
        if kind == PICKLE:
            pickled = data
        elif kind == BUFFER:
            buffers.append(data)
        elif kind == VALUE:
            values.append(load(data))
        elif kind != PADDING:
            raise ValueError(f"a value has a segment of kind {kind}, which this release does not know")
    value = pickle.loads(pickled, buffers=buffers)
    if not values:
        return value
    args, kwargs = value
    filled = {name: values[value.number] if type(value) is Hole else value for name, value in kwargs.items()}
    return (
        tuple(values[value.number] if type(value) is Hole else value for value in args),
        filled if type(kwargs) is dict else kwargs.filled(filled),
    )


def _attached(number: Buffer, regions: Sequence[Any]) -> memoryview:
    at = int.from_bytes(number, "little")
    if len(number) != 4 or at >= len(regions):
        raise ValueError("a value names a region that did not come with it")
    return memoryview(regions[at])


def _culprit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    named = [(f"argument {number}", value) for number, value in enumerate(args, 1)]
    named += [(f"argument {key!r}", value) for key, value in kwargs.items()]
    for name, value in named:
        try:
            dump(value)
        except Exception:
            return f"{name} ({type(value).__name__})"
    return "an argument"
