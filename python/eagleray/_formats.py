"""Values in other formats than pickle: `request_serialization` and `response_serialization` of a handle.

They hold where a handle asks for values, `_by_reference=False`; that is Ray Serve's rule, and without it every format
is pickle (`_values`), which carries everything and large arrays without a copy.

The rule: what goes over the wire is a value of `_values` all the same. A value in another format is the pickle of a
call of `arguments` or `value` with its bytes, so it may be long, be an item of a stream, or be passed on to another
call, as any other, and calls without these options know nothing of them. Exceptions are pickled always.

| word | carries | read by |
|---|---|---|
| `orjson` | what JSON can hold: tuples arrive as lists, dates as text | `orjson`, which the user installs |
| `msgpack` | that, and bytes | `ormsgpack`, which the user installs |
| `noop` | bytes: one positional argument, one result | nobody |
"""

from __future__ import annotations

import contextlib
import inspect
import pickle
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import Any, NamedTuple

from eagleray import _values

WORDS = ("cloudpickle", "pickle", "msgpack", "orjson", "noop")
_PICKLE = ("cloudpickle", "pickle")
_LIBRARIES = {"msgpack": "ormsgpack", "orjson": "orjson"}
_warned = False


class Formats(NamedTuple):
    """Of a call's arguments, and of what it answers."""

    request: str
    response: str


def wanted(options: dict[str, Any]) -> Formats | None:
    """What the options of a handle ask for; None is pickle for both.

    Raises:
        ValueError: a word that does not exist.
        ImportError: the library of a format is not installed.
    """
    formats = Formats(
        options.get("request_serialization", "cloudpickle"), options.get("response_serialization", "cloudpickle")
    )
    for key, word in zip(("request_serialization", "response_serialization"), formats, strict=True):
        if word not in WORDS:
            raise ValueError(f"{key} is one of {', '.join(WORDS)}, got {word!r}")
    if all(word in _PICKLE for word in formats):
        return None
    if options.get("_by_reference", True):
        _warn(formats)
        return None
    for key, word in zip(("request_serialization", "response_serialization"), formats, strict=True):
        if word in _LIBRARIES:
            _library(word, key)
    return formats


def _warn(formats: Formats) -> None:
    global _warned  # noqa: PLW0603 - once in a process
    if _warned:
        return
    _warned = True
    from eagleray.serve._log import logger

    logger().warning(
        "request_serialization=%r and response_serialization=%r have no effect: values are pickled unless the handle "
        "has _by_reference=False as well",
        *formats,
    )


def _library(word: str, key: str) -> Any:
    try:
        if word == "orjson":
            import orjson

            return orjson
        import ormsgpack

        return ormsgpack
    except ImportError:
        name = _LIBRARIES[word]
        raise ImportError(f"{key}={word!r} needs the package {name}: pip install {name}", name=name) from None


def _encode(word: str, value: Any, key: str) -> bytes:
    """Raises TypeError, whatever the library raises."""
    library = _library(word, key)
    try:
        data: bytes = library.dumps(value) if word == "orjson" else library.packb(value)
    except Exception as error:
        raise TypeError(str(error)) from None
    return data


def _decode(word: str, data: Any, key: str) -> Any:
    if word == "noop":
        return bytes(data)
    library = _library(word, key)
    return library.loads(data) if word == "orjson" else library.unpackb(data)


def _carried(data: bytes) -> Any:
    """As `_values` has long bytes: copied once, not twice."""
    return pickle.PickleBuffer(data) if len(data) >= _values.SHARED_FROM else data


# --- arguments -------------------------------------------------------------------------------------------------------


class Keywords(dict[str, Any]):
    """Keyword arguments of a call that wants its answer in another format than pickle."""

    def __init__(self, values: Iterable[tuple[str, Any]] | dict[str, Any], response: str) -> None:
        super().__init__(values)
        self.response = response

    def filled(self, values: dict[str, Any]) -> Keywords:
        """The same with other values."""
        return Keywords(values, self.response)

    def __reduce__(self) -> tuple[Any, ...]:
        return Keywords, (dict(self), self.response)


class Arguments:
    """Arguments of a call that are not pickled.

    Args:
        args: Positional ones.
        kwargs: Those with a name.
        formats: Of the call.
        unresolved: The type of arguments that get their value on the way; they are in `self.unresolved`.
        head: Goes before the positional ones, and is pickled.

    Raises:
        TypeError: an argument that the format cannot carry.
    """

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        formats: Formats,
        unresolved: type,
        head: tuple[Any, ...] = (),
    ) -> None:
        self.unresolved: list[Any] = []
        self._holes: list[int | str] = []
        self._formats, self._head = formats, head
        named: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        for place, value in named:
            if isinstance(value, unresolved):
                self._holes.append(place)
                self.unresolved.append(value)
        args = tuple(None if isinstance(value, unresolved) else value for value in args)
        kwargs = {name: None if isinstance(value, unresolved) else value for name, value in kwargs.items()}
        self._data = self._encoded(args, kwargs)

    def _encoded(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        word = self._formats.request
        if word in _PICKLE:
            return args, kwargs  # with everything else
        if word == "noop":
            if len(args) != 1 or kwargs or self._holes or not isinstance(args[0], (bytes, bytearray, memoryview)):
                raise TypeError("request_serialization='noop' carries one positional argument of bytes, nothing else")
            return bytes(args[0])
        try:
            return _encode(word, [args, kwargs], "request_serialization")
        except TypeError as error:
            raise TypeError(
                f"{_culprit(word, args, kwargs)} cannot be carried by request_serialization={word!r}: {error}"
            ) from None

    def segments(self) -> list[_values.Segment]:
        """As `_values.dump_arguments` has them."""
        try:
            return _values.dump_parts(self, self.unresolved)
        except Exception as error:
            # Of what is pickled here only arguments can refuse to be.
            args, kwargs = self._data if type(self._data) is tuple else ((), {})
            raise _values.refused(error, args, kwargs) from None

    def __reduce__(self) -> tuple[Any, ...]:
        data = _carried(self._data) if type(self._data) is bytes else self._data
        return arguments, (data, tuple(self._formats), tuple(self._holes), self._head)


def _culprit(word: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    named = [(f"argument {number}", value) for number, value in enumerate(args, 1)]
    named += [(f"argument {key!r}", value) for key, value in kwargs.items()]
    for name, value in named:
        try:
            _encode(word, value, "request_serialization")
        except TypeError:
            return f"{name} ({type(value).__name__})"
    return "an argument"


def arguments(
    data: Any, formats: tuple[str, str], holes: tuple[int | str, ...], head: tuple[Any, ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What `Arguments` were made of, with a `Hole` for each that was unresolved."""
    request, response = formats
    if request in _PICKLE:
        args, kwargs = data
    elif request == "noop":
        args, kwargs = [_decode(request, data, "request_serialization")], {}
    else:
        args, kwargs = _decode(request, data, "request_serialization")
    args = list(args)
    for number, place in enumerate(holes):
        if isinstance(place, int):
            args[place] = _values.Hole(number)
        else:
            kwargs[place] = _values.Hole(number)
    return (*head, *args), kwargs if response in _PICKLE else Keywords(kwargs, response)


# --- answers ---------------------------------------------------------------------------------------------------------


class _Answer:
    """A result or an item that is not pickled."""

    __slots__ = ("data", "word")

    def __init__(self, word: str, result: Any, what: str) -> None:
        self.word = word
        if word == "noop":
            if not isinstance(result, (bytes, bytearray, memoryview)):
                raise TypeError(
                    f"{what} ({type(result).__name__}) cannot be carried by response_serialization='noop', which "
                    "carries bytes"
                )
            self.data = bytes(result)
            return
        try:
            self.data = _encode(word, result, "response_serialization")
        except TypeError as error:
            raise TypeError(
                f"{what} ({type(result).__name__}) cannot be carried by response_serialization={word!r}: {error}"
            ) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return value, (self.word, _carried(self.data))


def value(word: str, data: Any) -> Any:
    """What an answer was made of."""
    return _decode(word, data, "response_serialization")


def answering(method: Callable[..., Any], keywords: dict[str, Any], name: str) -> Callable[..., Any]:
    """The method with its result, or its items, in the format that these arguments ask for. It makes what the method
    makes: a value, a coroutine or a generator.
    """
    word = getattr(keywords, "response", "pickle")

    def finished(result: Any) -> Any:
        made: Any = result
        if inspect.isasyncgen(result):
            return later_items(made)
        if inspect.isgenerator(result):
            return items(made)
        return _Answer(word, result, f"the result of {name}")

    def items(made: Generator[Any]) -> Generator[Any]:
        with contextlib.closing(made):
            for item in made:
                yield _Answer(word, item, f"the item of {name}")

    async def later_items(made: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
        async with contextlib.aclosing(made):
            async for item in made:
                yield _Answer(word, item, f"the item of {name}")

    async def later(result: Any) -> Any:
        return finished(await result)

    def call(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        return later(result) if inspect.isawaitable(result) else finished(result)

    return call
