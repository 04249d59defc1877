"""What goes together in a batch, and when, and who is in it. On a loop whose clock jumps, so times are exact."""

import asyncio
import contextvars
from typing import Any

import pytest

import clock
from batches import Seen, turn
from eagleray import _request, serve

# --- when a batch goes ------------------------------------------------------------------------------------------------


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


# --- what goes together -----------------------------------------------------------------------------------------------


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
        calls.append((clock.now(), model, items, trace.get(), _request.current.get()))
        await asyncio.sleep(1)
        return [f"{model}{item}" for item in items]

    async def request(model: str, item: int) -> Any:
        _request.current.set(Request(model))  # type: ignore[arg-type]
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


# --- callers that leave -----------------------------------------------------------------------------------------------


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
