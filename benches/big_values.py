"""A float32 array of 64 MiB from one replica to another, beside pickle over a unix socket and beside memory.

    .venv/bin/python benches/big_values.py [MEBIBYTES]
    .venv/bin/python benches/big_values.py --sizes     from which length on shared memory is faster

Prints medians in milliseconds, ratios, and what it cost in memory. An exchange is a call with the array as its argument
and a small answer, with all replicas on this machine; pickle over a socket is the same with `pickle.dumps(protocol=5)`,
`sendall`, `recv_into` and `pickle.loads`, between two processes.

**The limit** is what an exchange cannot do without: one copy of the array, by one thread, into memory that two
processes can share, without telling anybody. It is measured for the two states that an exchange can find:

- warm: the memory has its pages, because an earlier array was there. Twice: as libc's `memmove` copies by itself, and
  as it copies when told to write past the caches (a tunable of glibc). The faster of the two is the limit. Here and
  there the same array goes again and again, after some copies that are not counted.
- fresh: nothing is there, so the kernel must find the pages. Twice: by `memmove` into a fresh mapping, and by `pwrite`
  into a fresh memfd. The faster of the two is the limit. The exchange begins when the memory of the one before has been
  given back.

Memory is faster in one second than in the next, above all in a virtual machine; so each round measures all of them, a
ratio is one of a round, and what is printed is the median of the rounds.
"""

import asyncio
import ctypes
import json
import mmap
import os
import pickle
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eagleray import _values, serve
from eagleray.serve.handle import DeploymentHandle

ROUNDS = 9
TIMES = 15
WARM_UP = 5
FRESH_TIMES = 2
PAST_CACHES = "glibc.cpu.x86_non_temporal_threshold=0x10000"
SIZES_KIB = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
SIZES_TIMES = 200
MIB = 1 << 20


def shared_memory() -> int:
    """Bytes of shared memory on the machine."""
    with Path("/proc/meminfo").open() as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Shmem:"))


def anonymous() -> int:
    """Bytes of anonymous memory of this process."""
    with Path("/proc/self/smaps_rollup").open() as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def shared_regions() -> bool:
    """Whether this process has shared memory of values."""
    with Path("/proc/self/maps").open() as lines:
        return any("eagleray-value" in line for line in lines)


@serve.deployment
class Receiver:
    """Takes arrays."""

    async def take(self, array: Any) -> float:
        return float(array[-1])

    async def memory(self) -> int:
        return anonymous()


@serve.deployment
class Sender:
    """Sends them."""

    def __init__(self, receiver: DeploymentHandle) -> None:
        self.receiver = receiver
        self.arrays: dict[int, Any] = {}

    def array(self, length: int) -> Any:
        """The same one each time: a source that was copied before is in part in a cache, for the limit too."""
        if length not in self.arrays:
            self.arrays[length] = np.ones(length // 4, np.float32)
        return self.arrays[length]

    async def warm(self, length: int) -> dict[str, Any]:
        """Seconds of exchanges one after the other, after some that are not counted, and what they cost in memory."""
        array = self.array(length)
        for _ in range(WARM_UP):
            await self.receiver.take.remote(array)
        anonymous_before, shared_before = await self.receiver.memory.remote(), shared_memory() - array.nbytes
        seconds, shared = [], 0
        for _ in range(TIMES):
            began = time.perf_counter()
            await self.receiver.take.remote(array)
            seconds.append(time.perf_counter() - began)
            shared = max(shared, shared_memory() - shared_before)
        grown = await self.receiver.memory.remote() - anonymous_before
        return {"seconds": statistics.median(seconds), "anonymous_bytes": grown, "shared_bytes": shared}

    async def fresh(self, length: int) -> float:
        """Seconds of exchanges that find nothing of an earlier one."""
        array = self.array(length)
        seconds = []
        for _ in range(FRESH_TIMES):
            give_up = time.monotonic() + 20
            while shared_regions():
                if time.monotonic() > give_up:
                    raise TimeoutError("the memory of earlier values is not given back")
                await asyncio.sleep(0.05)
            began = time.perf_counter()
            await self.receiver.take.remote(array)
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)

    async def microseconds(self, length: int, *, shared: bool) -> float:
        """The median of calls with an array of so many bytes, in shared memory or as data."""
        _values.SHARED_FROM = 1 if shared else 1 << 40
        array = np.ones(length // 4, np.float32)
        seconds = []
        for _ in range(SIZES_TIMES):
            began = time.perf_counter()
            await self.receiver.take.remote(array)
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds) * 1e6


def sizes() -> None:
    """Prints microseconds of a call for each length, in shared memory and as data."""
    serve.start(http_options={"port": 0})
    handle = serve.run(Sender.bind(Receiver.bind()), route_prefix=None)
    print("KiB    shared memory    data    (microseconds, medians)")
    for kib in SIZES_KIB:
        shared, data = (handle.microseconds.remote(kib * 1024, shared=shared).result() for shared in (True, False))
        print(f"{kib:<6} {shared:<16.0f} {data:.0f}")


def pickled(length: int) -> float:
    """The median of seconds of exchanges by pickle over a unix socket between two processes."""
    here, there = socket.socketpair()
    if os.fork() == 0:
        here.close()
        while header := there.recv(8, socket.MSG_WAITALL):
            data = bytearray(struct.unpack("<Q", header)[0])
            view = memoryview(data)
            while view:
                view = view[there.recv_into(view) :]
            there.sendall(struct.pack("<d", pickle.loads(data)[-1]))
        os._exit(0)
    there.close()
    array = np.ones(length // 4, np.float32)
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        data = pickle.dumps(array, protocol=5)
        here.sendall(struct.pack("<Q", len(data)))
        here.sendall(data)
        here.recv(8, socket.MSG_WAITALL)
        seconds.append(time.perf_counter() - began)
    here.close()
    os.wait()
    return statistics.median(seconds)


class Memory:
    """The limit, in a process of its own, because libc reads how it copies when it starts."""

    def __init__(self, length: int, *, past_caches: bool) -> None:
        environment = dict(os.environ, GLIBC_TUNABLES=PAST_CACHES) if past_caches else None
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--memory", str(length)],
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environment, "text": True},
        )

    def measure(self) -> dict[str, float]:
        """Medians of seconds, by the way of copying."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: dict[str, float] = json.loads(self.process.stdout.readline())
        return found

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()


def memory(length: int) -> None:
    """What `Memory` runs: for each line that comes in, one of medians."""
    source = np.ones(length // 4, np.float32)
    address = source.ctypes.data

    def fresh() -> tuple[int, mmap.mmap]:
        descriptor = os.memfd_create("limit")
        os.ftruncate(descriptor, length)
        return descriptor, mmap.mmap(descriptor, length)

    def moved(target: mmap.mmap) -> float:
        view = (ctypes.c_char * length).from_buffer(target)
        began = time.perf_counter()
        ctypes.memmove(view, address, length)
        return time.perf_counter() - began

    def moved_fresh() -> float:
        descriptor, target = fresh()
        os.close(descriptor)
        return moved(target)

    def written_fresh() -> float:
        descriptor, _ = fresh()
        view, at = memoryview(source).cast("B"), 0
        began = time.perf_counter()
        while at < length:
            at += os.pwrite(descriptor, view[at:], at)
        took = time.perf_counter() - began
        os.close(descriptor)
        return took

    _, target = fresh()

    def moved_warm() -> float:
        return moved(target)

    ways: list[tuple[str, Callable[[], float], int]] = [
        ("warm", moved_warm, TIMES),
        ("fresh, mapped", moved_fresh, FRESH_TIMES),
        ("fresh, written", written_fresh, FRESH_TIMES),
    ]
    for _ in sys.stdin:
        for _ in range(WARM_UP):
            moved_warm()
        found = {name: statistics.median(way() for _ in range(times)) for name, way, times in ways}
        print(json.dumps(found), flush=True)


def main() -> None:
    if "--sizes" in sys.argv:
        sizes()
        return
    if "--memory" in sys.argv:
        memory(int(sys.argv[-1]))
        return
    length = int(sys.argv[1] if len(sys.argv) > 1 else 64) * MIB
    by_pickle = pickled(length)
    serve.start(http_options={"port": 0})
    handle = serve.run(Sender.bind(Receiver.bind()), route_prefix=None)
    plain, streaming = (Memory(length, past_caches=past_caches) for past_caches in (False, True))
    rounds: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        limits, streamed = plain.measure(), streaming.measure()
        warm = handle.warm.remote(length).result()
        rounds.append(
            {
                "warm": warm.pop("seconds"),
                "fresh": handle.fresh.remote(length).result(),
                "memmove": limits["warm"],
                "memmove past the caches": streamed["warm"],
                "memmove, fresh": limits["fresh, mapped"],
                "pwrite, fresh": limits["fresh, written"],
                **warm,
            }
        )
    plain.close()
    streaming.close()

    def milliseconds(name: str) -> float:
        return round(statistics.median(one[name] for one in rounds) * 1e3, 2)

    def ratio(of: Callable[[dict[str, Any]], float], pick: Callable[[list[float]], float] = statistics.median) -> float:
        return round(pick([of(one) for one in rounds]), 2)

    def of_warm(one: dict[str, Any]) -> float:
        return min(one["memmove"], one["memmove past the caches"]) / float(one["warm"])

    def of_fresh(one: dict[str, Any]) -> float:
        return min(one["memmove, fresh"], one["pwrite, fresh"]) / float(one["fresh"])

    report = {
        "mebibytes": length // MIB,
        "milliseconds": {
            "replica to replica, warm": milliseconds("warm"),
            "replica to replica, fresh": milliseconds("fresh"),
            "pickle over a unix socket": round(by_pickle * 1e3, 2),
            "memmove into warm shared memory": milliseconds("memmove"),
            "the same past the caches": milliseconds("memmove past the caches"),
            "memmove into fresh shared memory": milliseconds("memmove, fresh"),
            "pwrite into fresh shared memory": milliseconds("pwrite, fresh"),
        },
        "times pickle over a unix socket": round(by_pickle * 1e3 / milliseconds("warm"), 2),
        "memmove (warm) to it": ratio(lambda one: one["memmove"] / one["warm"]),
        "of the limit (warm)": ratio(of_warm),
        "of the limit (warm), least of the rounds": ratio(of_warm, min),
        "of the limit (fresh)": ratio(of_fresh),
        "receiver's anonymous memory grew by KiB": max(one["anonymous_bytes"] for one in rounds) // 1024,
        "shared memory over the live array": round(max(one["shared_bytes"] for one in rounds) / length - 1, 3),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
