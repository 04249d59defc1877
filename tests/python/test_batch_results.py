"""What comes back from a batch, and to whom: results, exceptions and streams. On a loop whose clock jumps."""

import asyncio
import traceback
from typing import Any

import numpy
import pytest

import clock
from batches import collect, turn
from eagleray import serve
from eagleray.serve._batch_item import STREAM_VALUES
from eagleray.serve.exceptions import RayServeException

# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.contract("1.3/wrong-length")
@pytest.mark.parametrize("result", [[1], [1, 2, 3], None, 7, "ab", {1: 1, 2: 2}, iter([1, 2])])
def test_a_result_of_another_length_or_type_is_an_error_for_every_caller(result: Any) -> None:
    @serve.batch
    async def wrong(items: list[int]) -> Any:
        return result

    async def main() -> None:
        call: Any = wrong
        for error in await asyncio.gather(call(1), call(2), return_exceptions=True):
            assert isinstance(error, RayServeException)
            assert "wrong()" in str(error)
            assert "2 items" in str(error)

    clock.run(main())


def test_arrays_and_tuples_are_results_too() -> None:
    @serve.batch
    async def array(items: list[int]) -> Any:
        return numpy.array(items) * 2

    @serve.batch
    async def pair(items: list[int]) -> Any:
        return tuple(items)

    async def main() -> None:
        assert await asyncio.gather(*(array(number) for number in (1, 2))) == [2, 4]  # type: ignore[arg-type]
        assert await asyncio.gather(*(pair(number) for number in (1, 2))) == [1, 2]  # type: ignore[arg-type]

    clock.run(main())


# --- exceptions -------------------------------------------------------------------------------------------------------


class Odd(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code} {detail}")
        self.code = code


@pytest.mark.contract("1.3/exception", better="each caller has its own copy, so tracebacks do not grow together")
def test_an_exception_goes_to_every_caller() -> None:
    @serve.batch
    async def broken(items: list[int]) -> list[int]:
        try:
            raise KeyError("cause")
        except KeyError as error:
            raise ValueError("no such model") from error

    @serve.batch
    async def odd(items: list[int]) -> list[int]:
        raise Odd(7, detail="cannot be copied")

    async def main() -> None:
        call: Any = broken
        errors = await asyncio.gather(*(call(number) for number in range(3)), return_exceptions=True)
        assert [(type(error), str(error)) for error in errors] == [(ValueError, "no such model")] * 3
        assert len({id(error) for error in errors}) == 3
        for error in errors:
            assert isinstance(error.__cause__, KeyError)
            assert "in broken" in "".join(traceback.format_exception(error))
        lengths = {len(traceback.extract_tb(error.__traceback__)) for error in errors}
        assert len(lengths) == 1
        call = odd
        errors = await asyncio.gather(*(call(number) for number in range(3)), return_exceptions=True)
        assert [(type(error), error.code) for error in errors] == [(Odd, 7)] * 3

    clock.run(main())


@pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_would_end_a_task_or_a_process_is_an_error_of_the_batch(raised: type[BaseException]) -> None:
    @serve.batch
    async def broken(items: list[int]) -> list[int]:
        raise raised

    async def main() -> None:
        async def call(number: int) -> Any:
            try:
                return await broken(number)  # type: ignore[arg-type]
            except BaseException as error:
                return error

        for error in await asyncio.gather(call(1), call(2)):
            assert isinstance(error, RayServeException if raised is asyncio.CancelledError else raised)

    clock.run(main())


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.contract("1.3/generator", "1.3/generator-stop")
@pytest.mark.parametrize("stop", [StopIteration, StopAsyncIteration])
def test_a_generator_streams_to_each_caller_until_its_place_says_stop(stop: type[Exception]) -> None:
    @serve.batch
    async def count(limits: list[int]) -> Any:
        for number in range(4):
            yield [number if number < limit else stop for limit in limits]

    async def main() -> None:
        call: Any = count
        streams = (collect(call(limit)) for limit in (1, 3, 9, 0))
        assert await asyncio.gather(*streams) == [[0], [0, 1, 2], [0, 1, 2, 3], []]

    clock.run(main())


def test_a_value_is_with_its_reader_before_the_next_is_made() -> None:
    events: list[str] = []

    @serve.batch
    async def eager(items: list[int]) -> Any:
        for number in range(3):
            events.append(f"made {number}")
            yield [number] * len(items)

    async def read() -> None:
        async for value in eager([1]):
            events.append(f"read {value}")

    clock.run(read())
    assert events == ["made 0", "read 0", "made 1", "read 1", "made 2", "read 2"]


@pytest.mark.contract("1.3/wrong-length", "1.3/exception")
def test_a_generator_that_fails_fails_for_all_that_still_read() -> None:
    @serve.batch
    async def broken(items: list[int]) -> Any:
        yield [1, StopIteration]
        if items[0]:
            raise ValueError("in the middle")
        yield [1]

    async def read(item: int) -> list[Any]:
        values: list[Any] = []
        try:
            async for value in broken(item):  # type: ignore[arg-type]
                values.append(value)
        except Exception as error:
            values.append(type(error))
        return values

    async def main() -> None:
        assert await asyncio.gather(read(1), read(1)) == [[1, ValueError], []]
        assert await asyncio.gather(read(0), read(0)) == [[1, RayServeException], []]

    clock.run(main())


def test_a_reader_that_is_far_behind_makes_the_batch_wait_and_one_that_leaves_does_not() -> None:
    made = 0
    closed = asyncio.Event()

    @serve.batch(max_batch_size=2)
    async def endless(items: list[int]) -> Any:
        nonlocal made
        try:
            while True:
                made += 1
                yield [made] * len(items)
        finally:
            closed.set()

    async def main() -> None:
        slow: Any = endless([1])
        fast: Any = endless([2])
        first = await asyncio.gather(anext(slow), anext(fast))
        assert first == [1, 1]
        reading = asyncio.create_task(collect(fast))
        for _ in range(5 * STREAM_VALUES):
            await asyncio.sleep(0)
        assert made == STREAM_VALUES + 1
        await slow.aclose()
        for _ in range(5 * STREAM_VALUES):
            await asyncio.sleep(0)
        assert made > 2 * STREAM_VALUES
        # With the last reader gone the generator is closed, and the place is free.
        reading.cancel()
        await closed.wait()
        assert await anext(endless([3])) > 0

    clock.run(main())


@pytest.mark.contract("1.3/generator-joins")
def test_a_stream_is_in_its_batch_from_the_call_on() -> None:
    sizes: list[int] = []

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=5)
    async def spell(words: list[str]) -> Any:
        sizes.append(len(words))
        for number in range(2):
            yield [word + str(number) for word in words]

    async def main() -> None:
        call: Any = spell
        streams = [call(word) for word in "abc"]
        assert [await collect(stream) for stream in streams] == [["a0", "a1"], ["b0", "b1"], ["c0", "c1"]]
        assert (sizes, clock.now()) == ([3], 0)
        with pytest.raises(TypeError, match=r"spell\(\): .*argument"):
            call()

    clock.run(main())


def test_a_stream_that_nobody_began_to_read_leaves_its_batch_when_it_is_dropped() -> None:
    batches: list[list[str]] = []
    closed = asyncio.Event()

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=1)
    async def endless(words: list[str]) -> Any:
        batches.append(words)
        try:
            while True:
                yield words
        finally:
            closed.set()

    async def main() -> None:
        call: Any = endless
        dropped = call("waits")
        del dropped
        await turn()
        begun = call("b")
        call("c")  # dropped while its batch runs
        assert await anext(begun) == "b"
        assert batches == [["b", "c"]]
        reading = asyncio.create_task(collect(begun))
        for _ in range(5 * STREAM_VALUES):
            await asyncio.sleep(0)
        # The one that nobody reads does not hold the other up.
        assert not reading.done()
        reading.cancel()
        await closed.wait()

    clock.run(main())


def test_a_stream_that_was_called_where_no_loop_runs_joins_when_it_is_read() -> None:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=1)
    async def twice(words: list[str]) -> Any:
        for _ in range(2):
            yield words

    async def main() -> None:
        call: Any = twice
        streams = [await asyncio.to_thread(call, word) for word in "ab"]
        assert await asyncio.gather(*map(collect, streams)) == [["a", "a"], ["b", "b"]]

    asyncio.run(main())


@pytest.mark.contract("1.3/batch_size_fn")
def test_a_size_that_cannot_be_said_costs_those_that_wait_and_none_that_come_later() -> None:
    def size(items: list[Any]) -> int:
        return len(sorted(items))  # a number and a text have no order

    @serve.batch(max_batch_size=10, batch_wait_timeout_s=1, batch_size_fn=size)
    async def double(items: list[Any]) -> Any:
        yield [item * 2 for item in items]

    async def main() -> None:
        call: Any = double
        failed = await asyncio.gather(*map(collect, (call(1), call("a"))), return_exceptions=True)
        assert [type(error) for error in failed] == [TypeError, TypeError]
        # Three wait, and one of them leaves: the count of those that left is its own only.
        first, *rest = [asyncio.ensure_future(collect(call(number))) for number in (1, 2, 3)]
        await turn()
        first.cancel()
        assert await asyncio.wait_for(asyncio.gather(*rest), 5) == [[4], [6]]

    clock.run(main())
