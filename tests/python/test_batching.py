"""`@serve.batch`: what goes together, when, and who gets what. On a loop whose clock jumps, so times are exact."""

import asyncio
import contextvars
import inspect
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy
import pytest

import clock
from eagleray import serve
from eagleray._code.identity import identify
from eagleray._replica import context as replica_context
from eagleray.serve._batch_item import STREAM_VALUES
from eagleray.serve.exceptions import RayServeException


class Seen:
    """A batch function that notes the time and the items of each call, and takes a second for it."""

    def __init__(self, seconds: float = 1.0, **options: Any) -> None:
        self.calls: list[tuple[float, list[Any]]] = []
        self.running = self.most_running = 0

        @serve.batch(**options)
        async def double(items: list[Any]) -> list[Any]:
            self.calls.append((clock.now(), items))
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            try:
                await asyncio.sleep(seconds)
            finally:
                self.running -= 1
            return [item * 2 for item in items]

        self.double = double

    @property
    def sizes(self) -> list[int]:
        return [len(items) for _, items in self.calls]


async def turn() -> None:
    """Lets everything run that can run now."""
    for _ in range(5):
        await asyncio.sleep(0)


# --- the decorator ---------------------------------------------------------------------------------------------------


async def asynchronous(items: list[Any]) -> list[Any]:
    return items


def synchronous(items: list[Any]) -> list[Any]:
    return items


@pytest.mark.contract("1.3/defaults")
def test_the_defaults_are_those_of_ray_serve() -> None:
    bare: Any = serve.batch(asynchronous)
    assert (bare._get_max_batch_size(), bare._get_batch_wait_timeout_s()) == (10, 0.01)
    parameters = inspect.signature(serve.batch).parameters
    assert list(parameters)[1:5] == [
        "max_batch_size", "batch_wait_timeout_s", "max_concurrent_batches", "batch_size_fn",
    ]  # fmt: skip
    assert [parameter.default for parameter in list(parameters.values())[1:5]] == [10, 0.01, 1, None]

    async def main() -> None:
        seen = Seen()
        await asyncio.gather(*(seen.double(number) for number in range(25)))
        assert seen.sizes == [10, 10, 5]
        assert seen.most_running == 1

    clock.run(main())


@pytest.mark.contract("1.3/target", "G/9", better="checked in the parametrised form too")
@pytest.mark.parametrize("form", [serve.batch, serve.batch(max_batch_size=2)])
@pytest.mark.parametrize("target", [synchronous, 7, list, (item for item in ())])
def test_only_async_functions_are_batched(form: Callable[[Any], Any], target: Any) -> None:
    with pytest.raises(TypeError, match=r"@serve\.batch"):
        form(target)


def test_the_message_for_a_sync_function_says_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"async def synchronous(.|\n)*asyncio\.to_thread"):
        serve.batch(synchronous)


@pytest.mark.contract(
    "1.3/max_batch_size", "1.3/batch_wait_timeout_s", "1.3/max_concurrent_batches", "1.3/batch_size_fn"
)
@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("max_batch_size", "4", TypeError),
        ("max_batch_size", 2.5, TypeError),
        ("max_batch_size", None, TypeError),
        ("max_batch_size", True, TypeError),
        ("max_batch_size", 0, ValueError),
        ("max_batch_size", -1, ValueError),
        ("batch_wait_timeout_s", "1", TypeError),
        ("batch_wait_timeout_s", None, TypeError),
        ("batch_wait_timeout_s", -0.1, ValueError),
        ("batch_wait_timeout_s", float("inf"), ValueError),
        ("batch_wait_timeout_s", float("nan"), ValueError),
        ("max_concurrent_batches", 0, TypeError),
        ("max_concurrent_batches", 1.0, TypeError),
        ("max_concurrent_batches", "2", TypeError),
        ("batch_size_fn", 3, TypeError),
        ("batch_size_fn", "len", TypeError),
    ],
)
def test_a_wrong_option_is_refused_where_it_is_written(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=option):
        serve.batch(**{option: value})


@pytest.mark.contract("1.3/max_batch_size")
def test_a_whole_float_is_a_size() -> None:
    wrapped: Any = serve.batch(max_batch_size=2.0, batch_wait_timeout_s=0)(asynchronous)  # type: ignore[call-overload]
    assert wrapped._get_max_batch_size() == 2


def test_the_wrapper_is_what_it_wraps() -> None:
    wrapped: Any = serve.batch(asynchronous)
    assert inspect.iscoroutinefunction(wrapped)
    assert wrapped.__name__ == "asynchronous"

    @serve.batch
    async def streamed(items: list[Any]) -> Any:
        """Of a stream."""
        yield items

    assert inspect.isasyncgenfunction(streamed)
    assert streamed.__doc__ == "Of a stream."


def test_a_class_with_batches_travels_by_value_and_its_settings_are_part_of_its_version() -> None:
    source = """
class Model:
    @serve.batch(max_batch_size={size})
    async def double(self, items):
        return [item * 2 for item in items]
"""
    made, identities = [], []
    for size in (3, 3, 4):
        space: dict[str, Any] = {"serve": serve, "__name__": "__main__"}
        exec(source.format(size=size), space)
        made.append(space["Model"])
        identities.append(identify(space["Model"]).digest)
    assert identities[0] == identities[1] != identities[2]

    # In another process: in this one cloudpickle finds the class that it has.
    program = """
import asyncio, pickle, sys
model = pickle.load(sys.stdin.buffer)()
model.double.set_max_batch_size(5)
async def main():
    print(await asyncio.gather(*(model.double(number) for number in range(4))), model.double._get_max_batch_size())
asyncio.run(main())
"""
    data = cloudpickle.dumps(made[0])
    ran = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=True)
    assert ran.stdout.decode().strip() == "[0, 2, 4, 6] 5"
    assert made[0].double._get_max_batch_size() == 3


# --- what goes together ----------------------------------------------------------------------------------------------


@pytest.mark.contract("1.3/wait-window")
def test_the_wait_begins_with_the_oldest_item() -> None:
    async def main() -> None:
        seen = Seen(max_batch_size=10, batch_wait_timeout_s=0.5)
        await asyncio.sleep(3)
        first = asyncio.create_task(seen.double(1))
        await asyncio.sleep(0.4)
        second = asyncio.create_task(seen.double(2))
        await asyncio.sleep(0.2)
        third = asyncio.create_task(seen.double(3))
        assert await asyncio.gather(first, second, third) == [2, 4, 6]
        # The third came while the function was busy: its time was over before the function was free again.
        assert seen.calls == [(3.5, [1, 2]), (4.5, [3])]

    clock.run(main())


def test_a_full_batch_does_not_wait() -> None:
    async def main() -> None:
        seen = Seen(max_batch_size=3, batch_wait_timeout_s=100.0)
        await asyncio.gather(*(seen.double(number) for number in range(6)))
        assert [(at, len(items)) for at, items in seen.calls] == [(0.0, 3), (1.0, 3)]

    clock.run(main())


def test_without_a_wait_what_comes_in_one_turn_goes_together() -> None:
    async def main() -> None:
        seen = Seen(batch_wait_timeout_s=0)
        await asyncio.gather(*(seen.double(number) for number in range(4)))
        assert seen.calls == [(0.0, [0, 1, 2, 3])]

    clock.run(main())


@pytest.mark.contract("1.3/concurrent", better="a batch is filled until it is handed over, never closed early")
def test_while_all_batches_run_what_waits_fills_up() -> None:
    async def main() -> None:
        seen = Seen(max_batch_size=8, batch_wait_timeout_s=0.1, max_concurrent_batches=2)
        tasks = []
        for number in range(40):
            tasks.append(asyncio.create_task(seen.double(number)))
            await asyncio.sleep(0.05)
        assert await asyncio.gather(*tasks) == [number * 2 for number in range(40)]
        assert seen.most_running == 2
        # Two small ones, until both places are taken; from then on every batch is full but the last.
        assert seen.sizes[2:-1] == [8] * (len(seen.sizes) - 3)
        assert [item for _, items in seen.calls for item in items] == list(range(40))

    clock.run(main())


@pytest.mark.contract("1.3/per-instance", "G/11", better="each instance has a queue of its own")
def test_each_instance_has_a_queue() -> None:
    class Model:
        def __init__(self, name: str) -> None:
            self.name = name

        @serve.batch(max_batch_size=4)
        async def tag(self, items: list[int]) -> list[str]:
            return [f"{self.name}{len(items)}:{item}" for item in items]

    async def main() -> None:
        a, b = Model("a"), Model("b")
        assert await asyncio.gather(a.tag(1), b.tag(2), a.tag(3)) == ["a2:1", "b1:2", "a2:3"]  # type: ignore[arg-type]

    clock.run(main())


def test_a_queue_goes_with_its_instance() -> None:
    class Slotted:
        __slots__ = ()
        __hash__ = None  # type: ignore[assignment]

        @serve.batch(batch_wait_timeout_s=0)
        async def same(self, items: list[int]) -> list[int]:
            return items

    class Plain(Slotted):
        pass

    async def main() -> None:
        assert await Slotted().same(1) == 1  # type: ignore[arg-type]
        made = Plain()
        assert await made.same(2) == 2  # type: ignore[arg-type]
        wrapper: Any = Slotted.same
        before = len(wrapper._get_handling_task_stack.__self__._queues)
        del made
        assert len(wrapper._get_handling_task_stack.__self__._queues) == before - 1

    clock.run(main())


@pytest.mark.contract("1.3/functions")
def test_functions_methods_and_static_methods() -> None:
    class Model:
        scale = 3

        @serve.batch
        async def method(self, items: list[int]) -> list[int]:
            return [item * self.scale for item in items]

        @staticmethod
        @serve.batch
        async def static(items: list[int]) -> list[int]:
            return items

        @classmethod
        @serve.batch
        async def of_class(cls, items: list[int]) -> list[int]:
            return [item * cls.scale for item in items]

    class Child(Model):
        scale = 5

        @serve.batch
        async def method(self, items: list[int]) -> list[int]:
            return [await super(Child, self).method(item) for item in items]  # type: ignore[arg-type]

    async def main() -> None:
        model: Any = Model()
        assert await asyncio.gather(model.method(1), model.method(2)) == [3, 6]
        assert await model.static(7) == 7
        assert await model.of_class(2) == 6
        child: Any = Child()
        assert await child.method(2) == 10
        # An item that is an instance of the class is still an item of a plain function.
        plain: Any = serve.batch(asynchronous)
        assert await plain(model) is model

    clock.run(main())


@pytest.mark.contract("1.3/columns")
def test_every_argument_becomes_a_column() -> None:
    calls: list[Any] = []

    @serve.batch
    async def add(left: list[int], right: list[int], *, scale: list[int]) -> list[int]:
        calls.append((left, right, scale))
        return [(a + b) * c for a, b, c in zip(left, right, scale, strict=True)]

    async def main() -> None:
        add_one: Any = add
        assert await asyncio.gather(
            add_one(1, 2, scale=10), add_one(3, right=4, scale=100), add_one(scale=1, right=6, left=5)
        ) == [30, 700, 11]
        assert calls == [([1, 3, 5], [2, 4, 6], [10, 100, 1])]

    clock.run(main())


def test_a_default_stands_in_for_an_argument_that_only_some_callers_give() -> None:
    @serve.batch
    async def scaled(items: list[int], factor: Any = 7) -> list[Any]:
        return [(item, factor) for item in items] if factor == 7 else list(zip(items, factor, strict=True))

    async def main() -> None:
        call: Any = scaled
        assert await asyncio.gather(call(1), call(2, 3)) == [(1, 7), (2, 3)]
        # Nobody gave it: the function's own default is what it sees.
        assert await asyncio.gather(call(1), call(2)) == [(1, 7), (2, 7)]

    clock.run(main())


def test_a_call_with_wrong_arguments_fails_alone() -> None:
    async def main() -> None:
        seen = Seen()
        good, bad = await asyncio.gather(seen.double(1), seen.double(1, 2), return_exceptions=True)
        assert good == 2
        assert isinstance(bad, TypeError)
        assert "double()" in str(bad)

    clock.run(main())


# --- what comes back -------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit, KeyboardInterrupt])
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


@pytest.mark.contract("1.3/cancelled")
def test_a_caller_that_is_cancelled_while_it_waits_is_not_in_the_batch() -> None:
    async def main() -> None:
        seen = Seen(max_batch_size=3, batch_wait_timeout_s=1.0)
        tasks = [asyncio.create_task(seen.double(number)) for number in range(2)]
        await turn()
        tasks[0].cancel()
        await turn()
        tasks += [asyncio.create_task(seen.double(number)) for number in (2, 3)]
        assert await asyncio.gather(*tasks[1:]) == [2, 4, 6]
        assert seen.calls == [(0.0, [1, 2, 3])]
        # With nobody left there is no call, and the next item waits its own time.
        alone = asyncio.create_task(seen.double(7))
        await asyncio.sleep(0.5)
        alone.cancel()
        await asyncio.sleep(2)
        assert seen.sizes == [3]
        began = clock.now()
        assert await seen.double(8) == 16
        assert seen.calls[-1] == (began + 1.0, [8])

    clock.run(main())


def test_a_batch_that_runs_goes_on_without_a_caller() -> None:
    async def main() -> None:
        seen = Seen(max_batch_size=2)
        tasks = [asyncio.create_task(seen.double(number)) for number in range(2)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        assert await tasks[1] == 2
        assert seen.most_running == 1

    clock.run(main())


# --- sizes by function ------------------------------------------------------------------------------------------------


@pytest.mark.contract("1.3/size", "1.3/size-overflow", better="an item that does not fit keeps its place in the queue")
def test_sizes_by_function_keep_the_order() -> None:
    async def main() -> None:
        seen = Seen(max_batch_size=10, batch_wait_timeout_s=0.1, batch_size_fn=sum)
        numbers = [4, 4, 9, 1, 5, 5, 3]
        assert await asyncio.gather(*(seen.double(number) for number in numbers)) == [8, 8, 18, 2, 10, 10, 6]
        # Never full by number, full when the next does not fit: nobody waits longer for that.
        assert seen.calls == [(0.0, [4, 4]), (1.0, [9, 1]), (2.0, [5, 5]), (3.0, [3])]

    clock.run(main())


@pytest.mark.contract("1.3/size-single")
def test_an_item_that_is_too_large_by_itself_fails_alone() -> None:
    async def main() -> None:
        seen = Seen(max_batch_size=10, batch_size_fn=sum)
        results = await asyncio.gather(*(seen.double(number) for number in (3, 11, 4)), return_exceptions=True)
        assert results[::2] == [6, 8]
        assert isinstance(results[1], RuntimeError)
        assert "max_batch_size=10" in str(results[1])
        assert seen.calls == [(0.01, [3, 4])]
        # The limit goes down while an item waits.
        waiting = asyncio.create_task(seen.double(9))
        await turn()
        seen.double.set_max_batch_size(5)
        with pytest.raises(RuntimeError, match="max_batch_size=5"):
            await waiting

    clock.run(main())


def test_a_size_function_that_fails_costs_only_those_it_was_asked_about() -> None:
    def size(items: list[Any]) -> Any:
        if len(items) == 1:
            return items[0]
        if 5 in items:
            raise OSError("no size")
        return sum(items)

    async def main() -> None:
        seen = Seen(max_batch_size=100, batch_size_fn=size)
        with pytest.raises(TypeError, match="batch_size_fn"):
            await seen.double("large")
        results = await asyncio.gather(*(seen.double(number) for number in (1, 5)), return_exceptions=True)
        assert [type(error) for error in results] == [OSError, OSError]
        assert await asyncio.gather(seen.double(1), seen.double(2)) == [2, 4]

    clock.run(main())


# --- streams ----------------------------------------------------------------------------------------------------------


async def collect(stream: Any) -> list[Any]:
    return [value async for value in stream]


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


# --- while it runs ----------------------------------------------------------------------------------------------------


@pytest.mark.contract("1.3/setters", better="the setters check as the decorator does")
def test_the_setters_change_what_waits() -> None:
    async def main() -> None:
        seen = Seen(max_batch_size=10, batch_wait_timeout_s=100.0)
        tasks = [asyncio.create_task(seen.double(number)) for number in range(4)]
        await asyncio.sleep(2)
        seen.double.set_max_batch_size(4)
        await asyncio.gather(*tasks)
        task = asyncio.create_task(seen.double(4))
        await asyncio.sleep(3)
        seen.double.set_batch_wait_timeout_s(5)
        await task
        assert seen.calls == [(2.0, [0, 1, 2, 3]), (8.0, [4])]
        assert (seen.double._get_max_batch_size(), seen.double._get_batch_wait_timeout_s()) == (4, 5.0)
        for setter, value, error in (
            (seen.double.set_max_batch_size, 0, ValueError),
            (seen.double.set_max_batch_size, "1", TypeError),
            (seen.double.set_batch_wait_timeout_s, -1, ValueError),
        ):
            with pytest.raises(error):
                setter(value)

    clock.run(main())


@pytest.mark.contract("1.3/private")
def test_the_private_getters() -> None:
    async def main() -> None:
        seen = Seen(max_batch_size=1, max_concurrent_batches=2)
        assert not await seen.double._is_batching_task_alive()
        assert seen.double._get_curr_iteration_start_times().min_start_time is None
        tasks = [asyncio.create_task(seen.double(number)) for number in range(2)]
        await turn()
        times = seen.double._get_curr_iteration_start_times()
        assert times.num_requests == len(times.start_times) == 2
        assert times.min_start_time <= times.mean_start_time <= times.max_start_time
        assert await seen.double._is_batching_task_alive()
        assert "in double" in await seen.double._get_handling_task_stack()
        await asyncio.gather(*tasks)
        await turn()
        assert seen.double._get_curr_iteration_start_times().start_times == []

    clock.run(main())


class Request:
    """What a batch reads of a request in a replica."""

    def __init__(self, multiplexed_model_id: str = "") -> None:
        self.multiplexed_model_id = multiplexed_model_id


trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="")


@pytest.mark.contract("1.3/model-id", "1.5/get_multiplexed_model_id-batch", "1.5/get_multiplexed_model_id")
def test_a_batch_is_split_by_model_and_belongs_to_no_single_request() -> None:
    calls: list[Any] = []

    @serve.batch(max_batch_size=4)
    async def predict(items: list[int]) -> list[str]:
        model = serve.get_multiplexed_model_id()
        calls.append((clock.now(), model, items, trace.get(), replica_context.current.get()))
        await asyncio.sleep(1)
        return [f"{model}{item}" for item in items]

    async def request(model: str, item: int) -> Any:
        replica_context.current.set(Request(model))  # type: ignore[arg-type]
        trace.set(f"of {item}")
        answer = await predict(item)  # type: ignore[arg-type]
        assert serve.get_multiplexed_model_id() == model
        return answer

    async def main() -> None:
        assert serve.get_multiplexed_model_id() == ""
        asked = [("a", 1), ("b", 2), ("a", 3), ("", 4)]
        assert await asyncio.gather(*(request(*one) for one in asked)) == ["a1", "b2", "a3", "4"]
        # Side by side, each in the context of its oldest item, without that item's request.
        assert calls == [
            (0.0, "a", [1, 3], "of 1", None), (0.0, "b", [2], "of 2", None), (0.0, "", [4], "of 4", None),
        ]  # fmt: skip

    clock.run(main())


@pytest.mark.contract("1.3/warning")
def test_a_warning_says_that_batches_cannot_fill(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("eagleray.serve._log.logger", lambda: __import__("logging").getLogger("warned"))
    monkeypatch.setattr("eagleray.serve.batching.logger", lambda: __import__("logging").getLogger("warned"))
    for limit, warned in ((7, True), (8, False)):
        caplog.clear()
        monkeypatch.setattr(replica_context, "max_ongoing_requests", limit)

        async def main() -> None:
            seen = Seen(max_batch_size=4, max_concurrent_batches=2)
            await asyncio.gather(seen.double(1), seen.double(2))
            await seen.double(3)

        clock.run(main())
        found = [record.getMessage() for record in caplog.records]
        assert [("max_ongoing_requests=8" in text) for text in found] == ([True] if warned else [])


# --- loops ------------------------------------------------------------------------------------------------------------


@pytest.mark.contract("1.3/outside", better="a batch function works outside a replica too, so that it can be tested")
def test_one_loop_after_the_other() -> None:
    call: Any = serve.batch(batch_wait_timeout_s=0)(asynchronous)
    for number in range(3):
        assert asyncio.run(call(number)) == number


def test_calls_from_other_loops_join_the_batches_of_the_first() -> None:
    sizes: list[int] = []

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=30)
    async def count(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return items

    call: Any = count

    def other(number: int) -> int:
        return asyncio.run(call(number))  # type: ignore[no-any-return]

    async def main() -> list[int]:
        here = asyncio.create_task(call(0))
        await turn()
        return await asyncio.gather(here, *(asyncio.to_thread(other, number) for number in (1, 2, 3)))

    assert asyncio.run(main()) == [0, 1, 2, 3]
    assert sizes == [4]


def test_a_stream_on_another_loop_is_a_clear_error() -> None:
    @serve.batch
    async def stream(items: list[int]) -> Any:
        yield items

    call: Any = stream

    async def main() -> None:
        assert await collect(call(1)) == [1]
        with pytest.raises(RuntimeError, match="event loop of its replica"):
            await asyncio.to_thread(lambda: asyncio.run(collect(call(2))))

    asyncio.run(main())
