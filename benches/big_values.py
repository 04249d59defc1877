"""A float32 array of 64 MiB from one replica to another, beside pickle over a unix socket and beside memory.

    .venv/bin/python benches/big_values.py [MEBIBYTES]
    .venv/bin/python benches/big_values.py --sizes     from which length on shared memory is faster

Prints medians in milliseconds, ratios, and what it cost in memory. **The limit** is one `memcpy` of the array by
numpy: into a fresh memfd (what any way through shared memory pays that does not use memory again), and into one whose
pages are there. An exchange is a call with the array as its argument and a small answer, with all replicas on this
machine; pickle over a socket is the same with `pickle.dumps(protocol=5)`, `sendall`, `recv_into` and `pickle.loads`,
between two processes.
"""

import json
import mmap
import os
import pickle
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eagleray import _values, serve
from eagleray.serve.handle import DeploymentHandle

TIMES = 20
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

    async def run(self, length: int) -> dict[str, Any]:
        array = np.ones(length // 4, np.float32)
        await self.receiver.take.remote(array)
        anonymous_before, shared_before = await self.receiver.memory.remote(), shared_memory() - array.nbytes
        seconds, shared = [], 0
        for _ in range(TIMES):
            began = time.perf_counter()
            await self.receiver.take.remote(array)
            seconds.append(time.perf_counter() - began)
            shared = max(shared, shared_memory() - shared_before)
        grown = await self.receiver.memory.remote() - anonymous_before
        return {"seconds": seconds, "anonymous_bytes": grown, "shared_bytes": shared}

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
    handle = serve.run(Sender.bind(Receiver.bind()), route_prefix=None)
    print("KiB    shared memory    data    (microseconds, medians)")
    for kib in SIZES_KIB:
        shared, data = (handle.microseconds.remote(kib * 1024, shared=shared).result() for shared in (True, False))
        print(f"{kib:<6} {shared:<16.0f} {data:.0f}")


def pickled(length: int) -> list[float]:
    """Seconds of exchanges by pickle over a unix socket between two processes."""
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
    return seconds


def copied(length: int, *, fresh: bool) -> list[float]:
    """Seconds of a copy into shared memory, whose pages are there already if it is not fresh."""
    source = np.ones(length // 4, np.float32)

    def made() -> Any:
        descriptor = os.memfd_create("limit")
        os.ftruncate(descriptor, length)
        view = np.frombuffer(mmap.mmap(descriptor, length), np.float32)
        os.close(descriptor)
        return view

    target = made()
    np.copyto(target, source)
    seconds = []
    for _ in range(TIMES):
        if fresh:
            target = made()
        began = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    if "--sizes" in sys.argv:
        sizes()
        return
    length = int(sys.argv[1] if len(sys.argv) > 1 else 64) * MIB
    median: Callable[[list[float]], float] = statistics.median
    by_pickle = median(pickled(length))
    limit, warm = median(copied(length, fresh=True)), median(copied(length, fresh=False))
    serve.start(http_options={"port": 0})
    found = serve.run(Sender.bind(Receiver.bind()), route_prefix=None).run.remote(length).result()
    ours = median(found["seconds"])
    report = {
        "mebibytes": length // MIB,
        "milliseconds": {
            "replica to replica": round(ours * 1e3, 2),
            "pickle over a unix socket": round(by_pickle * 1e3, 2),
            "memcpy into fresh shared memory": round(limit * 1e3, 2),
            "memcpy into shared memory that is there": round(warm * 1e3, 2),
        },
        "times pickle over a unix socket": round(by_pickle / ours, 2),
        "of the limit (fresh)": round(limit / ours, 2),
        "of the limit (pages there)": round(warm / ours, 2),
        "receiver's anonymous memory grew by KiB": found["anonymous_bytes"] // 1024,
        "shared memory over the live array": round(found["shared_bytes"] / length - 1, 3),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
