"""Calls through handles."""

import os
import pickle
from pathlib import Path
from typing import Any

import frames
import pytest
from frames import Answer, message
from machine_of_one import OPTIONS, Node, as_json, code, serving

from eagleray import _values

SOURCE = """
import pickle
class Unpicklable(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.lock = __import__("threading").Lock()

class Calls:
    def __init__(self, start, *, step=1):
        self.start, self.step = start, step
    async def __call__(self, x):
        return self.start + x
    def sync(self, x, *, y=0):
        return [x, y, self.step]
    async def items(self, n):
        for i in range(n):
            yield i
    def sync_items(self, n):
        yield from range(n)
    async def fails_on_loop(self, kind):
        return self.fails(kind)
    async def fails_after_an_item(self):
        yield 1
        self.fails("closed")
    def fails(self, kind):
        if kind == "odd": raise Unpicklable(1, 2)
        if kind == "closed": raise GeneratorExit("by mistake")
        if kind == "exit": raise SystemExit(3)
        raise LookupError("not here")
    async def unpicklable(self):
        return __import__("threading").Lock()
    async def large(self):
        return bytes(1_000_000)
    async def breaks(self):
        yield 1
        raise KeyError("midway")
    async def lock_item(self):
        yield __import__("threading").Lock()
    _hidden = print
"""


def value(answer: Answer) -> Any:
    return _values.load(answer.body)


def error(answer: Answer) -> tuple[Any, str, str]:
    """The exception, its traceback, and the line that names it."""
    assert answer.error
    # What came before it, of a stream, are items.
    pickled, text, shown = pickle.loads(answer.frames[-1].payload if len(answer.frames) > 1 else answer.body)
    return pickle.loads(pickled), text, shown


def test_methods_sync_and_async_return_their_values(tmp_path: Path) -> None:
    with serving(tmp_path, code(SOURCE)["Calls"], 40, step=5) as (_, router):
        for _ in range(3):
            assert value(router.call("__call__", 2)) == 42
            assert value(router.call("sync", 1, y=2)) == [1, 2, 5]
        assert value(router.call("large")) == bytes(1_000_000)
        assert router.get("/").status == 500, "this __call__ adds a request to a number"


THREADS = """
import asyncio, contextvars, threading
from pathlib import Path

class Threads:
    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.word = contextvars.ContextVar("word", default="none")
        self.word.set("from the constructor")

    def reconfigure(self, user_config):
        self.configured = self.word.get()

    async def __call__(self):
        found = self.word.get()
        self.word.set("from an HTTP request")
        return [found, self.configured]

    async def on_loop(self):
        names = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
        return [asyncio.get_running_loop() is self.loop, "eagleray-io" in names]

    def sync(self):
        return [self.word.get(), threading.current_thread() is threading.main_thread()]

    async def meet(self):
        assert self.word.get() == "from the constructor"
        self.word.set("from the method")
        barrier = threading.Barrier(5, timeout=60)
        def wait():
            barrier.wait()
            return self.word.get()
        return await asyncio.gather(*(asyncio.to_thread(wait) for _ in range(5)))
"""


@pytest.mark.contract("4.3/contextvars")
@pytest.mark.contract(
    "4.3/own-loop", better="user code has the main thread's loop; what is native has a thread of its own"
)
def test_user_code_has_its_loop_its_threads_and_their_variables(tmp_path: Path) -> None:
    with serving(tmp_path, code(THREADS)["Threads"]) as (node, router):
        node.command(f2=frames.message(f1=7, f2=frames.message(**{**OPTIONS, "f4": "1"}), f3=1))
        assert node.event() == (4, {1: 7})
        for _ in range(2):
            assert as_json(router.get()) == ["from the constructor"] * 2
        assert value(router.call("on_loop")) == [True, True]
        assert value(router.call("sync")) == ["from the constructor", False]
        assert value(router.call("meet")) == ["from the method"] * 5


WORKERS = """
import asyncio, threading

class Workers:
    def __init__(self):
        self.gate, self.waiting = threading.Event(), []

    async def fill(self):
        loop = asyncio.get_running_loop()
        self.waiting += [loop.run_in_executor(None, self.gate.wait) for _ in range(20)]
        self.waiting += [loop.create_task(asyncio.to_thread(self.gate.wait)) for _ in range(20)]
        await asyncio.sleep(0)  # the first step of each hands it to the executor, which starts threads as it needs
        return sum(thread.name.startswith("asyncio") for thread in threading.enumerate())

    def sync(self):
        return "not behind them"

    def check_health(self):
        pass

    async def drain(self):
        self.gate.set()
        return len(await asyncio.gather(*self.waiting))
"""


@pytest.mark.contract(
    "4.3/default-executor",
    better="without num_cpus, which reserves nothing here, by the CPUs that the replica may run on; health checks and "
    "other hooks have threads of their own",
)
@pytest.mark.parametrize(("num_cpus", "workers"), [(0.0, 4), (0.5, 5), (3.0, 7), (64.0, 32), (None, None)])
def test_the_default_executor_has_workers_for_the_cpus_of_the_replica(
    tmp_path: Path, num_cpus: float | None, workers: int | None
) -> None:
    resources = {} if num_cpus is None else {"f10": message(f1="num_cpus", f2=num_cpus)}
    node = Node(tmp_path)
    try:
        node.start(code(WORKERS)["Workers"], options=resources)
        node.ready()
        router = node.router()
        assert value(router.call("fill")) == (workers or min(32, len(os.sched_getaffinity(0)) + 4))
        assert value(router.call("sync")) == "not behind them"
        node.command(f3=message(f1=1))
        tag, fields = node.event()
        assert fields.pop(4) > 0, "what it has in memory"
        assert (tag, fields) == (3, {1: 1, 3: 2}), "nor is a health check, which says how many requests were accepted"
        assert value(router.call("drain")) == 40
    finally:
        node.close()


def test_a_function_is_called_too(tmp_path: Path) -> None:
    with serving(tmp_path, code("def add(a, b=1):\n    return a + b")["add"]) as (_, router):
        assert value(router.call("__call__", 1, b=2)) == 3


@pytest.mark.contract("3.1/attributes-unknown", "G/14")
def test_an_unknown_method_is_an_error_that_lists_the_others(tmp_path: Path) -> None:
    with serving(tmp_path, code(SOURCE)["Calls"], 1) as (_, router):
        for name in ("missing", "__init__", "__class__"):
            answer = router.call(name)
            raised, _, _ = error(answer)
            assert type(raised).__name__ == "RayServeException"
            assert (
                "__call__, breaks, fails, fails_after_an_item, fails_on_loop, items, large, lock_item, sync, sync_items"
                in str(raised)
            )


@pytest.mark.contract("3.3/exception")
def test_exceptions_come_back_with_their_traceback(tmp_path: Path) -> None:
    with serving(tmp_path, code(SOURCE)["Calls"], 1) as (node, router):
        raised, text, shown = error(router.call("fails", "plain"))
        assert isinstance(raised, LookupError)
        assert "in fails" in text
        assert shown == "builtins.LookupError: not here"
        odd, text, _ = error(router.call("fails", "odd"))
        assert (type(odd).__name__, odd.args) == ("Unpicklable", (1,)), "built without its constructor"
        assert "in fails" in text
        assert isinstance(error(router.call("fails", "exit"))[0], SystemExit)
        for answer in (
            router.call("fails", "closed"),
            router.call("fails_on_loop", "closed"),
            router.call("fails_after_an_item", stream=True),
        ):
            closed, text, shown = error(answer)
            assert isinstance(closed, GeneratorExit)
            assert "in fails" in text
            assert shown == "builtins.GeneratorExit: by mistake"
        lock, _, _ = error(router.call("unpicklable"))
        assert isinstance(lock, TypeError)
        assert "the result of unpicklable (lock) cannot be pickled" in str(lock)
        assert value(router.call("sync", 1)) == [1, 0, 1]
        assert "LookupError: not here" in node.log


@pytest.mark.contract("3.4/iterate", "3.4/not-streamed", "3.4/not-generator")
def test_streams_are_messages(tmp_path: Path) -> None:
    with serving(tmp_path, code(SOURCE)["Calls"], 1) as (_, router):
        for method in ("items", "sync_items"):
            answer = router.call(method, 3, stream=True)
            messages = [frame for frame in answer.frames if frame.flags & frames.END_OF_MESSAGE]
            assert [pickle.loads(frame.payload) for frame in messages] == [0, 1, 2]
            refused, _, _ = error(router.call(method, 3))
            assert isinstance(refused, TypeError)
            assert f"handle.options(method_name='{method}', stream=True)" in str(refused)
        assert isinstance(error(router.call("sync", 3, stream=True))[0], TypeError)


def test_an_error_midway_comes_after_the_items_before_it(tmp_path: Path) -> None:
    with serving(tmp_path, code(SOURCE)["Calls"], 1) as (_, router):
        answer = router.call("breaks", stream=True)
        assert pickle.loads(answer.frames[0].payload) == 1
        assert isinstance(error(answer)[0], KeyError)
        assert "the item of lock_item (lock)" in str(error(router.call("lock_item", stream=True))[0])


def test_a_reserved_slot_says_who_it_is_and_runs_what_comes_later(tmp_path: Path) -> None:
    with serving(tmp_path, code(SOURCE)["Calls"], 40) as (_, router):
        request = router.request(frames.call_head("", stream=True), flags=0)
        frame = router.read()
        while frame.kind != frames.RESPONSE:
            frame = router.read()
        assert pickle.loads(frame.payload)["replica_id"] == "abc12345"
        dispatched = pickle.dumps((("__call__", False, 2), {}), protocol=5)
        router.send(frames.BODY, request, flags=frames.END, payload=dispatched)
        answer = router.answer(request)
        items = [pickle.loads(one.payload) for one in answer.frames if one.flags & frames.END_OF_MESSAGE]
        assert items[1:] == [42]
