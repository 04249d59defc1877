"""A program that calls deployments in every way that chapter 3 of the contract knows."""

import asyncio
import os
import pickle
import signal
import threading
import time

from eagleray import serve
from eagleray.serve.context import get_request_context
from eagleray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from eagleray.serve.handle import (
    DeploymentBroadcastResponse,
    DeploymentHandle,
    DeploymentResponse,
    DeploymentResponseGenerator,
)


class Odd(ValueError):
    pass


@serve.deployment(num_replicas=2, max_ongoing_requests=100)
class Callee:
    def __init__(self):
        self.notes = []

    def __call__(self, x, *, plus=0):
        return x + plus

    async def double(self, x):
        return 2 * x

    def replica(self):
        return serve.get_replica_context().replica_tag

    def pid(self):
        return os.getpid()

    async def who(self):
        return [serve.get_replica_context().replica_tag, os.getpid()]

    def items(self, n):
        yield from range(n)

    async def async_items(self, n):
        for number in range(n):
            yield number

    def breaks(self, n):
        yield from range(n)
        raise Odd("after some")

    def echo(self, *args, **kwargs):
        return args, kwargs

    async def async_echo(self, *args, **kwargs):
        return args, kwargs

    def kinds(self, *args, **kwargs):
        return [type(value).__name__ for value in (*args, *kwargs.values())]

    def pairs(self, n):
        yield from ((number, number) for number in range(n))

    async def async_pairs(self, n):
        for pair in self.pairs(n):
            yield pair

    def odd_pairs(self):
        yield 1
        yield {2}

    def a_set(self):
        return {1}

    def plain(self, x):
        return x

    def fails(self):
        raise Odd("on purpose")

    async def sleeps(self, name=""):
        self.notes.append(f"{name} began")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.notes.append(f"{name} cancelled")
            raise

    async def endless(self, name):
        try:
            while True:
                yield "x"
                await asyncio.sleep(0.01)
        finally:
            self.notes.append(f"{name} closed")

    async def noted(self):
        return self.notes

    async def model(self):
        return [serve.get_multiplexed_model_id(), get_request_context().request_id]

    def options(self, x):
        return ["options", x]

    def remote(self, x):
        return ["remote", x]


@serve.deployment
class Caller:
    def __init__(self, callee):
        self.callee = callee

    async def chain(self, x):
        return await self.callee.remote(self.callee.double.remote(x), plus=self.callee.double.remote(100))

    async def models(self):
        own = [serve.get_multiplexed_model_id(), get_request_context().request_id]
        plain = await self.callee.model.remote()
        named = await self.callee.options(multiplexed_model_id="its").model.remote()
        return [own, plain, named]

    async def streams(self, n):
        return [item async for item in self.callee.options(stream=True).async_items.remote(n)]

    def in_thread(self, n):
        return [self.callee.double.remote(number).result() for number in range(n)]

    async def catches(self):
        try:
            await self.callee.fails.remote()
        except ValueError as error:
            return [type(error).__name__, str(error)]

    async def passes_on(self, handle, x):
        return await handle.double.remote(x)

    async def waits(self, name):
        return await self.callee.sleeps.remote(name)


LOCAL = os.environ.get("EAGLERAY_SERVE_FORCE_LOCAL_TESTING_MODE") == "1"
app = Caller.bind(Callee.bind())
handle = None  # what serve.run returned, before the first case


def callee(**options):
    found = serve.get_deployment_handle("Callee", "default")
    return found.options(**options) if options else found


def raises(error, function, *args, **kwargs):
    try:
        value = function(*args, **kwargs)
    except error as found:
        return found
    raise AssertionError(f"{error} expected, got the value {value!r}")


async def raises_when_awaited(error, awaitable):
    try:
        value = await awaitable
    except error as found:
        return found
    raise AssertionError(f"{error} expected, got the value {value!r}")


def eventually(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "not within 30 s"
        time.sleep(0.02)


def noted(note):
    """Waits until a replica has noted that."""
    eventually(lambda: any(note in notes for notes in callee().broadcast("noted").results()))


# --- 3.1


def case_remote_returns_at_once():
    began = time.monotonic()
    response = callee().sleeps.remote()
    assert time.monotonic() - began < 5
    assert isinstance(response, DeploymentResponse)
    response.cancel()


def case_arguments():
    assert callee().remote(1).result() == 1
    assert callee().remote(1, plus=2).result() == 3
    assert callee().double.remote("ab").result() == "abab"
    assert handle.chain.remote(1).result() == 202


def case_remote_stream():
    made = callee(stream=True).items.remote(3)
    assert isinstance(made, DeploymentResponseGenerator)
    assert list(made) == [0, 1, 2]


def case_options_are_a_copy():
    first = callee()
    second = first.options(method_name="double")
    assert second is not first
    assert (first.remote(3).result(), second.remote(3).result()) == (3, 6)
    raises(TypeError, first.options, "double")
    raises(TypeError, first.options, metod_name="double")


def case_serializations():
    assert callee(request_serialization="pickle", response_serialization="cloudpickle").remote(1).result() == 1
    odd = callee(request_serialization="xml")
    raises(ValueError, lambda: odd.remote(1).result())


async def case_formats_by_value():
    for word in ("orjson", "msgpack"):
        both = callee(_by_reference=False, request_serialization=word, response_serialization=word)
        assert not both.remote(1).by_reference
        long = "x" * 300_000
        for name in ("echo", "async_echo"):
            found = await both.options(method_name=name).remote((1, 2), long, key={"a": None})
            assert found == [[[1, 2], long], {"key": {"a": None}}], found
        assert [item async for item in both.options(method_name="pairs", stream=True).remote(2)] == [[0, 0], [1, 1]]
        assert [item async for item in both.options(method_name="async_pairs", stream=True).remote(1)] == [[0, 0]]
        first = both.double.remote(2)
        assert await both.echo.remote(first, 1, key=first) == [[4, 1], {"key": 4}]
        assert await callee().double.remote(first) == 8
        assert all(found == [[[1]], {}] for found in await both.broadcast("echo", (1,)).results_async())
        async with both.choose_replica() as selection:
            assert await both.echo.dispatch(selection, (1,), key=first) == [[[1]], {"key": 4}]

        only = callee(_by_reference=False, request_serialization=word)
        assert await only.kinds.remote((1,), {"a": 1}, key=(2,)) == ["list", "dict", "list"]
        assert await only.plain.remote(1) == 1
        only = callee(_by_reference=False, response_serialization=word)
        assert await only.echo.remote((1,), key={2}.__len__()) == [[[1]], {"key": 1}]
        assert await only.kinds.remote((1,), {2}, key=frozenset()) == ["tuple", "set", "frozenset"]
        assert await only.echo.remote(first, key=first) == [[4], {"key": 4}]

        error = await raises_when_awaited(TypeError, both.a_set.remote())
        assert f"the result of a_set (set) cannot be carried by response_serialization={word!r}" in str(error)
        odd = both.options(method_name="odd_pairs", stream=True).remote()
        assert await anext(odd) == 1
        error = await raises_when_awaited(TypeError, anext(odd))
        assert "the item of odd_pairs (set)" in str(error)
        await raises_when_awaited(Odd, both.fails.remote())
        # Without `_by_reference=False` values are pickled.
        assert await callee(request_serialization=word, response_serialization=word).plain.remote((1,)) == (1,)

    raw = callee(_by_reference=False, request_serialization="noop", response_serialization="noop", method_name="plain")
    for data in (b"", b"abc", bytes(200_000)):
        assert await raw.remote(data) == data
    assert await raw.options(method_name="kinds", response_serialization="pickle").remote(bytearray(b"x")) == ["bytes"]
    await raises_when_awaited(TypeError, raw.options(method_name="a_set", request_serialization="pickle").remote())


def case_attributes():
    assert isinstance(callee().double, DeploymentHandle)
    unknown = callee().no_such_method
    error = raises(RayServeException, unknown.remote(1).result)
    for name in ("no_such_method", "double", "items"):
        assert name in str(error), error


def case_collisions():
    assert callee(method_name="options").remote(1).result() == ["options", 1]
    assert callee(method_name="remote").remote(2).result() == ["remote", 2]


def case_introspection():
    found = callee()
    assert (found.deployment_name, found.app_name) == ("Callee", "default")
    assert (found.deployment_id.name, found.deployment_id.app_name) == ("Callee", "default")
    assert isinstance(found.handle_id, str)
    assert found.handle_id
    assert found.remote(1).result() == 1
    assert found.is_initialized
    eventually(found.running_replicas_populated)


def case_init():
    first = serve.get_app_handle("default")
    first._init()
    raises(RuntimeError, first._init)
    used = serve.get_app_handle("default")
    used.chain.remote(1).result()
    raises(RuntimeError, used._init)


def case_shutdown():
    found = DeploymentHandle("Callee", "default")
    assert found.remote(1).result() == 1
    found.shutdown()
    raises(RayServeException, lambda: found.remote(1).result())
    asyncio.run(DeploymentHandle("Callee", "default").shutdown_async())
    assert callee().remote(1).result() == 1, "others go on"


def case_pickle():
    copy = pickle.loads(pickle.dumps(callee(method_name="double")))
    assert (copy.deployment_name, copy.app_name) == ("Callee", "default")
    assert copy.remote(2).result() == 4
    assert handle.passes_on.remote(callee(), 4).result() == 8


def case_callers():
    found = []
    threads = [
        threading.Thread(target=lambda number=number: found.append(callee().double.remote(number).result()))
        for number in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 2, 4, 6, 8]

    async def ask():
        return await asyncio.gather(*(callee().double.remote(number) for number in range(5)))

    for _ in range(2):
        assert asyncio.run(ask()) == [0, 2, 4, 6, 8]
    assert handle.in_thread.remote(3).result() == [0, 2, 4]


def case_context():
    own, plain, named = handle.options(multiplexed_model_id="mine").models.remote().result()
    assert own[0] == "mine"
    assert plain[0] == "", "the model does not travel by itself"
    assert named[0] == "its"
    assert own[1] == plain[1] == named[1], "the request id does"


def case_unpicklable():
    error = raises(TypeError, callee().remote, threading.Lock())
    assert "lock" in str(error)


# --- 3.2


def case_responses_as_arguments():
    first = callee().double.remote(1)
    assert callee().remote(first, plus=callee().double.remote(2)).result() == 6
    assert callee().remote(first).result() == 2, "more than once"
    assert first.result() == 2


def case_response_inside_another_value():
    first = callee().double.remote(1)
    raises(RayServeException, lambda: callee().remote([first]).result())
    raises(RayServeException, lambda: callee().remote({"a": first}).result())


def case_generator_as_argument():
    items = callee(stream=True).items.remote(3)
    raises(RuntimeError, lambda: callee().remote(items).result())
    items.cancel()


def case_argument_that_failed():
    raises(ValueError, callee().remote(callee().fails.remote()).result)


# --- 3.3


def case_result():
    response = callee().remote(1)
    raises(TypeError, response.result, 5)
    assert response.result(timeout_s=30) == 1
    assert response.result() == 1

    async def inside():
        raises(RuntimeError, callee().remote(1).result)

    asyncio.run(inside())


def case_result_times_out():
    response = callee().sleeps.remote()
    raises(TimeoutError, response.result, timeout_s=0.05)
    response.cancel()


async def case_await():
    response = callee().remote(1)
    assert await response == 1
    assert await response == 1


def case_cancel():
    response = callee().sleeps.remote("one")
    noted("one began")
    assert not response.cancelled()
    response.cancel()
    response.cancel()
    assert response.cancelled()
    raises(RequestCancelledError, response.result)

    async def awaited():
        await raises_when_awaited(RequestCancelledError, response)

    asyncio.run(awaited())
    noted("one cancelled")


def case_cancel_of_children():
    response = handle.waits.remote("child")
    noted("child began")
    response.cancel()
    noted("child cancelled")


async def case_cancel_of_the_task_that_awaits():
    async def wait(response):
        return await response

    task = asyncio.ensure_future(wait(callee().sleeps.remote("awaited")))
    await asyncio.to_thread(noted, "awaited began")
    task.cancel()
    await raises_when_awaited(asyncio.CancelledError, task)
    await asyncio.to_thread(noted, "awaited cancelled")


def case_cancelled_after_the_end():
    response = callee().remote(1)
    assert response.result() == 1
    response.cancel()
    assert response.cancelled()


def case_properties_of_a_response():
    response = callee().remote(1)
    assert isinstance(response.request_id, str)
    assert response.request_id
    assert isinstance(response.by_reference, bool)
    raises(RayServeException, pickle.dumps, response)


def case_exception():
    error = raises(ValueError, callee().fails.remote().result)
    assert "on purpose" in str(error)
    assert isinstance(error, Odd)
    cause, shown = error, ""
    while cause is not None:
        shown += f"{type(cause).__name__} {cause}\n"
        cause = cause.__cause__
    assert "in fails" in shown, shown
    assert handle.catches.remote().result()[1] == "on purpose"


# --- 3.4


def case_iterate():
    assert list(callee(stream=True).items.remote(3)) == [0, 1, 2]
    assert list(callee(stream=True).async_items.remote(300)) == list(range(300))
    assert list(callee(stream=True).items.remote(0)) == []
    assert handle.streams.remote(4).result() == [0, 1, 2, 3]

    async def inside():
        return [item async for item in callee(stream=True).items.remote(3)]

    assert asyncio.run(inside()) == [0, 1, 2]


async def case_a_generator_is_no_response():
    items = callee(stream=True).items.remote(3)

    async def wait():
        return await items

    await raises_when_awaited(TypeError, wait())
    raises(TypeError, items.result)
    raises(TypeError, items.result, timeout_s=1)
    raises(RuntimeError, next, items)
    assert [item async for item in items] == [0, 1, 2]


def case_cancel_of_a_generator():
    items = callee(stream=True).endless.remote("items")
    assert [next(items), next(items)] == ["x", "x"]
    assert isinstance(items.request_id, str)
    assert not items.cancelled()
    items.cancel()
    assert items.cancelled()
    raises(RequestCancelledError, next, items)
    noted("items closed")


def case_exception_after_some_items():
    items = callee(stream=True).breaks.remote(3)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    error = raises(ValueError, next, items)
    assert "after some" in str(error)


def case_generators_and_stream_must_agree():
    raises(TypeError, callee().items.remote(3).result)
    raises(TypeError, callee().async_items.remote(3).result)
    raises(TypeError, next, callee(stream=True).double.remote(3))
    raises(TypeError, next, callee(stream=True).remote(3))


# --- 3.5


def case_broadcast():
    response = callee().broadcast("replica")
    assert isinstance(response, DeploymentBroadcastResponse)
    expected = 1 if LOCAL else 2
    assert len(set(response.results())) == len(response.results(timeout_s=30)) == expected
    assert callee().broadcast("double", 4).results() == [8] * expected

    async def inside():
        raises(RuntimeError, callee().broadcast("replica").results)
        return await callee().broadcast("double", 5).results_async(timeout_s=30)

    assert asyncio.run(inside()) == [10] * expected


def case_broadcast_times_out():
    response = callee().broadcast("sleeps")
    raises(ValueError, response.results, timeout_s=-1)
    raises(TimeoutError, response.results, timeout_s=0.1)

    async def inside():
        await raises_when_awaited(ValueError, response.results_async(timeout_s=-1))
        await raises_when_awaited(TimeoutError, response.results_async(timeout_s=0.1))

    asyncio.run(inside())


def case_broadcast_exceptions():
    raises(ValueError, callee().broadcast("fails").results)
    found = callee().broadcast("fails").results(return_exceptions=True)
    assert found
    assert all(isinstance(error, ValueError) for error in found)


# --- only where there are processes


def case_broadcast_to_nobody():
    serve.run(Callee.bind(), name="gone", route_prefix=None)
    found = serve.get_app_handle("gone")
    assert found.remote(1).result() == 1
    serve.delete("gone")
    raises(DeploymentUnavailableError, found.broadcast, "replica")


async def case_choose_replica():
    async with callee(method_name="replica").choose_replica() as selection:
        for name in ("replica_id", "node_ip", "port", "node_id", "availability_zone", "replica_metadata"):
            assert hasattr(selection, name), name
        assert selection.address == f"{selection.node_ip}:{selection.port}"
        assert selection.to_dict()["replica_id"] == selection.replica_id
        assert await callee(method_name="replica").dispatch(selection) == selection.replica_id


async def case_dispatch_with_arguments():
    async with callee().choose_replica(1) as selection:
        assert await callee().dispatch(selection, 1, plus=2) == 3


async def case_dispatch_twice():
    async with callee().choose_replica() as selection:
        assert await callee().dispatch(selection, 1) == 1
        raises(RuntimeError, callee().dispatch, selection, 1)


async def case_dispatch_of_another_deployment():
    async with callee().choose_replica() as selection:
        raises(ValueError, handle.dispatch, selection, 1)


@serve.deployment(max_ongoing_requests=1, max_queued_requests=1)
class Narrow:
    async def __call__(self):
        await asyncio.sleep(3600)


def case_back_pressure():
    serve.run(Narrow.bind(), name="narrow", route_prefix=None)
    narrow = serve.get_app_handle("narrow")
    responses = [narrow.remote() for _ in range(3)]
    refused = []

    def look():
        for response in responses:
            try:
                response.result(timeout_s=0.05)
            except BackPressureError as error:
                refused.append(error)
            except TimeoutError:
                pass
        return refused

    eventually(look)
    assert refused[0].status_code == 503
    assert refused[0].message
    for response in responses:
        response.cancel()
    serve.delete("narrow")


@serve.deployment
class Fails:
    def __init__(self):
        raise OSError("no such model")


def case_unavailable():
    raises(RuntimeError, serve.run, Fails.bind(), name="fails", route_prefix=None)
    found = serve.get_deployment_handle("Fails", "fails", _check_exists=False)
    error = raises(DeploymentUnavailableError, lambda: found.remote().result(timeout_s=30))
    assert error.message
    serve.delete("fails")


@serve.deployment
class Dies:
    async def __call__(self):
        os._exit(3)


def case_a_replica_that_dies():
    serve.run(Dies.bind(), name="dies", route_prefix=None)
    error = raises(ReplicaUnavailableError, serve.get_app_handle("dies").remote().result, timeout_s=30)
    assert error.message
    serve.delete("dies")


def two_replicas(name):
    """The handle of an application of its own, and the process ids of its two replicas by their ids."""
    made = serve.run(Callee.bind(), name=name, route_prefix=None)
    replicas = {}

    def look():
        replicas.update(made.broadcast("who").results())
        return len(replicas) == 2

    eventually(look)
    return made, replicas


def case_calls_move_from_a_dead_replica():
    made, replicas = two_replicas("moved")
    os.kill(min(replicas.values()), signal.SIGKILL)
    assert [made.remote(number).result(timeout_s=30) for number in range(50)] == list(range(50))
    serve.delete("moved")


def case_a_broadcast_leaves_dead_replicas_out():
    made, replicas = two_replicas("dead")
    dead, alive = sorted(replicas.values())
    os.kill(dead, signal.SIGKILL)
    found = made.broadcast("pid").results(timeout_s=30)
    assert alive in found
    assert dead not in found
    serve.delete("dead")


async def case_dispatch_to_a_replica_that_is_gone():
    made, replicas = await asyncio.to_thread(two_replicas, "lost")
    async with made.choose_replica() as selection:
        os.kill(replicas[selection.replica_id], signal.SIGKILL)
        await asyncio.to_thread(
            eventually, lambda: selection.replica_id not in dict(made.broadcast("who").results(return_exceptions=False))
        )

        async def dispatch():
            return await made.dispatch(selection, 1)

        await raises_when_awaited(ReplicaUnavailableError, dispatch())
    await asyncio.to_thread(serve.delete, "lost")


def case_after_shutdown():
    found = callee()
    serve.shutdown()
    raises(RayServeException, lambda: found.remote(1).result())
