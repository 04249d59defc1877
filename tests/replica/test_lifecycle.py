"""Start, reconfigure, health, drain, stop; cancellation; the ends of the node and of a router."""

import signal
import sys
from pathlib import Path
from typing import Any

import frames
import pytest
from frames import message
from machine_of_one import OPTIONS, Node, Router, as_json, code, eventually, serving

STATE = """
import os
class State:
    def __init__(self, path=None):
        self.path, self.config, self.healthy = path, None, True
    def reconfigure(self, user_config):
        if user_config == "fail": raise ValueError("no such config")
        self.config = user_config
    async def check_health(self):
        if self.config == "ill": raise RuntimeError("I am ill")
    async def __call__(self, request):
        return [self.config, os.getpid()]
    def __del__(self):
        with open(self.path, "a") as file: file.write("deleted\\n")
"""


@pytest.fixture
def node(tmp_path: Path) -> Any:
    node = Node(tmp_path)
    yield node
    node.close()


@pytest.mark.contract(
    "4.1/constructor-failed", "4.1/first-health-check", "4.1/reconfigure-function", "4.1/reconfigure-missing"
)
@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        ("class X:\n    def __init__(self):\n        raise ValueError('broken constructor')", {}, "broken constructor"),
        ("class X:\n    async def __init__(self):\n        import missing_module", {}, "missing_module"),
        ("class X:\n    def __init__(self):\n        import sys\n        sys.exit(1)", {}, "SystemExit"),
        ("class X:\n    def __init__(self):\n        raise GeneratorExit", {}, "GeneratorExit"),
        (
            "class X:\n    async def __init__(self):\n        import asyncio\n        raise asyncio.CancelledError",
            {},
            "CancelledError",
        ),
        ("class X:\n    def check_health(self):\n        raise ValueError('ill')", {}, "ValueError: ill"),
        ("class X:\n    def check_health(self):\n        next(iter(()))", {}, "X.check_health raised StopIteration"),
        ("class X:\n    pass", {"f4": '{"a":1}'}, "has no reconfigure method"),
        ("def X():\n    pass", {"f4": "1"}, "user_config is set, but a function"),
    ],
)
def test_a_start_that_fails_reports_its_traceback(
    node: Node, source: str, options: dict[str, Any], expected: str
) -> None:
    node.start(code(source)["X"], options=options)
    tag, fields = node.event()
    assert tag == 2
    text = fields[1].decode()
    assert expected in text
    # An error that says it all is shown without frames of ours.
    assert "Traceback" in text or text.startswith("eagleray.serve.exceptions.")
    assert node.process.wait(20) == 1


@pytest.mark.contract("4.1/constructor", "1.5/context-ids")
def test_async_constructors_and_arguments(node: Node) -> None:
    source = """
    class Made:
        async def __init__(self, a, *, b):
            import asyncio
            await asyncio.sleep(0)
            self.made = [a, b]
        async def __call__(self):
            from eagleray.serve.context import get_replica_context
            context = get_replica_context()
            return [self.made, context.app_name, context.deployment, context.replica_tag]
    """
    node.start(code(source)["Made"], 1, b=2)
    node.ready()
    assert as_json(node.router().get()) == [[1, 2], "app", "Deployment", "abc12345"]


def until_started(router: Router, request: frames.Frame) -> None:
    eventually(lambda: router.page.read(request.slot) == (request.sequence, frames.STARTED))


def options(**changed: Any) -> bytes:
    return message(**{**OPTIONS, **changed})


@pytest.mark.contract("4.1/reconfigure-later")
@pytest.mark.contract(
    "2/reconfigure-routing",
    "G/19",
    better="a replica stays routable while it is reconfigured, and others are preferred",
)
def test_reconfigure_while_serving(node: Node) -> None:
    node.start(code(STATE)["State"], str(node.folder / "deleted"), options={"f4": '{"v":1}'})
    node.ready()
    router = node.router()
    config, pid = as_json(router.get())
    assert config == {"v": 1}
    node.command(f2=message(f1=7, f2=options(f4='"two"'), f3=1))
    assert node.event() == (4, {1: 7})
    assert as_json(router.get()) == ["two", pid]
    node.command(f2=message(f1=8, f2=options(f4='"fail"'), f3=1))
    tag, fields = node.event()
    assert (tag, fields[1]) == (4, 8)
    assert "no such config" in fields[2].decode()
    node.command(f2=message(f1=9, f2=options(f4='"two"', f2=1), f3=1))
    assert node.event() == (4, {1: 9})
    assert node.router().limit == 1


def test_health(node: Node) -> None:
    node.start(code(STATE)["State"], str(node.folder / "deleted"))
    node.ready()
    node.command(f3=message(f1=1))
    tag, fields = node.event()
    assert fields.pop(4) > 1024 * 1024, "what it has in memory comes along"
    assert (tag, fields) == (3, {1: 1})
    node.command(f2=message(f1=2, f2=options(f4='"ill"'), f3=1))
    node.event()
    node.command(f3=message(f1=3))
    tag, fields = node.event()
    assert (tag, fields[1]) == (3, 3)
    assert "I am ill" in fields[2].decode()


@pytest.mark.contract("4.2/check_health")
def test_a_health_check_that_hangs_fails_in_time(node: Node) -> None:
    source = """
    import asyncio
    class Hangs:
        checked = False
        async def check_health(self):
            if self.checked: await asyncio.Event().wait()
            self.checked = True
    """
    node.start(code(source)["Hangs"], options={"f8": 0.05})
    node.ready()
    node.command(f3=message(f1=1))
    tag, fields = node.event()
    assert tag == 3
    assert "did not return within 0.05 s" in fields[2].decode()


@pytest.mark.contract("4.2/del", "4.2/drain")
@pytest.mark.parametrize("how", ["command", "SIGTERM"])
def test_stop_waits_for_what_runs_then_deletes_once(node: Node, how: str) -> None:
    source = (
        STATE
        + """
class Slow(State):
    async def __call__(self, request):
        if request.url.path == "/go":
            self.event.set()
            return "went"
        import asyncio
        self.event = asyncio.Event()
        await self.event.wait()
        return "slow"
"""
    )
    deleted = node.folder / "deleted"
    node.start(code(source)["Slow"], str(deleted))
    node.ready()
    router = node.router()
    slow = router.request(frames.http_head(path="/slow"))
    if how == "command":
        node.command(f5=message(f1=10_000))
    else:
        until_started(router, slow)
        node.process.send_signal(signal.SIGTERM)
    while not any(frame.kind == frames.GONE for frame in router.others):
        router.read()
    refused = router.request(frames.http_head(path="/late"))
    while not any(frame.kind == frames.REJECT for frame in router.others):
        router.read()
    assert router.others[-1].sequence == refused.sequence
    router.send(frames.CANCEL, slow)
    assert router.answer(slow).frames[-1].flags & frames.DONE
    assert node.event()[0] == 5
    assert node.process.wait(20) == 0
    assert deleted.read_text() == "deleted\n"


def test_the_end_of_the_node_ends_the_replica(node: Node) -> None:
    node.start(code(STATE)["State"])
    node.ready()
    node.control.socket.shutdown(2)
    assert node.process.wait(20) == -signal.SIGKILL


CANCELLED = """
import asyncio
class Waits:
    def __init__(self):
        self.seen = []
    async def __call__(self, request):
        if request.url.path == "/seen":
            return self.seen
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.seen.append(request.url.path)
            raise
"""


@pytest.mark.contract("4.3/cancel-response", "4.3/max_ongoing_requests")
def test_cancel_reaches_user_code_and_frees_the_slot(tmp_path: Path) -> None:
    with serving(tmp_path, code(CANCELLED)["Waits"], options={"f2": 1}) as (_, router):
        waits = router.request(frames.http_head(path="/one"))
        until_started(router, waits)
        rejected = router.request(frames.http_head(path="/two"))
        assert router.read().kind == frames.REJECT
        assert router.others[-1].sequence == rejected.sequence
        router.send(frames.CANCEL, waits)
        router.answer(waits)
        assert as_json(router.get("/seen")) == ["/one"]


def test_the_end_of_a_router_cancels_what_it_started(tmp_path: Path) -> None:
    with serving(tmp_path, code(CANCELLED)["Waits"]) as (node, router):
        other = node.router()
        until_started(other, other.request(frames.http_head(path="/gone")))
        other.close()
        eventually(lambda: as_json(router.get("/seen")) == ["/gone"])


def test_a_request_that_was_taken_back_never_runs(tmp_path: Path) -> None:
    source = """
    import asyncio, time
    ran = []
    async def handler(request):
        ran.append(request.url.path)
        if request.url.path == "/block": time.sleep(0.2)
        return ran
    """
    with serving(tmp_path, code(source)["handler"]) as (_, router):
        block = router.request(frames.http_head(path="/block"))
        until_started(router, block)
        taken = router.request(frames.http_head(path="/taken"))
        router.page.take(taken.slot, taken.sequence)
        router.send(frames.CANCEL, taken)
        router.answer(block)
        assert as_json(router.get("/last")) == ["/block", "/last"]


@pytest.mark.contract("4.3/sync-threads")
def test_sync_handlers_that_wait_run_side_by_side(tmp_path: Path) -> None:
    source = """
    import threading
    class Handler:
        def __init__(self):
            self.barrier = threading.Barrier(8)
        def __call__(self, request):
            self.barrier.wait(timeout=10)
    """
    with serving(tmp_path, code(source)["Handler"], options={"f2": 8}) as (_, router):
        for _ in range(3):
            sent = [router.request(frames.http_head()) for _ in range(8)]
            assert {router.answer(request).status for request in sent} == {200}


def test_a_forked_child_keeps_no_connection(tmp_path: Path) -> None:
    source = """
    import os, time
    class Forks:
        def __call__(self, request):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            return child
    """
    with serving(tmp_path, code(source)["Forks"]) as (node, router):
        child = as_json(router.get())
        assert "eagleray-claims" in Path(f"/proc/{node.process.pid}/maps").read_text()
        assert "eagleray-claims" not in Path(f"/proc/{child}/maps").read_text()
        node.process.kill()
        assert router.connection.receive() is None
        assert node.control.receive() is None
        assert Path(f"/proc/{child}").exists(), "it lives, and yet both ends were seen"


def test_started_by_hand_it_says_how_to_serve(tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run([sys.executable, "-m", "eagleray._replica"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "eagleray.serve.run" in done.stderr


def test_the_page_counts_turns_while_there_is_work(tmp_path: Path) -> None:
    with serving(tmp_path, code(CANCELLED)["Waits"]) as (_, router):
        until_started(router, router.request(frames.http_head()))
        before = router.page.turns()
        eventually(lambda: router.page.turns() >= before + 2)


def test_output_names_the_replica(tmp_path: Path) -> None:
    source = """
    import logging
    async def handler(request):
        logging.getLogger("eagleray.serve").info("hello")
        return "ok"
    """
    with serving(tmp_path, code(source)["handler"]) as (node, router):
        router.get(request_id="the-id")
        assert " app/Deployment abc12345 r1 the-id -- hello" in node.log
