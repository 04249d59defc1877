"""What the machine did meanwhile: processes, their CPU time and memory, and time that was not ours.

The benchmark is a subreaper, so every process of a system under test stays its descendant, whatever sessions and
daemons it makes. All of /proc is read with the standard library.
"""

import contextlib
import ctypes
import os
import platform
import signal
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """From now on orphaned descendants become children of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@dataclass(frozen=True)
class Process:
    """One line of /proc/PID/stat. CPU is in seconds and includes children that were waited for."""

    pid: int
    parent: int
    state: str
    cpu: float


def processes():
    """Yields every process that can be read."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            line = Path(entry.path, "stat").read_text()
        except OSError:
            continue  # it ended meanwhile
        fields = line[line.rindex(")") + 2 :].split()
        cpu = sum(int(ticks) for ticks in fields[11:15]) / TICKS
        yield Process(int(entry.name), int(fields[1]), fields[0], cpu)


def descendants(apart=()):
    """Living descendants of this process by pid, without those in `apart`."""
    children = {}
    for process in processes():
        children.setdefault(process.parent, []).append(process)
    found, todo = {}, [os.getpid()]
    while todo:
        for process in children.get(todo.pop(), []):
            if process.pid in apart:
                continue
            todo.append(process.pid)
            if process.state != "Z":
                found[process.pid] = process
    return found


def cpu_seconds(apart=()):
    """CPU time of all descendants so far, by pid."""
    return {pid: process.cpu for pid, process in descendants(apart).items()}


def pss_mib(apart=()):
    """Proportional set size of all descendants: shared pages are counted once."""
    return pss_mib_of(descendants(apart))


def pss_mib_of(pids):
    """The same of these processes, as far as they live."""
    kib = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
    return kib / 1024


def busy_and_steal():
    """Seconds that the whole machine was busy, and that the hypervisor took, since boot."""
    numbers = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _wait, irq, softirq, steal = numbers[:8]
    return (user + nice + system + irq + softirq) / TICKS, steal / TICKS


def end(tops):
    """Ends every descendant: SIGTERM to `tops`, ten seconds, then SIGKILL to what is left. Only our own, by pid."""
    for top in tops:
        if top.poll() is None:
            top.terminate()
    deadline = time.monotonic() + 10
    while descendants() and time.monotonic() < deadline:
        reap(tops)
        time.sleep(0.02)
    left = len(descendants())
    while alive := descendants():
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap(tops)
        time.sleep(0.02)
    reap(tops)
    return left


def reap(tops):
    """Waits for orphans that ended. Children that a Popen knows are left to it."""
    for top in tops:
        top.poll()
    known = {top.pid for top in tops}
    for process in list(processes()):
        if process.parent == os.getpid() and process.state == "Z" and process.pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def facts():
    """What a reader must know of the machine to judge the numbers."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_mib": int(memory.split()[1]) // 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
