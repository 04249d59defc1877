"""Calls through handles."""

import pickle
from pathlib import Path
from typing import Any

import frames
import pytest
from frames import Answer
from machine_of_one import code, serving

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
    def fails(self, kind):
        if kind == "odd": raise Unpicklable(1, 2)
        if kind == "exit": raise SystemExit(3)
        raise LookupError("not here")
    async def unpicklable(self):
        return __import__("threading").Lock()
    async def large(self):
        return bytes(1_000_000)
    _hidden = print
"""


def value(answer: Answer) -> Any:
    return pickle.loads(answer.body)


def test_methods_sync_and_async_return_their_values(tmp_path: Path) -> None:
    with serving(tmp_path, code(SOURCE)["Calls"], 40, step=5) as (_, router):
        for _ in range(3):
            assert value(router.call("__call__", 2)) == 42
            assert value(router.call("sync", 1, y=2)) == [1, 2, 5]
        assert value(router.call("large")) == bytes(1_000_000)
        assert router.get("/").status == 500, "this __call__ adds a request to a number"


def test_a_function_is_called_too(tmp_path: Path) -> None:
    with serving(tmp_path, code("def add(a, b=1):\n    return a + b")["add"]) as (_, router):
        assert value(router.call("__call__", 1, b=2)) == 3


@pytest.mark.contract("3.1/attributes-unknown", "G/14")
def test_an_unknown_method_is_an_error_that_lists_the_others(tmp_path: Path) -> None:
    with serving(tmp_path, code(SOURCE)["Calls"], 1) as (_, router):
        for name in ("missing", "__init__", "__class__"):
            answer = router.call(name)
            assert answer.error
            error = value(answer)
            assert type(error).__name__ == "RayServeException"
            assert "__call__, fails, items, large, sync, sync_items" in str(error)


@pytest.mark.contract("3.3/exception")
def test_exceptions_come_back_with_their_traceback(tmp_path: Path) -> None:
    with serving(tmp_path, code(SOURCE)["Calls"], 1) as (node, router):
        answer = router.call("fails", "plain")
        error = value(answer)
        assert answer.error
        assert isinstance(error, LookupError)
        assert "in fails" in error.__dict__["__eagleray_traceback__"]
        odd = value(router.call("fails", "odd"))
        assert "Unpicklable: 1" in str(odd)
        assert isinstance(value(router.call("fails", "exit")), SystemExit)
        assert router.call("unpicklable").error
        assert value(router.call("sync", 1)) == [1, 0, 1]
        assert "LookupError: not here" in node.log


@pytest.mark.contract("3.4/iterate", "3.4/not-streamed", "3.4/not-generator")
def test_streams_are_messages(tmp_path: Path) -> None:
    with serving(tmp_path, code(SOURCE)["Calls"], 1) as (_, router):
        for method in ("items", "sync_items"):
            answer = router.call(method, 3, stream=True)
            messages = [frame for frame in answer.frames if frame.flags & frames.END_OF_MESSAGE]
            assert [pickle.loads(frame.payload) for frame in messages] == [0, 1, 2]
            assert isinstance(value(router.call(method, 3)), TypeError)
        assert isinstance(value(router.call("sync", 3, stream=True)), TypeError)
