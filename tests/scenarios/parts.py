"""What scenario tests share: an application that keeps a ledger, and the small acts done to processes."""

import os
import random
import select
import signal
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ledger import IDENTITY, OpenLoop, Report
from machine import PATIENCE, Machine, eventually

# Three replicas that write down what they run, take 20 ms for it and answer with its id.
APP = """
import asyncio, os
from eagleray import serve
from noting import note

@serve.deployment(num_replicas=3, max_ongoing_requests=20)
class App:
    async def __call__(self, request):
        identity = note(request)
        await asyncio.sleep(0.02)
        return identity

app = App.bind()
"""
DEPLOYMENT = "default/App"
SEED = int(os.environ.get("EAGLERAY_CHAOS_SEED", "1"))
# How long the long forms run (`make chaos` sets it).
CHAOS_SECONDS = float(os.environ.get("EAGLERAY_CHAOS_SECONDS", "8"))


def dice() -> random.Random:
    """The same draws in every run of one seed."""
    return random.Random(SEED)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_and_see(pid: int) -> tuple[float, float]:
    """Kills a process; returns the time before and the time at which it was certainly dead."""
    # The zombie of a first thread says nothing of the others, which may hold the sockets still: a pidfd speaks for all.
    descriptor = os.pidfd_open(pid)
    try:
        before = time.monotonic()
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], PATIENCE)[0], f"{pid} does not die"
        return before, time.monotonic()
    finally:
        os.close(descriptor)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def whole(machine: Machine, count: int = 3, deployment: str = DEPLOYMENT, gone: set[int] | None = None) -> set[int]:
    """Waits until exactly `count` replicas run, none of them in `gone`."""
    return eventually(
        lambda: (
            found if len(found := machine.replicas(deployment)) == count and not found & (gone or set()) else set[int]()
        ),
        f"{count} replicas of {deployment}; there are {machine.replicas()}",
    )


def held_by(report: Report, start: float, end: float) -> set[str]:
    """Ids of the requests whose connection a process that died between the two may have held when they ended.

    A kept connection counts from its opening: a request may leave on it before its end has been read.
    """
    return {one.identity for one in report.outcomes if one.opened <= end and one.ended >= start}


def memory_of(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def panics(machine: Machine) -> int:
    """Panics that native processes have logged."""
    return sum("panicked" in line for line in machine.logs("[ncp]*.log").splitlines())


def hold(address: str, path: str, prefix: str, count: int) -> list[socket.socket]:
    """Sends requests, each on a connection of its own, and reads nothing."""
    parts = urlsplit(address)
    held = []
    for number in range(count):
        connection = socket.create_connection((parts.hostname, parts.port), timeout=30)
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n{IDENTITY}: {prefix}{number}\r\n\r\n".encode())
        held.append(connection)
    return held


def calm(address: str, **options: Any) -> Report:
    """A run without faults, which the times of one with faults are compared with: 500 requests."""
    with OpenLoop(address, **{"rate": 200, "requests": 500, "prefix": "calm"} | options) as load:
        eventually(lambda: len(load.report) == 500, f"all are answered: {load.in_flight} are not")
    assert load.report.failed == 0, load.report.tally()
    return load.report


def near(loud: float, quiet: float, more: float = 0.06) -> bool:
    """Whether a time is what it is without faults, three times over for a machine that others use too, and `more`."""
    return loud <= 3 * quiet + more


def serves(address: str, count: int = 50, prefix: str = "after-", path: str = "/") -> Report:
    """A little load when all is said to be well again."""
    with OpenLoop(address, rate=100, prefix=prefix, path=path) as load:
        load.wait_for_more(count)
    return load.report
