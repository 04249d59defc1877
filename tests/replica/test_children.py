"""Children of user code are as those of any program: their signals, descriptors, and the end of one that comes back."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import frames
import pytest
from machine_of_one import Node, as_json, code, eventually

TOOLS = """
import asyncio, ctypes, json, multiprocessing, os, signal, subprocess, sys, threading, time
from concurrent.futures import ProcessPoolExecutor

def seen():
    "What this process has of signals, as the kernel and as Python see it."
    lines = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    masks = {name: lines[name].strip() for name in ("SigBlk", "SigIgn", "SigCgt")}
    handlers = {name.name: repr(signal.getsignal(name)) for name in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)}
    wakeup = signal.set_wakeup_fd(-1)
    return {**masks, **handlers, "wakeup": wakeup}

def told(child):
    "What a forked child says of itself, and how it ended."
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, json.dumps(child()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return json.loads(text)

def terminated(kill=signal.SIGTERM):
    "How a child ends that is sent a signal as soon as there is one."
    pid = os.fork()
    if pid == 0:
        while True:
            time.sleep(60)
    os.kill(pid, kill)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def process():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    return child.exitcode

def pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, -2])

def executor():
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(abs, [-1, -2]))

def by_c(kill=signal.SIGTERM):
    "A fork of which Python knows nothing: the child is in C until the signal comes."
    library = ctypes.PyDLL(None)
    pid = library.fork()
    if pid == 0:
        library.pause()
        library._exit(7)
    os.kill(pid, kill)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def run(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

WAYS = {
    "terminated": lambda: [terminated() for _ in range(50)],
    "process": process, "pool": pool, "executor": executor, "by_c": by_c,
    "interrupted": lambda: terminated(signal.SIGUSR1),
    "blocked": lambda: [run("import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))")],
}
"""
EXPECTED = {
    "terminated": [-signal.SIGTERM] * 50,
    "process": -signal.SIGTERM,
    "pool": [1, 2],
    "executor": [1, 2],
    "by_c": -signal.SIGTERM,
    "interrupted": -signal.SIGUSR1,
    "blocked": ["set()\n"],
}
ASYNC = (
    TOOLS
    + """
class X:
    async def __call__(self, request):
        return WAYS[request.query_params["way"]]()
"""
)
SYNC = (
    TOOLS
    + """
class X:
    def __call__(self, request):
        return WAYS[request.query_params["way"]]()
"""
)


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Node]:
    if request.param:
        pytest.importorskip("uvloop", reason="one of the two loops is uvloop's")
    node = Node(tmp_path, uvloop=request.param)
    yield node
    node.close()


def start(node: Node, source: str) -> Any:
    node.start(code(source)["X"])
    node.ready()
    return node.router()


@pytest.mark.contract("4.2/children-signals")
@pytest.mark.parametrize("source", [ASYNC, SYNC], ids=["async", "sync"])
def test_a_child_ends_by_a_signal_and_the_replica_hears_nothing_of_it(node: Node, source: str) -> None:
    router = start(node, source)
    for way, expected in EXPECTED.items():
        assert as_json(router.get(f"/?way={way}")) == expected, way
    assert node.process.poll() is None
    assert node.stop() == 0


def test_a_thousand_signals_right_after_the_fork_end_a_child_each(node: Node) -> None:
    source = (
        TOOLS
        + """
class X:
    async def __call__(self, request):
        return [sum(terminated() == -signal.SIGTERM for _ in range(1000)), os.getpid()]
"""
    )
    router = start(node, source)
    assert as_json(router.get()) == [1000, node.process.pid]
    assert node.process.poll() is None
    assert not any(frame.kind == frames.GONE for frame in router.others)


def test_a_child_has_the_signals_of_a_child_of_a_plain_program(node: Node) -> None:
    source = (
        TOOLS
        + """
class X:
    async def __call__(self, request):
        mine = told(seen)
        mine["exec"] = json.loads(run("import json, signal\\n" + CODE))
        return mine
CODE = "print(json.dumps([line for line in open('/proc/self/status') if line.startswith('Sig') and line[3] != 'Q']))"
"""
    )
    router = start(node, source)
    # The C library has a signal of its own in every process that had threads.
    thread = (
        "\nthread = threading.Thread(target=print, args=('',), kwargs={'end': ''})\nthread.start(); thread.join()\n"
    )
    plain = as_plain(TOOLS + thread + "print(json.dumps(told(seen)))")
    plain["exec"] = as_plain("import json, signal\n" + code(source)["CODE"])
    assert as_json(router.get()) == plain


def as_plain(script: str) -> Any:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_handlers_that_user_code_sets_stay_in_the_child(node: Node) -> None:
    source = (
        TOOLS
        + """
class X:
    def __init__(self):
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(33))
        signal.signal(signal.SIGUSR2, lambda number, frame: os._exit(34))
    async def __call__(self, request):
        read, write = os.pipe()
        ends = []
        for number in (signal.SIGTERM, signal.SIGUSR2):
            pid = os.fork()
            if pid == 0:
                os.write(write, b".")
                while True: time.sleep(0.05)  # a signal just before it is handled when it ends
            os.read(read, 1)
            os.kill(pid, number)
            ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        return ends
"""
    )
    assert as_json(start(node, source).get()) == [33, 34]


def test_a_child_has_no_descriptor_of_the_replica(node: Node) -> None:
    source = (
        TOOLS
        + """
def descriptors():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try: found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError: pass
    return found
class X:
    def __call__(self, request):
        return [told(descriptors), descriptors()]
"""
    )
    child, replica = as_json(start(node, source).get())

    def of_us(names: list[str]) -> set[str]:
        return {name for name in names if "memfd" in name or name.startswith("socket") or "eventfd" in name}

    assert any("memfd:eagleray-stacks" in name for name in replica)
    # The loop's own pair wakes it from threads; it is there in a child of any program with a loop.
    assert len([name for name in of_us(child) if not name.startswith("socket")]) <= 1, child
    assert not any("memfd" in name for name in child)


BACK = """
import asyncio, os, sys, threading
from concurrent.futures import ThreadPoolExecutor
FOLDER = {folder!r}
def leave(how):
    if how == "exit": sys.exit(3)
    if how == "raise": raise ValueError("in the child")
    if how == "text": sys.exit("sorry")
class X:
    def __init__(self):
        self.pids, self.effects = [], 0
    {kind} __call__(self, request):
        how, where = request.query_params.get("how"), request.query_params.get("where", "here")
        if how is None:
            return [len(self.pids), os.getpid()]
        if where == "here":
            return self.fork(how)
        {elsewhere}
    def fork(self, how):
        pid = os.fork()
        if pid == 0:
            if how == "wait": return self.child_waits()
            leave(how)
            return "from the child"
        self.pids.append(pid)
        return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    def child_waits(self):
        return "from the child"
"""
ELSEWHERE = """
        if where == "executor":
            with ThreadPoolExecutor(1) as executor:
                return await asyncio.get_running_loop().run_in_executor(executor, self.fork, how)
        if where == "thread": return await asyncio.to_thread(self.fork, how)
        if where == "own task": return await asyncio.create_task(self.task(how))
        if where == "callback":
            future = asyncio.get_running_loop().create_future()
            def callback(): future.set_result(self.fork(how))
            asyncio.get_running_loop().call_later(0.01, callback)
            return await future
    async def task(self, how):
        await asyncio.sleep(0)
        return self.fork(how)
"""


@pytest.mark.contract("4.2/children-come-back")
@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_child_that_comes_back_ends_with_the_status_of_a_program(node: Node, kind: str) -> None:
    source = BACK.format(folder=str(node.folder), kind=kind, elsewhere="pass")
    router = start(node, source)
    for how, status in [("exit", "3"), ("raise", "1"), ("return", "0"), ("text", "1")]:
        assert router.get(f"/?how={how}").body.decode() == status, how
    assert as_json(router.get()) == [4, node.process.pid]
    assert "ValueError: in the child" in node.log
    assert "sorry" in node.log
    assert node.stop() == 0


@pytest.mark.parametrize("where", ["thread", "executor", "own task", "callback"])
def test_a_child_that_comes_back_to_the_loop_or_to_its_threads_ends(node: Node, where: str) -> None:
    source = BACK.format(folder=str(node.folder), kind="async def", elsewhere=ELSEWHERE.strip())
    router = start(node, source)
    # What a task or a callback raises is asyncio's to keep; the loop of the child ends without it.
    raised = b"1" if where in ("thread", "executor") else b"0"
    for how, status in [("return", b"0"), ("exit", b"3"), ("raise", raised)]:
        answer = router.get(f"/?how={how}&where={where.replace(' ', '%20')}")
        assert answer.body == status, how
    assert as_json(router.get()) == [3, node.process.pid]


def test_a_child_of_a_sync_endpoint_ends(node: Node) -> None:
    source = """
    import os, sys
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from eagleray import serve
    def endpoint(request):
        pid = os.fork()
        if pid == 0:
            if "exit" in request.query_params: sys.exit(5)
            return PlainTextResponse("child")
        return PlainTextResponse(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    @serve.ingress(Starlette(routes=[Route("/", endpoint)]))
    class X: pass
    """
    router = start(node, source)
    assert router.get().body == b"0"
    assert router.get("/?exit=1").body == b"5"


def test_a_child_that_c_code_made_and_python_gets_back_ends(node: Node) -> None:
    source = """
    import asyncio, ctypes, os
    class X:
        async def __call__(self, request):
            pid = ctypes.PyDLL(None).fork()
            if pid == 0: return "child"
            return str(os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1]))
    """
    router = start(node, source)
    assert router.get().body == b"0"
    assert router.get().body == b"0"


def test_what_was_in_flight_runs_once_when_a_child_comes_back(node: Node) -> None:
    effects = node.folder / "effects"
    source = f"""
    import asyncio, os
    class X:
        def __init__(self):
            self.waiting, self.go = 0, asyncio.Event()
        async def __call__(self, request):
            if request.url.path == "/fork":
                self.go.set()
                pid = os.fork()
                if pid == 0: raise FileNotFoundError("exec failed")
                await asyncio.to_thread(os.waitpid, pid, 0)
                return "parent"
            self.waiting += 1
            if request.url.path == "/waiting": return str(self.waiting)
            await self.go.wait()
            with open({str(effects)!r}, "a") as file: file.write(request.url.path + "\\n")
            return "done"
    """
    router = start(node, source)
    held = [router.request(frames.http_head(path=f"/{number}")) for number in range(10)]
    eventually(lambda: int(router.get("/waiting").body) > 10)
    assert router.get("/fork").body == b"parent"
    for request in held:
        assert router.answer(request).body == b"done"
    lines = effects.read_text().split()
    assert sorted(lines) == sorted(f"/{number}" for number in range(10))
    assert router.get("/fork").body == b"parent"


def test_a_constructor_s_child_ends_and_the_replica_starts(node: Node) -> None:
    source = """
    import os
    class X:
        def __init__(self):
            self.pid = os.fork()
        def check_health(self):
            if os.fork() == 0: return
        async def __call__(self, request):
            return [os.waitpid(self.pid, 0)[1], os.getpid()]
    """
    router = start(node, source)
    assert as_json(router.get()) == [0, node.process.pid]


def test_a_replica_that_stops_ends_children_that_its_exit_handlers_wait_for(node: Node) -> None:
    source = """
    import multiprocessing, signal, subprocess, time
    def deaf():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    class X:
        def __init__(self):
            fork = multiprocessing.get_context("fork")
            self.children = [fork.Process(target=time.sleep, args=(600,)), fork.Process(target=deaf)]
            for child in self.children: child.start()
            self.other = subprocess.Popen(["sleep", "600"])
        async def __call__(self, request):
            return [child.pid for child in self.children] + [self.other.pid]
    """
    router = start(node, source)
    pids = as_json(router.get())
    began = time.monotonic()
    assert node.stop(grace_milliseconds=60_000) == 0
    assert time.monotonic() - began < 15
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() and is_running(pid) for pid in pids))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_an_interrupt_from_outside_ends_the_replica_in_order(node: Node) -> None:
    start(node, "class X:\n    async def __call__(self, request): return 'ok'")
    os.kill(node.process.pid, signal.SIGINT)
    assert node.process.wait(20) == 0
    assert "Traceback" not in node.log
