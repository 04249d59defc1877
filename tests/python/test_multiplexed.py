"""`@serve.multiplexed`: what is loaded, when, and what makes place for it. On a loop whose clock jumps."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import clock
from eagleray import _request, _runtime, serve
from eagleray.serve import _model_caches, context


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """As inside a replica. What routers are told."""
    made = context.ReplicaContext(context.ReplicaID("r", context.DeploymentID("d", "a")))
    told: list[list[str]] = []

    class Core:
        set_models = staticmethod(told.append)

    # No loop of the replica's own runs.
    core: Any = Core()
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        monkeypatch.setattr(_runtime, "replica", _runtime.Replica(core, loop, made))
    # Of tests before this one, until they are collected.
    _model_caches.caches.clear()
    yield told
    _model_caches.caches.clear()


class Model:
    """Says when it is unloaded, and takes half a second for that."""

    def __init__(self, model_id: str, log: list[Any]) -> None:
        self.model_id = model_id
        self.log = log

    async def __del__(self) -> None:
        self.log.append((clock.now(), "unload", self.model_id))
        await asyncio.sleep(0.5)


class Holder:
    """A deployment with a loader that takes a second."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.broken: set[str] = set()
        self.raised: type[BaseException] = OSError
        self.loading = self.most_loading = 0

    @serve.multiplexed(max_num_models_per_replica=2)
    async def load(self, model_id: str) -> Model:
        self.log.append((clock.now(), "load", model_id))
        self.loading += 1
        self.most_loading = max(self.most_loading, self.loading)
        try:
            await asyncio.sleep(1)
        finally:
            self.loading -= 1
        if model_id in self.broken:
            raise self.raised(f"no file for {model_id}")
        return Model(model_id, self.log)

    @property
    def loads(self) -> list[str]:
        return [model_id for _, kind, model_id in self.log if kind == "load"]

    async def use(self, model_id: str, seconds: float = 0.0) -> str:
        """What a request does, in a task of its own."""
        model = await self.load(model_id)
        await asyncio.sleep(seconds)
        return model.model_id

    def request(self, model_id: str, seconds: float = 0.0) -> asyncio.Task[str]:
        return asyncio.create_task(self.use(model_id, seconds))


def run(main: Callable[[Holder], Any]) -> Holder:
    """Runs it; at the end all models are unloaded, as when a replica stops."""
    holder = Holder()

    async def whole() -> None:
        await main(holder)
        await _model_caches.unload_all(asyncio.get_running_loop())

    clock.run(whole())
    return holder


# --- the decorator ----------------------------------------------------------------------------------------------------


async def good(model_id: str) -> str:
    return model_id


def synchronous(model_id: str) -> str:
    return model_id


async def without() -> None: ...


async def with_three(self: Any, model_id: str, more: int) -> None: ...


@pytest.mark.contract("1.4/target", "G/9", better="checked in the parametrised form too")
@pytest.mark.parametrize("form", [serve.multiplexed, serve.multiplexed(max_num_models_per_replica=2)])
@pytest.mark.parametrize("target", [synchronous, without, with_three, 7, str])
def test_only_async_loaders_of_one_id_are_multiplexed(form: Callable[[Any], Any], target: Any) -> None:
    with pytest.raises(TypeError, match=r"@serve\.multiplexed"):
        form(target)
    assert inspect.iscoroutinefunction(form(good))


@pytest.mark.contract("1.4/max_num_models_per_replica")
def test_the_limit_is_checked() -> None:
    assert inspect.signature(serve.multiplexed).parameters["max_num_models_per_replica"].default == 3
    for value in (0, -2):
        with pytest.raises(ValueError, match="max_num_models_per_replica"):
            serve.multiplexed(max_num_models_per_replica=value)
    for wrong in ("2", 2.0, None, True):
        with pytest.raises(TypeError, match="max_num_models_per_replica"):
            serve.multiplexed(max_num_models_per_replica=wrong)  # type: ignore[call-overload]

    class Many:
        @serve.multiplexed(max_num_models_per_replica=-1)
        async def load(self, model_id: str) -> str:
            loads.append(model_id)
            return model_id

    loads: list[str] = []

    async def main() -> None:
        many = Many()
        for _ in range(2):
            for number in range(50):
                assert await asyncio.create_task(many.load(str(number))) == str(number)
        assert len(loads) == 50

    clock.run(main())


@pytest.mark.contract("1.4/call")
def test_a_call_has_one_model_id() -> None:
    async def main(holder: Holder) -> None:
        call: Any = holder.load
        for args, kwargs in (((), {}), (("a", "b"), {}), ((), {"model_id": "a"}), (("a",), {"more": 1})):
            with pytest.raises(TypeError, match=r"load\(model_id\)"):
                await call(*args, **kwargs)
        for wrong in (7, None, b"a"):
            with pytest.raises(TypeError, match="must be a string"):
                await call(wrong)
        with pytest.raises(ValueError, match="serve_multiplexed_model_id"):
            await call("")
        assert holder.log == []

    run(main)


@pytest.mark.contract("1.4/outside")
def test_outside_a_replica_a_call_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_runtime, "replica", None)
    with pytest.raises(RuntimeError, match="inside a replica"):
        clock.run(Holder().load("a"))


# --- loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.contract("1.4/cached")
def test_a_loaded_model_is_kept_and_the_least_recently_used_makes_place() -> None:
    async def main(holder: Holder) -> None:
        for model_id in ("a", "b", "a", "c", "a", "b"):
            assert await holder.request(model_id) == model_id
        assert holder.loads == ["a", "b", "c", "b"]
        assert [one[2] for one in holder.log if one[1] == "unload"] == ["b", "c"]

    run(main)


@pytest.mark.contract("1.4/evict-first", "1.4/unload")
def test_a_model_is_gone_before_its_successor_is_loaded() -> None:
    async def main(holder: Holder) -> None:
        for model_id in ("a", "b", "c"):
            await holder.request(model_id)
        assert holder.log == [(0.0, "load", "a"), (1.0, "load", "b"), (2.0, "unload", "a"), (2.5, "load", "c")]

    run(main)


@pytest.mark.contract("1.4/one-load", better="different models are loaded side by side, as far as there is room")
def test_many_callers_share_a_load_and_different_models_load_side_by_side() -> None:
    async def main(holder: Holder) -> None:
        requests = [holder.request(model_id) for model_id in ("a", "b", "a", "a", "b", "c")]
        assert await asyncio.gather(*requests) == ["a", "b", "a", "a", "b", "c"]
        assert holder.loads == ["a", "b", "c"]
        # The third had to wait for a place.
        assert holder.most_loading == 2
        assert holder.log[:2] == [(0.0, "load", "a"), (0.0, "load", "b")]
        assert clock.now() == pytest.approx(2.5)

    run(main)


@pytest.mark.contract("1.4/in-use")
def test_a_model_in_use_is_not_unloaded() -> None:
    async def main(holder: Holder) -> None:
        long, short = holder.request("a", 10), holder.request("b", 5)
        await asyncio.sleep(1.5)
        third = holder.request("c")
        await third
        # The first whose request ended made place, not the least recently used.
        assert clock.now() == pytest.approx(7.5)
        assert holder.log[2:] == [(6.0, "unload", "b"), (6.5, "load", "c")]
        await asyncio.gather(long, short)

    run(main)


def test_a_model_stays_while_the_request_that_asked_in_another_task_runs() -> None:
    async def main(holder: Holder) -> None:
        async def request() -> None:
            await asyncio.wait_for(holder.load("a"), 5)
            (other,) = await asyncio.gather(holder.load("b"))
            await asyncio.sleep(4)
            assert other.model_id == "b"
            assert not any(kind == "unload" for _, kind, _ in holder.log)

        class Request:
            multiplexed_model_id = "a"
            task: Any = None

        serving = Request()

        async def served() -> None:
            _request.current.set(serving)  # type: ignore[arg-type]
            await request()

        serving.task = asyncio.create_task(served())
        await asyncio.sleep(3)
        await asyncio.gather(holder.request("c"), serving.task)
        assert [one for one in holder.log if one[1] == "unload"] == [(6.0, "unload", "a")]

    run(main)


def test_requests_that_wait_for_each_others_places_do_not_wait_for_ever() -> None:
    async def main(holder: Holder) -> None:
        async def chain(first: str, second: str) -> str:
            one = await holder.load(first)
            two = await holder.load(second)
            return str(one.model_id + two.model_id)

        tasks = [asyncio.create_task(chain(*pair)) for pair in ("ab", "cd", "ef")]
        assert await asyncio.wait_for(asyncio.gather(*tasks), 60) == ["ab", "cd", "ef"]

    run(main)


@pytest.mark.contract("1.4/failed-load")
@pytest.mark.parametrize("raised", [OSError, GeneratorExit])
def test_a_loader_that_raises_fails_its_callers_and_is_tried_again(raised: type[BaseException]) -> None:
    async def main(holder: Holder) -> None:
        holder.broken, holder.raised = {"a"}, raised
        errors = await asyncio.gather(*(holder.request("a") for _ in range(3)), return_exceptions=True)
        assert [(type(error), str(error)) for error in errors] == [(raised, "no file for a")] * 3
        assert len({id(error) for error in errors}) == 3
        assert holder.loads == ["a"]
        holder.broken = set()
        assert await holder.request("a") == "a"
        assert holder.loads == ["a", "a"]

    run(main)


def test_a_load_without_callers_is_cancelled_and_leaves_no_trace(told: list[list[str]]) -> None:
    async def main(holder: Holder) -> None:
        alone = holder.request("a")
        both = [holder.request("b") for _ in range(2)]
        await asyncio.sleep(0.5)
        alone.cancel()
        both[0].cancel()
        assert await both[1] == "b"
        assert told[-1] == ["b"]
        assert await asyncio.gather(holder.request("a"), holder.request("a")) == ["a", "a"]
        assert holder.loads == ["a", "b", "a"]
        assert holder.loading == 0

    run(main)


@pytest.mark.contract("1.4/routers", better="at once, when a load begins; nothing is polled")
def test_routers_are_told_of_every_change(told: list[list[str]]) -> None:
    async def main(holder: Holder) -> None:
        request = holder.request("a")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert told == [["a"]]
        await request
        await holder.request("b")
        holder.broken = {"c"}
        await asyncio.gather(holder.request("c"), return_exceptions=True)
        assert told[-1] == ["b"]

    run(main)
    assert told[-1] == []


@pytest.mark.contract("1.4/two-loaders", "G/10", better="each loader of each instance has a cache of its own")
def test_two_loaders_on_a_class() -> None:
    class Two:
        @serve.multiplexed(max_num_models_per_replica=1)
        async def text(self, model_id: str) -> str:
            loads.append(f"text {model_id}")
            return f"text {model_id}"

        @serve.multiplexed(max_num_models_per_replica=1)
        async def image(self, model_id: str) -> str:
            loads.append(f"image {model_id}")
            return f"image {model_id}"

    loads: list[str] = []

    async def main() -> None:
        two, other = Two(), Two()
        for _ in range(2):
            assert await asyncio.create_task(two.text("a")) == "text a"
            assert await asyncio.create_task(two.image("a")) == "image a"
        assert loads == ["text a", "image a"]
        await other.text("a")
        assert len(loads) == 3
        assert _model_caches.has_loader(two)

    clock.run(main())
    assert not _model_caches.has_loader(object())


class Counted:
    def __init__(self, error: Exception) -> None:
        self.unloads = 0
        self._error = error

    def __del__(self) -> None:
        self.unloads += 1
        if self.unloads == 1:
            raise self._error


@pytest.mark.contract("1.4/unload", "1.4/shutdown")
@pytest.mark.parametrize("error", [RuntimeError("on purpose"), StopIteration()])
def test_a_sync_destructor_runs_once_and_its_error_is_logged(error: Exception) -> None:
    made: list[Counted] = []

    class Deployed:
        @serve.multiplexed(max_num_models_per_replica=1)
        async def load(self, model_id: str) -> Counted:
            made.append(Counted(error))
            return made[-1]

    async def main() -> None:
        deployed = Deployed()
        await asyncio.create_task(deployed.load("a"))
        await asyncio.create_task(deployed.load("b"))
        assert [model.unloads for model in made] == [1, 0]
        await _model_caches.unload_all(asyncio.get_running_loop())
        assert [model.unloads for model in made] == [1, 1]

    # Sync destructors run in threads.
    asyncio.run(asyncio.wait_for(main(), 20))
    for model in made:
        model.__del__()
        assert model.unloads == 1


def test_a_sync_method_gets_its_model_from_the_loop_of_the_others() -> None:
    class Deployed:
        @serve.multiplexed
        async def load(self, model_id: str) -> Any:
            return model_id, asyncio.get_running_loop()

    async def main() -> None:
        deployed = Deployed()
        here = asyncio.get_running_loop()
        assert await deployed.load("a") == ("a", here)
        assert await asyncio.to_thread(lambda: asyncio.run(deployed.load("b"))) == ("b", here)

    asyncio.run(main())


def test_inside_a_batch_the_model_of_the_batch_is_loaded_and_stays_for_it() -> None:
    class Deployed(Holder):
        @serve.batch(max_batch_size=4, batch_wait_timeout_s=0)
        async def predict(self, items: list[int]) -> list[str]:
            model = await self.load(serve.get_multiplexed_model_id())
            return [f"{model.model_id}{item}" for item in items]

    class Request:
        def __init__(self, multiplexed_model_id: str) -> None:
            self.multiplexed_model_id = multiplexed_model_id

    async def request(deployed: Any, model_id: str, item: int) -> Any:
        _request.current.set(Request(model_id))  # type: ignore[arg-type]
        return await deployed.predict(item)

    async def main() -> None:
        deployed = Deployed()
        asked = [("a", 1), ("b", 2), ("a", 3), ("c", 4)]
        answers = await asyncio.gather(*(request(deployed, *one) for one in asked))
        assert answers == ["a1", "b2", "a3", "c4"]
        assert deployed.loads == ["a", "b", "c"]
        await _model_caches.unload_all(asyncio.get_running_loop())

    clock.run(main())
