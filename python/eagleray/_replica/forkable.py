"""Whether a process that has imported user code can be forked, so that each fork is as if it had imported it itself.

It cannot if a thread runs, which no fork has; if it holds what forks would share, such as a connection, a file that is
written to or memory that is shared; or if a random generator is there that would draw the same in each of them and that
nobody can seed again. Threads of BLAS libraries end before a fork and begin again after it, by the libraries' own
handlers: so a fork is tried, and what is left then counts.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import stat
import sys
import threading
import warnings
from typing import Any, NamedTuple, NoReturn

# Devices that are the same whoever reads them.
_PLAIN_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


class File(NamedTuple):
    """A file that was opened for reading: each fork gets a place in it of its own."""

    descriptor: int
    flags: int


class Before:
    """What there was before user code; what is there now is looked at beside it."""

    def __init__(self) -> None:
        # So that a few numbers drawn change its place alone.
        random.random()
        self._random = random.getstate()[1][:-1]
        self._generators = {id(one) for one in _generators()}
        # By the number of a `random.Random` that was made since: whether its seed was drawn.
        self._drawn: dict[int, bool] = {}
        self._originals = _record_seeds(self._drawn)
        self._to_seed: list[Any] = []
        self._shared = _shared_memory()
        self._descriptors = _descriptors()
        self._reopened: list[File] = []

    def reason(self) -> str:
        """Why this process cannot be forked; empty: it can."""
        random.Random.seed, random.Random.setstate = self._originals  # type: ignore[method-assign]
        return (
            _of_threads()
            or _of_children()
            or self._of_descriptors()
            or self._of_memory()
            or _of_timers()
            or self._of_generators()
        )

    def has_loop(self) -> bool:
        """Whether there is something by which an event loop waits."""
        return any(_target(number) == "anon_inode:[eventpoll]" for number in _descriptors() - self._descriptors)

    def read_only(self) -> list[File]:
        """Files that each fork is to open again."""
        return self._reopened

    def drawn(self) -> list[Any]:
        """Random generators that began with a seed that was drawn, and are to begin anew in each fork."""
        return self._to_seed

    def _of_descriptors(self) -> str:
        for number in sorted(_descriptors() - self._descriptors):
            target = _target(number)
            if target is None:
                continue
            mode, flags = os.fstat(number).st_mode, _flags(number)
            if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and flags & os.O_ACCMODE == os.O_RDONLY:
                self._reopened.append(File(number, flags))
            elif target not in _PLAIN_DEVICES:
                return f"{_kind(mode, target)} is open, which forks would share: {target}"
        return ""

    def _of_memory(self) -> str:
        new = _shared_memory() - self._shared
        return "" if not new else f"memory is mapped that forks would share: {min(new)}"

    def _of_generators(self) -> str:
        if random.getstate()[1][:-1] != self._random:
            return "the generator of module random was seeded, or has drawn many numbers"
        for one in _generators():
            if id(one) in self._generators:
                continue
            drawn = self._drawn.get(id(one)) if isinstance(one, random.Random) else _drew(one)
            if drawn is None:
                return f"a random generator cannot be seeded again: {_place(one)} ({type(one).__name__})"
            if drawn:
                self._to_seed.append(one)
        return ""


def look() -> Before:
    """To be called before user code."""
    return Before()


def _of_threads() -> str:
    if len(os.listdir("/proc/self/task")) == 1:  # noqa: PTH208
        return ""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if not others:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        others = _native_threads()
    return f"thread {others[0]} runs" if others else ""


def _native_threads() -> list[str]:
    names = []
    for task in sorted(os.listdir("/proc/self/task"), key=int)[1:]:  # noqa: PTH208
        try:
            with open(f"/proc/self/task/{task}/comm") as file:  # noqa: PTH123
                names.append(file.read().strip())
        except OSError:
            continue  # It has ended.
    return names


def _of_children() -> str:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return ""
    return "a child process was started"


def _of_timers() -> str:
    timers = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    return "a timer runs, which forks do not have" if any(signal.getitimer(one)[0] for one in timers) else ""


def _descriptors() -> set[int]:
    numbers = {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208
    # Not the directory itself, which is closed by now.
    return {number for number in numbers if _target(number) is not None}


def _target(number: int) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
    except OSError:
        return None


def _flags(number: int) -> int:
    import fcntl

    return fcntl.fcntl(number, fcntl.F_GETFL)


def _kind(mode: int, target: str) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "a device"
    if stat.S_ISREG(mode) and not target.startswith("anon_inode:"):
        return "a file that is written to"
    return "an event source"


def _shared_memory() -> set[str]:
    """Mappings that a fork shares with its parent and that can be written to."""
    found = set()
    with open("/proc/self/maps") as file:  # noqa: PTH123
        for line in file:
            address, modes, *rest = line.split(maxsplit=5)
            if modes[1] == "w" and modes[3] == "s":
                found.add(f"{rest[3].strip() if len(rest) > 3 else 'without a name'} at {address}")
    return found


# --- random generators ----------------------------------------------------------------------------------------------


def _generators() -> list[Any]:
    """All that hold a state of their own, but the one of module `random`."""
    kinds: list[type] = [random.Random]
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        kinds += [numpy_random.Generator, numpy_random.RandomState]
    wanted = tuple(kinds)
    own = random._inst
    return [
        one
        for one in gc.get_objects()
        if issubclass(type(one), wanted) and one is not own and not isinstance(one, random.SystemRandom)
    ]


def _record_seeds(drawn: dict[int, bool]) -> Any:
    """Notes of each `random.Random` that is made whether its seed is drawn. Returns what is to be put back."""
    originals = random.Random.seed, random.Random.setstate

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        drawn[id(self)] = a is None
        originals[0](self, a, version)

    def setstate(self: random.Random, state: Any) -> None:
        drawn[id(self)] = False
        originals[1](self, state)

    random.Random.seed, random.Random.setstate = seed, setstate  # type: ignore[method-assign]
    return originals


def _drew(one: Any) -> bool:
    """Whether the seed of a generator of numpy was drawn."""
    generator = one.bit_generator if hasattr(one, "bit_generator") else one._bit_generator
    # numpy draws 128 bits, and people give small numbers.
    entropy = getattr(getattr(generator, "seed_seq", None), "entropy", None)
    return isinstance(entropy, int) and entropy >= 1 << 96


def _place(wanted: Any) -> str:
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is wanted:
                return f"{name}.{attribute}"
    return "one that an object holds"


# --- a process that begins again ------------------------------------------------------------------------------------


class Again:
    """How this process was started, to start it again as a replica that nothing was imported in."""

    def __init__(self, control: int, listener: int) -> None:
        self._descriptors = control, listener
        self._environment = dict(os.environ)
        self._environment["EAGLERAY_CONTROL_FD"] = str(control)
        self._environment["EAGLERAY_LISTEN_FD"] = str(listener)
        python_path = self._environment.pop("PYTHONPATH", None)
        if python_path is not None:
            self._environment["EAGLERAY_PYTHONPATH"] = python_path
        self._arguments = [sys.executable, *sys.orig_argv[1:]]

    def start(self) -> NoReturn:
        """Does not return."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        for descriptor in self._descriptors:
            os.set_inheritable(descriptor, True)
        os.execve(self._arguments[0], self._arguments, self._environment)
