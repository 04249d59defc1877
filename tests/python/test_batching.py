"""`@serve.batch`: what may be decorated and how it is called. On a loop whose clock jumps, so times are exact."""

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest

import clock
from batches import Seen, asynchronous, collect, turn
from eagleray import _runtime, serve
from eagleray._code.identity import identify

# --- the decorator ----------------------------------------------------------------------------------------------------


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

    assert streamed.__name__ == "streamed"
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


# --- calls ------------------------------------------------------------------------------------------------------------


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


# --- while it runs ----------------------------------------------------------------------------------------------------


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


@pytest.mark.contract("1.3/warning")
def test_a_warning_says_that_batches_cannot_fill(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("eagleray.serve._log.logger", lambda: __import__("logging").getLogger("warned"))
    monkeypatch.setattr("eagleray.serve.batching.logger", lambda: __import__("logging").getLogger("warned"))
    for limit, warned in ((7, True), (8, False)):
        caplog.clear()

        async def main(limit: int = limit) -> None:
            # Which loop is the replica's own does not matter: another than this one.
            other: Any = SimpleNamespace(is_running=lambda: False)
            monkeypatch.setattr(_runtime, "replica", _runtime.Replica(other, other, max_ongoing_requests=limit))
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
