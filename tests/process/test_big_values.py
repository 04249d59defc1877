"""Big values between real processes: what arrives how, and that nothing is left of it, whoever dies or has no room."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from machine import Machine, Script, eventually

APP = """
import asyncio, os, resource, threading, time
import numpy as np
from eagleray import serve
from eagleray.serve.handle import DeploymentHandle

N = 1 << 20

def regions():
    "Regions that this process has: descriptors, and mappings."
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += "eagleray-value" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass
    with open("/proc/self/maps") as maps:
        return found + sum("eagleray-value" in line for line in maps)

def anonymous():
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))

fillers = []

def leave_no_descriptor():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The limit is on numbers, and there are free ones below it: of what was closed, and of this listing.
    limit = max(map(int, os.listdir("/proc/self/fd"))) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    while True:
        try:
            fillers.append(os.dup(0))
        except OSError:
            return

def leave_descriptors():
    while fillers:
        os.close(fillers.pop())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

class Common:
    def regions(self):
        return regions()

    def pid(self):
        return os.getpid()

@serve.deployment(max_ongoing_requests=20)
class Model(Common):
    def __init__(self):
        self.kept = []

    async def make(self, n, value=1.0):
        return np.full(n, value, np.float32)

    def look(self, x):
        return [type(x).__name__, bool(x.flags.writeable), x.shape, float(x.sum())]

    async def look_async(self, *arrays, **more):
        return [float(x.sum()) for x in (*arrays, *more.values())]

    async def growth(self, x):
        before = anonymous()
        sums = [float(x.sum())]
        return anonymous() - before, sums

    async def anonymous(self, x=None):
        return anonymous()

    def keep(self, x):
        self.kept.append(x)
        return len(self.kept)

    def kept_sums(self):
        return [float(x.sum()) for x in self.kept]

    def forget(self):
        self.kept.clear()

    def kind(self, x):
        return [type(x).__name__, len(x)]

    async def echo(self, x):
        return x

    async def wait(self, x):
        await asyncio.sleep(3600)

    async def items(self, n):
        for i in range(n):
            yield np.full(N, i, np.float32)

    def fork(self, x):
        "A child of user code that has the value in its hands while the parent goes on."
        read, write = os.pipe()
        go, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(go, 1)
            os.write(write, str(float(x.sum())).encode())
            os._exit(0)
        os.close(write); os.close(go)
        self.child = (child, read, tell)
        return child

    def child_sum(self):
        child, read, tell = self.child
        os.write(tell, b"x")
        found = float(os.read(read, 100))
        os.waitpid(child, 0)
        os.close(read); os.close(tell)
        return found

    def fork_after(self):
        "What a child has of values that its parent has dropped, beside what the parent has of them."
        read, write = os.pipe()
        mine = regions()
        child = os.fork()
        if child == 0:
            os.write(write, str(regions()).encode())
            os._exit(0)
        found = int(os.read(read, 100))
        os.waitpid(child, 0)
        os.close(read); os.close(write)
        return [mine, found]

@serve.deployment(max_ongoing_requests=20)
class Caller(Common):
    def __init__(self, model: DeploymentHandle):
        self.model = model

    async def pass_on(self, n):
        "The answer of one call is the argument of the next; the data must not come here."
        answer = self.model.make.remote(n, 2.0)
        seen = []
        async def watch():
            while True:
                with open("/proc/self/maps") as maps:
                    seen.append(any("eagleray-value" in line for line in maps))
                await asyncio.sleep(0)
        watching = asyncio.ensure_future(watch())
        found = await self.model.look_async.remote(answer, np.ones(N, np.float32), more=self.model.make.remote(10, 3.0))
        watching.cancel()
        return found

    async def pass_on_alone(self, n):
        found = await self.model.look.remote(self.model.make.remote(n, 2.0))
        with open("/proc/self/maps") as maps:
            return found, any("eagleray-value" in line for line in maps)

    async def look_and_pass_on(self, n):
        answer = self.model.make.remote(n, 2.0)
        mine = float((await answer).sum())
        return [mine, *await self.model.look_async.remote(answer)]

    async def send(self, times):
        x = np.ones(N, np.float32)
        return [(await self.model.growth.remote(x))[1] for _ in range(times)]

    async def stream(self):
        return [float(x[0]) async for x in self.model.options(stream=True).items.remote(40)]

    async def reserve(self):
        async with self.model.choose_replica() as selection:
            return await self.model.look.dispatch(selection, np.ones(N, np.float32))

    async def abandon(self):
        calls = [self.model.wait.remote(np.ones(N, np.float32)) for _ in range(5)]
        calls += [self.model.make.remote(N) for _ in range(5)]
        for call in calls:
            call.cancel()

    def leave_no_descriptor(self):
        leave_no_descriptor()

    def leave_descriptors(self):
        leave_descriptors()

app = Caller.bind(Model.bind())
"""
FLOATS = 1 << 20


class Served:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.script: Script = machine.serve(APP)
        self.script.do(
            "globals().update(model=serve.get_deployment_handle('Model', 'default'), caller=handle, "
            "ones=np.ones(N, np.float32))"
        )

    def call(self, expression: str) -> Any:
        return self.script.do(f"({expression}).result(timeout_s=60)")

    def settled(self) -> None:
        """Nothing of any value is left in any process."""
        for where in ("model", "caller"):
            eventually(lambda at=where: self.call(f"{at}.regions.remote()") == 0, f"{where} has no regions")
        eventually(lambda: self.script.do("regions()") == 0, "the driver has no regions")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    machine = Machine(tmp_path_factory.mktemp("values"))
    try:
        yield Served(machine)
    finally:
        print(machine.scripts[0].output[-8000:] if machine.scripts else "")
        assert not machine.close()


def test_arrays_arrive_read_only_whatever_their_length(served: Served) -> None:
    for length in (1, 1000, FLOATS):
        found = served.call(f"model.look.remote(np.ones({length}, np.float32))")
        assert found == ["ndarray", False, [length], float(length)]
    assert served.script.do("model.make.remote(N).result(timeout_s=60).flags.writeable") is False
    served.settled()


def test_what_is_mapped_is_the_shared_memory_itself(served: Served) -> None:
    for _ in range(3):
        grown, sums = served.call("model.growth.remote(ones)")
        assert grown < 1 << 20
        assert sums == [float(FLOATS)]
    assert served.script.do("[x := model.make.remote(N).result(timeout_s=60), regions()][1]") > 0
    served.script.do("globals().update(x=None)")
    served.settled()


def test_bytes_and_what_pickles_in_band_pass_too(served: Served) -> None:
    assert served.call("model.kind.remote(bytes(3_000_000))") == ["bytes", 3_000_000]
    assert served.call("model.kind.remote([bytes(3_000_000)])") == ["list", 1]
    assert served.call("model.kind.remote(x=bytearray(3_000_000))") == ["bytearray", 3_000_000]
    assert served.script.do("len(model.echo.remote(bytes(3_000_000)).result(timeout_s=60))") == 3_000_000
    strided = served.call("model.look.remote(np.ones((2000, 1000), np.float32)[::2, ::2])")
    assert strided[2:] == [[1000, 500], 500_000.0]
    served.settled()


def test_an_answer_is_passed_on_by_its_descriptor(served: Served) -> None:
    found, mapped = served.call("caller.pass_on_alone.remote(N)")
    assert found == ["ndarray", False, [FLOATS], 2.0 * FLOATS]
    assert not mapped
    assert served.call("caller.pass_on.remote(N)") == [2.0 * FLOATS, float(FLOATS), 30.0]
    assert served.call("caller.look_and_pass_on.remote(N)") == [2.0 * FLOATS, 2.0 * FLOATS]
    served.settled()


def test_items_of_a_stream_and_dispatched_calls(served: Served) -> None:
    assert served.call("caller.stream.remote()") == [float(number) for number in range(40)]
    assert served.call("caller.reserve.remote()") == ["ndarray", False, [FLOATS], float(FLOATS)]
    served.settled()


def test_values_that_user_code_keeps_stay_as_they_are(served: Served) -> None:
    # More than a quarter of the regions that a maker may have: the oldest leave its pool.
    for number in range(70):
        assert served.call(f"model.keep.remote(np.full(N // 16, {number}, np.float32))") == number + 1
    expected = [float(number * FLOATS // 16) for number in range(70)]
    assert served.call("model.kept_sums.remote()") == expected
    served.call("model.forget.remote()")
    served.settled()


def test_calls_that_are_cancelled_leave_nothing(served: Served) -> None:
    for _ in range(3):
        served.call("caller.abandon.remote()")
    served.settled()


def test_a_forked_child_keeps_the_value_that_its_parent_had(served: Served) -> None:
    served.call("model.fork.remote(ones)")
    # The parent has dropped it; its memory must not be written to for others.
    for _ in range(3):
        served.call("model.look.remote(ones * 5)")
    assert served.call("model.child_sum.remote()") == float(FLOATS)
    served.settled()


def test_a_forked_child_has_nothing_of_values_that_its_parent_has_dropped(served: Served) -> None:
    served.call("model.look.remote(ones)")

    def forked_while_mapped() -> bool:
        served.call("model.look.remote(ones)")
        mine, of_child = served.call("model.fork_after.remote()")
        assert of_child == 0
        return mine > 0

    eventually(forked_while_mapped, "the mapping waits for the next value while the process forks")
    assert served.call("model.look_async.remote(ones * 3)") == [3.0 * FLOATS]
    served.settled()


def test_without_descriptors_values_go_as_data_or_say_why_not(served: Served) -> None:
    # Its router has its own by then, and no value has one any more.
    served.call("caller.send.remote(1)")
    served.settled()
    served.call("caller.leave_no_descriptor.remote()")
    try:
        assert served.call("caller.send.remote(2)") == [[float(FLOATS)]] * 2
        # The descriptor of the answer cannot come in.
        with pytest.raises(AssertionError, match="no file descriptor left"):
            served.call("caller.look_and_pass_on.remote(N)")
    finally:
        served.call("caller.leave_descriptors.remote()")
    assert served.call("caller.look_and_pass_on.remote(N)") == [2.0 * FLOATS, 2.0 * FLOATS]
    served.settled()


def test_a_value_outlives_the_replica_that_made_it_and_a_dead_receiver_leaves_nothing(served: Served) -> None:
    served.script.do("globals().update(x=model.make.remote(N, 4.0).result(timeout_s=60))")
    waiting = "[model.wait.remote(ones) for _ in range(3)]"
    served.script.do(f"globals().update(waiting={waiting})")
    pid = served.call("model.pid.remote()")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: served.call("model.pid.remote()") != pid, "another replica serves")
    assert served.script.do("float(x.sum())") == 4.0 * FLOATS
    served.script.do("globals().update(x=None, waiting=None)")
    served.settled()
