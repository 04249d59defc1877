"""Handles between real processes: from the driver, from replicas, from threads and loops; what calls return and raise.

One served application for all tests of the file. A scenario is a function of the application's script, so that the same
one runs in the driver and in a replica.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from machine import Machine, Script, eventually

APP = """
import asyncio, os, pickle, threading, time
import eagleray
from eagleray import serve
from eagleray.serve.context import get_request_context
from eagleray.serve.handle import DeploymentHandle

class Odd(ValueError):
    def __init__(self, a, b):
        super().__init__(a)

@serve.deployment(max_ongoing_requests=20)
class Model:
    def __init__(self):
        self.notes = []
        self.gate = asyncio.Event()

    async def __call__(self, x):
        return x

    def sync(self, x, *, y=0):
        return [x, y, threading.current_thread() is threading.main_thread()]

    async def fail(self, kind):
        if kind == "odd":
            raise Odd(1, 2)
        if kind == "cancel":
            raise asyncio.CancelledError
        raise LookupError("not here")

    def options(self):
        return "named as a member of the handle"

    async def lock(self):
        return threading.Lock()

    async def note(self, text=None):
        if text is not None:
            self.notes.append(text)
        return list(self.notes)

    async def forget(self):
        self.notes.clear()
        self.gate.clear()

    async def open(self):
        self.gate.set()

    async def wait(self, name="wait"):
        self.notes.append(name)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.notes.append(name + " cancelled")
            raise
        return "waited"

    async def touch(self, path):
        open(path, "w").close()

    async def context(self):
        context = get_request_context()
        return [context.request_id, context.route, context.app_name, context.multiplexed_model_id, context.session_id]

    async def items(self, n, size=0, fail=False):
        try:
            for i in range(n):
                self.notes.append(i)
                yield bytes(size) if size else i
            if fail:
                raise KeyError("midway")
        except (asyncio.CancelledError, GeneratorExit):
            self.notes.append("closed")
            raise

    def sync_items(self, n, size=0):
        try:
            for i in range(n):
                self.notes.append(i)
                yield bytes(size) if size else i
        except GeneratorExit:
            self.notes.append("closed")
            raise

    async def lock_step(self):
        for i in range(3):
            self.gate.clear()
            yield i
            await self.gate.wait()

@serve.deployment(max_ongoing_requests=20)
class Caller:
    def __init__(self, model: DeploymentHandle):
        self.model = model

    async def __call__(self, request):
        return {"mine": request.headers["x-request-id"], "inner": await self.model.context.remote()}

    async def run(self, name):
        return await SCENARIOS[name](self.model)

    def run_sync(self, name):
        return SCENARIOS[name](self.model)

    async def blocks(self, path):
        # All that came together go on together.
        await self.model.remote(1)
        response = self.model.touch.remote(path)
        end = time.monotonic() + 20
        while not os.path.exists(path) and time.monotonic() < end:
            time.sleep(0.0001)
        arrived = os.path.exists(path)
        await response
        return arrived

    async def below(self):
        return await self.model.wait.remote("third")

app = Caller.options(name="Caller").bind(Model.bind())

# --- scenarios -------------------------------------------------------------------------------------------------------

async def values(model):
    again = model.remote(5)
    both = await asyncio.gather(model.remote(1), model.sync.remote(2, y=3))
    return [*both, await again, await again, await model.options(method_name="options").remote()]

async def errors(model):
    found = []
    for response in (model.fail.remote("plain"), model.fail.remote("odd"), model.fail.remote("cancel"),
                     model.lock.remote(), model.missing.remote(), model._private.remote(),
                     model.items.remote(1), model.options(method_name="__init__").remote()):
        try:
            await response
        except Exception as error:
            found.append([type(error).__name__, str(error), str(error.__cause__)])
    return found

async def stream(model):
    streamed = model.options(stream=True)
    found = [[item async for item in streamed.items.remote(3)], [item async for item in streamed.sync_items.remote(3)]]
    items = streamed.items.remote(2, fail=True)
    try:
        async for item in items:
            found.append(item)
    except KeyError as error:
        found.append(["KeyError", "in items" in str(error.__cause__)])
    found.append([item async for item in items])
    try:
        async for item in streamed.sync.remote(1):
            found.append("never")
    except TypeError as error:
        found.append(str(error))
    large = [len(item) async for item in streamed.items.remote(3, 500_000)]
    return found + large

async def one_by_one(model):
    got = []
    async for item in model.options(stream=True).lock_step.remote():
        got.append(item)
        await model.open.remote()
    return got

async def slow_consumer(model, method):
    await model.forget.remote()
    items = getattr(model.options(stream=True), method).remote(1000, 10_000)
    async for item in items:
        break
    before = -1
    while True:
        # It stands still once two looks agree: the producer would be through within a fraction of this time.
        made = len(await model.note.remote())
        if made == before:
            break
        before = made
        await asyncio.sleep(0.3)
    items.cancel()
    while (await model.note.remote())[-1] != "closed":
        await asyncio.sleep(0.01)
    return made

async def async_slow_consumer(model):
    return await slow_consumer(model, "items")

async def sync_slow_consumer(model):
    return await slow_consumer(model, "sync_items")

async def dropped(model):
    await model.forget.remote()
    items = model.options(stream=True).items.remote(1000, 10_000)
    await items.__anext__()
    del items
    while (await model.note.remote())[-1] != "closed":
        await asyncio.sleep(0.01)
    return True

async def passed(model):
    first = model.remote([1, 2])
    second = model.sync.remote(first, y=model.remote("y"))
    third = model.remote(model.remote(second))
    big = model.remote(model.remote(bytes(3_000_000)))
    return [await third, len(await big), await first]

async def passed_failures(model):
    found = []
    for call in (model.remote(model.fail.remote("plain")), model.remote(1, model.missing.remote())):
        try:
            await call
        except Exception as error:
            found.append(type(error).__name__)
    gone = model.wait.remote()
    late = model.remote(gone)
    gone.cancel()
    try:
        await late
    except Exception as error:
        found.append([type(error).__name__, type(error.__cause__).__name__])
    return found

async def chosen(model):
    found = []
    async with model.choose_replica() as selection:
        found.append(await model.dispatch(selection, "x"))
        try:
            model.dispatch(selection, "x")
        except RuntimeError as error:
            found.append("already" in str(error))
    async with model.choose_replica() as selection:
        found.append(await model.sync.dispatch(selection, 1, y=model.remote(2)))
    async with model.choose_replica() as selection:
        found.append([item async for item in model.options(method_name="items", stream=True).dispatch(selection, 3)])
    async with model.choose_replica() as selection:
        try:
            await model.fail.dispatch(selection, "plain")
        except LookupError as error:
            found.append(str(error))
    async with model.choose_replica() as selection:
        try:
            DeploymentHandle("Caller", "default").dispatch(selection)
        except ValueError as error:
            found.append("another" in str(error) or "this handle calls" in str(error))
    try:
        model.dispatch(selection, "x")
    except RuntimeError as error:
        found.append("given back" in str(error))
    return found

def in_threads(model):
    found = []
    def ask(number):
        async def wait():
            return await model.remote(number)
        found.append(asyncio.run(wait()))
        found.append(model.remote(number).result(timeout_s=60))
        found.append(sum(model.options(stream=True).sync_items.remote(3)))
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return sorted(found)

async def blocked(directory):
    handle = DeploymentHandle("Caller", "default")
    return await asyncio.gather(*[handle.blocks.remote(f"{directory}/{number}") for number in range(20)])

def give_back(model):
    return model.remote(model).result().remote(1).result()

async def broadcast(model):
    ids = await model.broadcast("__call__", 7).results_async(timeout_s=60)
    failed = await model.broadcast("fail", "plain").results_async(return_exceptions=True)
    try:
        await model.broadcast("fail", "plain").results_async()
    except LookupError:
        return [ids, [type(error).__name__ for error in failed]]

SCENARIOS = {function.__name__: function for function in (
    values, errors, stream, one_by_one, async_slow_consumer, sync_slow_consumer, dropped, passed, passed_failures,
    chosen, in_threads, give_back, broadcast)}
"""


class Served:
    def __init__(self, script: Script) -> None:
        self.script = script
        script.do("globals().update(model=serve.get_deployment_handle('Model', 'default'))")

    def in_driver(self, scenario: str) -> Any:
        return self.script.do(f"asyncio.run({scenario}(model))")

    def in_replica(self, scenario: str) -> Any:
        return self.script.do(f"handle.run.remote({scenario!r}).result(timeout_s=60)")

    def notes(self) -> list[Any]:
        return list(self.script.do("model.note.remote().result(timeout_s=60)"))

    def call(self, expression: str) -> Any:
        return self.script.do(f"({expression}).result(timeout_s=60)")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    machine = Machine(tmp_path_factory.mktemp("handles"))
    try:
        yield Served(machine.serve(APP))
    finally:
        print(machine.scripts[0].output[-8000:] if machine.scripts else "")
        assert not machine.close()


@pytest.fixture(params=["driver", "replica"])
def run(served: Served, request: pytest.FixtureRequest) -> Any:
    served.call("model.forget.remote()")
    return served.in_driver if request.param == "driver" else served.in_replica


@pytest.mark.contract("3.1/callers", "3.1/attributes", "3.1/collisions", "3.3/await", "3.3/await-again")
def test_values_come_back_to_whoever_calls(run: Any) -> None:
    assert run("values") == [1, [2, 3, False], 5, 5, "named as a member of the handle"]


@pytest.mark.contract("3.1/attributes-unknown", "3.3/exception", "3.4/not-streamed")
def test_errors_say_what_they_were(run: Any) -> None:
    plain, odd, cancel, lock, missing, private, unstreamed, dunder = run("errors")
    assert plain[:2] == ["LookupError", "not here"]
    assert "in fail" in plain[2]
    assert odd[:2] == ["Odd", "1"], "pickle could not build it again, and it is the user's own type all the same"
    assert cancel[0] == "RayServeException"
    assert lock[0] == "TypeError"
    assert "the result of lock (lock) cannot be pickled" in lock[1]
    for error in (missing, private, dunder):
        assert error[0] == "RayServeException"
        assert "available methods: __call__, context, fail" in error[1]
    assert unstreamed[0] == "TypeError"
    assert "stream=True" in unstreamed[1]


@pytest.mark.contract("3.1/remote-stream", "3.4/iterate", "3.4/exception", "3.4/not-generator", "4.3/sync-generators")
def test_streams_are_iterated(run: Any) -> None:
    found = run("stream")
    assert found[:4] == [[0, 1, 2], [0, 1, 2], 0, 1]
    assert found[4] == ["KeyError", True]
    assert found[5] == [], "an ended generator stays ended"
    assert "without, and await" in found[6]
    assert found[7:] == [500_000] * 3


def test_an_item_is_there_before_the_next_is_made(run: Any) -> None:
    assert run("one_by_one") == [0, 1, 2]


@pytest.mark.contract("3.4/cancel", "4.3/cancel-generator")
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_slow_consumer_stops_the_producer_and_a_cancelled_one_closes_it(run: Any, kind: str) -> None:
    # 128 KiB and one item ahead, at most, and what the consumer took; an item has 10 kB.
    assert 3 <= run(f"{kind}_slow_consumer") <= 15


@pytest.mark.contract("4.3/cancel-generator")
def test_a_generator_that_is_dropped_is_closed(run: Any) -> None:
    assert run("dropped")


@pytest.mark.contract("3.2/response")
def test_a_response_is_an_argument(run: Any) -> None:
    assert run("passed") == [[[1, 2], "y", False], 3_000_000, [1, 2]]


@pytest.mark.contract("3.2/response-failed")
def test_a_failed_response_fails_what_it_was_passed_to(run: Any) -> None:
    assert run("passed_failures") == [
        "LookupError",
        "RayServeException",
        ["RayServeException", "RequestCancelledError"],
    ]


@pytest.mark.contract("3.1/choose_replica", "3.1/dispatch", "3.1/dispatch-twice", "3.1/dispatch-foreign")
def test_a_replica_is_chosen_and_called_afterwards(run: Any) -> None:
    assert run("chosen") == ["x", True, [1, 2, False], [0, 1, 2], "not here", True, True]


@pytest.mark.contract("3.1/broadcast", "3.5/results_async", "3.5/return_exceptions")
def test_a_broadcast_reaches_all(run: Any) -> None:
    assert run("broadcast") == [[7], ["LookupError"]]


@pytest.mark.contract("3.1/callers", "3.3/result-sync-method")
def test_threads_call_with_and_without_loops(served: Served) -> None:
    expected = sorted([number for number in range(4) for _ in range(2)] + [3] * 4)
    assert served.script.do("in_threads(model)") == expected
    assert served.call("handle.run_sync.remote('in_threads')") == expected


@pytest.mark.contract("3.1/context", "3.1/context-not", "3.3/request_id")
def test_the_context_of_a_request_travels_but_model_and_session_do_not(served: Served) -> None:
    answer = served.script.get("/", headers={"x-request-id": "mine"}).json()
    assert answer["inner"] == ["mine", "/", "default", "", ""]
    named = "model.options(multiplexed_model_id='m', session_id='s')"
    inner = served.call(f"{named}.context.remote()")
    assert inner[1:] == ["", "default", "m", "s"]
    assert served.script.do("(lambda r: r.result() [0] == r.request_id)(model.context.remote())")


@pytest.mark.contract("3.3/cancel", "3.3/cancel-children", "4.3/cancel-response", "4.3/cancel-children")
def test_a_cancelled_call_cancels_what_it_has_called(served: Served) -> None:
    served.call("model.forget.remote()")
    served.script.do("globals().update(r=handle.below.remote())")
    eventually(lambda: served.notes() == ["third"], "the call has arrived")
    served.script.do("r.cancel()")
    eventually(lambda: served.notes() == ["third", "third cancelled"], "it is cancelled")
    assert served.script.ask("r.result()")["error"] == "RequestCancelledError"
    assert served.script.ask("asyncio.run(asyncio.wait_for(model.wait.remote('late'), 0.2))")["error"] == "TimeoutError"
    eventually(lambda: served.notes()[-1] == "late cancelled", "a timeout cancels too")


def test_a_call_leaves_although_the_caller_blocks_its_loop_next(served: Served, tmp_path: Path) -> None:
    assert served.script.do(f"asyncio.run(blocked({str(tmp_path)!r}))") == [True] * 20


@pytest.mark.contract("3.1/pickle")
def test_a_pickled_handle_works_where_it_arrives(served: Served) -> None:
    copied = "pickle.loads(pickle.dumps(model.options(method_name='sync')))"
    assert served.call(f"{copied}.remote(1)") == [1, 0, False]
    assert served.call("handle.run_sync.remote('give_back')") == 1


@pytest.mark.contract("3.1/unavailable")
def test_a_name_that_does_not_exist_is_unavailable(served: Served) -> None:
    asked = served.script.ask("DeploymentHandle('Nobody', 'default').remote().result(timeout_s=60)")
    assert asked["error"] == "DeploymentUnavailableError"
    assert "there is no deployment default/Nobody" in asked["text"]


@pytest.mark.contract("3.1/died", better="ReplicaUnavailableError, which says that the call may have had effects")
def test_a_replica_that_dies_is_named_and_its_successor_serves(served: Served) -> None:
    served.call("model.forget.remote()")
    served.script.do("globals().update(r=model.wait.remote(), s=model.options(stream=True).lock_step.remote())")
    assert served.script.do("next(s)") == 0
    eventually(lambda: served.notes() == ["wait"], "the call has arrived")
    os.kill(served.script.machine.one("eagleray: replica default/Model"), signal.SIGKILL)
    assert served.script.ask("r.result(timeout_s=60)")["error"] == "ReplicaUnavailableError"
    assert served.script.ask("next(s)")["error"] == "ReplicaUnavailableError"
    assert served.call("model.remote(1)") == 1
