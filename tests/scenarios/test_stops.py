"""Scenario 2: replicas killed (SIGKILL) and stopped (SIGSTOP) while a request is queued, just claimed, in user code.

The replica signals itself at the point that the request's id names (`stops.py`, which is part of the application), so
the point is hit every time. Meanwhile POSTs, which may not be repeated, come without a pause. Each request has an id of
its own, and user code writes the ids that it sees into a ledger.
"""

import itertools
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from record import record

from machine import Answer, Machine, eventually, request

APP = """
import asyncio, os, time
from eagleray import serve
from stops import Stops

@serve.deployment(num_replicas={replicas}, max_ongoing_requests=100)
class App:
    def __init__(self):
        self.ledger = os.open({ledger!r}, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self.stops = Stops({marks!r})
        self.stops.install()

    async def __call__(self, request):
        name = self.begin(request)
        await asyncio.sleep(0.005)
        return name

    def begin(self, request):
        name = request.headers["x-request-id"]
        self.stops.at("claimed", name)
        os.write(self.ledger, (name + "\\n").encode())
        self.stops.at("user", name)
        return name

class InThreads(App.func_or_class):
    def __call__(self, request):
        name = self.begin(request)
        time.sleep(0.005)
        return name

if {sync}:
    App = App.options(func_or_class=InThreads)
app = App.bind()
"""
REPLICAS = 14
POINTS = ("queued", "claimed", "user")
# Of sync code: its queue is in the native module, where no test reaches.
POINTS_OF_THREADS = ("claimed", "user")


class Bench:
    """The application, requests with ids, and what became of each."""

    def __init__(self, machine: Machine, *, sync: bool = False) -> None:
        self.machine = machine
        self.ledger = machine.work / "ledger"
        self.marks = machine.work / "marks"
        self.marks.mkdir()
        shutil.copy(Path(__file__).with_name("stops.py"), machine.work)
        self.script = machine.serve(
            APP.format(ledger=str(self.ledger), marks=str(self.marks), replicas=REPLICAS, sync=sync)
        )
        self.address = self.script.address
        self.answers: dict[str, Answer] = {}
        self.numbers = itertools.count()
        self._lock = threading.Lock()

    def ask(self, name: str) -> None:
        answer = request("POST", self.address, headers={"x-request-id": name})
        with self._lock:
            assert name not in self.answers
            self.answers[name] = answer

    def shoot(self, names: list[str]) -> list[threading.Thread]:
        threads = [threading.Thread(target=self.ask, args=(name,), daemon=True) for name in names]
        for thread in threads:
            thread.start()
        return threads

    def names(self, point: str, number: signal.Signals, count: int) -> list[str]:
        return [f"{point}.{number.name}.{next(self.numbers)}" for _ in range(count)]

    def pid_of(self, name: str) -> int:
        """The replica that stopped for this request."""
        mark = self.marks / name
        return int(eventually(lambda: mark.exists() and mark.read_text(), f"{name} reaches its point"))

    def ran(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for name in self.ledger.read_text().split():
            counts[name] = counts.get(name, 0) + 1
        return counts

    def more(self, count: int = 100) -> None:
        """Returns once so many further requests have been answered."""
        before = len(self.answers)
        eventually(lambda: len(self.answers) >= before + count, f"{count} more answers")

    def healthy(self) -> None:
        eventually(lambda: len(self.machine.replicas("default/App")) >= REPLICAS, "all replicas are back", 90)


class Load:
    """POSTs, each with an id, on four threads."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]

    def _run(self) -> None:
        while not self._stop.is_set():
            self._bench.ask(f"load.{next(self._bench.numbers)}")

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a request got no answer"


def kill(bench: Bench, point: str, count: int) -> None:
    names = bench.names(point, signal.SIGKILL, count)
    # One after the other: a request that was queued here may have started where the next one strikes.
    for name in names:
        (thread,) = bench.shoot([name])
        thread.join(60)
        answer = bench.answers[name]
        if point == "queued":
            assert answer.text == name, f"a queued request is answered by another replica: {answer}"
        else:
            assert answer.status == 502, f"a started request gets one marked 502: {answer}"


def stop(bench: Bench, point: str, count: int) -> None:
    names = bench.names(point, signal.SIGSTOP, count)
    threads = bench.shoot(names)
    pids = {name: bench.pid_of(name) for name in names}
    try:
        if point == "queued":
            _continue_as_answered(bench, pids)
        else:
            # Long enough for the routers to have seen it: then what is started is still waited for.
            bench.ask(f"load.{next(bench.numbers)}")
            eventually(lambda: all(state(pid) == "T" for pid in pids.values()), "they stand still")
            assert not set(names) & set(bench.answers), "nobody else answers what has started"
    finally:
        for pid in set(pids.values()):
            os.kill(pid, signal.SIGCONT)
    for thread in threads:
        thread.join(60)
    for name in names:
        assert bench.answers[name].text == name, bench.answers[name]


def _continue_as_answered(bench: Bench, pids: dict[str, int]) -> None:
    """Each is answered while the replica that had it stands still. That goes on at once: another of these requests may
    have started there, before it was stopped, and is waited for."""
    waiting = dict(pids)

    def over() -> bool:
        for name in [name for name in waiting if name in bench.answers]:
            os.kill(waiting.pop(name), signal.SIGCONT)
        return not waiting

    eventually(over, f"others answer what was queued: {waiting}")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def check(bench: Bench) -> dict[str, int]:
    """Every request has exactly one answer, and it is the right one."""
    ran, lost = bench.ran(), 0
    assert [name for name, count in ran.items() if count > 1] == [], "none ran twice"
    for name, answer in bench.answers.items():
        if answer.status == 200:
            assert answer.text == name
            assert ran.get(name) == 1, name
        else:
            assert answer.status == 502, f"{name}: {answer}"
            assert "Check whether it took effect" in answer.text
            lost += 1
            # A request of the load that never ran was claimed when its replica died: that takes a hit between two
            # instructions, while a queued one that is lost would be here each time.
            assert name in ran or not name.startswith("queued."), name
    return {"requests": len(bench.answers), "marked 502": lost, "ran twice": 0, "queued and not answered": 0}


@pytest.fixture
def bench(machine: Machine) -> Iterator[Bench]:
    yield Bench(machine)
    for pid in machine.replicas():
        os.kill(pid, signal.SIGCONT)


def test_a_stop_at_each_point_moves_what_is_queued_and_delays_what_has_started(bench: Bench) -> None:
    before = bench.machine.replicas("default/App")
    with Load(bench):
        for point in POINTS:
            stop(bench, point, 6)
            bench.more()
    counted = check(bench)
    assert counted["marked 502"] == 0
    assert bench.machine.replicas("default/App") == before
    record(2, "SIGSTOP while queued, claimed, in user code, 6 times each", counted)


def test_a_kill_at_each_point_moves_what_is_queued_and_marks_what_has_started(bench: Bench) -> None:
    with Load(bench):
        for point in POINTS:
            kill(bench, point, 4)
            bench.more()
    counted = check(bench)
    ran = bench.ran()
    assert not [name for name in ran if name.startswith("claimed.")], "claimed, and killed before user code"
    record(2, "SIGKILL while queued, claimed, in user code, 4 times each", counted)


def test_sync_code_that_is_stopped_or_killed_runs_once(machine: Machine) -> None:
    bench = Bench(machine, sync=True)
    with Load(bench):
        for point in POINTS_OF_THREADS:
            stop(bench, point, 4)
        for point in POINTS_OF_THREADS:
            kill(bench, point, 3)
    record(2, "sync code: SIGSTOP and SIGKILL while claimed, in user code, 4 and 3 times each", check(bench))


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_kills_and_stops_at_each_point_a_thousand_times(bench: Bench) -> None:
    wanted = int(os.environ.get("EAGLERAY_CHAOS_STOPS", "1000"))
    done = dict.fromkeys(("SIGSTOP", "SIGKILL"), 0)
    with Load(bench):
        while min(done.values()) < wanted:
            for point in POINTS:
                if done["SIGSTOP"] < wanted:
                    stop(bench, point, 4)
                    done["SIGSTOP"] += 4
                if done["SIGKILL"] < wanted:
                    kill(bench, point, 2)
                    done["SIGKILL"] += 2
            # Fewer deaths in half a minute than make a crash loop of so many replicas.
            bench.healthy()
    record(2, "long form: SIGKILL and SIGSTOP while queued, claimed, in user code", check(bench) | done)
