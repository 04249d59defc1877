"""Whether a process that has imported user code can be forked, so that each fork is as if it had imported it itself.

It cannot if a thread runs, which no fork has; if it holds what forks would share, such as a connection, a file that is
written to or memory that is shared; or if a random generator is there that would draw the same in each of them and that
nobody can seed again. Threads of BLAS libraries end before a fork and begin again after it, by the libraries' own
handlers: so a fork is tried, and what is left then counts.
"""

from __future__ import annotations

import functools
import os
import signal
import stat
import sys
import tempfile
import threading
import warnings
from typing import Any, NamedTuple, NoReturn

from eagleray._replica import random_states

# Of include/linux/sched.h, among the flags in proc(5)'s stat.
_PF_EXITING = 0x4

# Before user code may have replaced it.
_waitpid = os.waitpid

# Devices that are the same whoever reads them.
_PLAIN_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


# Threads that stay where they are while their library's own handlers make a fork good without them. That of jemalloc,
# which pyarrow and polars bring, gives memory back: in a fork whoever frees memory does so.
_FORK_BY_THEMSELVES = ("jemalloc_bg_thd",)


class File(NamedTuple):
    """A file that was opened for reading: each fork gets a place in it of its own."""

    descriptor: int
    flags: int


class Before:
    """What there was before user code; what is there now is looked at beside it."""

    def __init__(self) -> None:
        self._generators = random_states.Generators()
        self._temporary = _Temporary()
        self._shared = _shared_memory()
        self._descriptors = _descriptors()
        self._reopened: list[File] = []

    def reason(self) -> str:
        """Why this process cannot be forked; empty: it can."""
        of_generators, of_temporary = self._generators.reason(), self._temporary.reason()
        return (
            _of_threads()
            or _of_children()
            or self._of_descriptors()
            or self._of_memory()
            or _of_timers()
            or of_temporary
            or of_generators
        )

    def has_loop(self) -> bool:
        """Whether there is something by which an event loop waits."""
        return any(_target(number) == "anon_inode:[eventpoll]" for number in _descriptors() - self._descriptors)

    def read_only(self) -> list[File]:
        """Files that each fork is to open again."""
        return self._reopened

    def drawn(self) -> list[Any]:
        """Random generators that are to begin anew in each fork."""
        return self._generators.drawn()

    def _of_descriptors(self) -> str:
        for number in sorted(_descriptors() - self._descriptors):
            target = _target(number)
            if target is None:
                continue
            mode, flags = os.fstat(number).st_mode, _flags(number)
            if flags & os.O_PATH:
                continue  # A name for a place, in which nobody reads.
            if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and flags & os.O_ACCMODE == os.O_RDONLY:
                file = File(number, flags)
                reason = _not_alone(file, target)
                if reason:
                    return reason
                self._reopened.append(file)
            elif target not in _PLAIN_DEVICES:
                return f"{_kind(mode, target)} is open, which forks would share: {target}"
        return ""

    def _of_memory(self) -> str:
        new = _shared_memory() - self._shared
        return "" if not new else f"memory is mapped that forks would share: {min(new)}"


def look() -> Before:
    """To be called before user code."""
    return Before()


class _Temporary:
    """Notes what is made for this process alone: exit handlers of one fork would remove it under the others."""

    def __init__(self) -> None:
        self._made: list[str] = []
        self._originals = tempfile.mkdtemp, tempfile.mkstemp
        made, (mkdtemp, mkstemp) = self._made, self._originals

        @functools.wraps(mkdtemp)
        def directory(*args: Any, **options: Any) -> Any:
            path = mkdtemp(*args, **options)
            made.append(os.fsdecode(path))
            return path

        @functools.wraps(mkstemp)
        def file(*args: Any, **options: Any) -> Any:
            descriptor, path = mkstemp(*args, **options)
            made.append(os.fsdecode(path))
            return descriptor, path

        tempfile.mkdtemp, tempfile.mkstemp = directory, file

    def reason(self) -> str:
        tempfile.mkdtemp, tempfile.mkstemp = self._originals
        left = [path for path in self._made if os.path.exists(path)]  # noqa: PTH110
        # Who has taken the functions while they were ours goes on with them.
        self._made.clear()
        return f"it has made a temporary file or directory, which forks would share: {left[0]}" if left else ""


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
        wait_for(pid)
        others = [name for name in _native_threads() if name not in _FORK_BY_THEMSELVES]
    return f"thread {others[0]} runs" if others else ""


def flush() -> None:
    """Whatever has been printed is written now."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass  # User code has closed it.


def wait_for(child: int) -> None:
    """Waits until a child has ended."""
    try:
        _waitpid(child, 0)
    except ChildProcessError:
        pass  # User code has said that nobody waits for children, or waits for all of them.


def _native_threads() -> list[str]:
    """Names of the other threads; not of those that are ending, which /proc shows for a moment after a join."""
    names = []
    for task in os.listdir("/proc/self/task"):  # noqa: PTH208
        if int(task) == threading.get_native_id():
            continue
        try:
            with open(f"/proc/self/task/{task}/stat") as file:  # noqa: PTH123
                before, _, after = file.read().rpartition(")")
        except OSError:
            continue  # It has ended.
        if not int(after.split()[6]) & _PF_EXITING:
            names.append(before.partition("(")[2])
    return sorted(names)


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


def _not_alone(file: File, target: str) -> str:
    """Why a fork cannot have a file that is read as if it had opened it itself."""
    if target.startswith(f"/proc/{os.getpid()}/"):
        return f"a file that tells of this process is open: {target}"
    with open(f"/proc/self/fdinfo/{file.descriptor}") as info:  # noqa: PTH123
        if any(line.startswith("lock:") for line in info):
            return f"a file is locked, which forks would share: {target}"
    try:
        os.close(open_again(file))
    except OSError as error:
        return f"a file is open, which forks would share, for it cannot be opened again: {target}: {error}"
    return ""


def open_again(file: File) -> int:
    """Another descriptor for the same file, with a place of its own, which is the same."""
    place = os.lseek(file.descriptor, 0, os.SEEK_CUR)
    flags = file.flags & (os.O_ACCMODE | os.O_NONBLOCK | os.O_DIRECTORY)
    descriptor = os.open(f"/proc/self/fd/{file.descriptor}", flags)
    try:
        os.lseek(descriptor, place, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


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
        flush()
        for descriptor in self._descriptors:
            os.set_inheritable(descriptor, True)
        os.execve(self._arguments[0], self._arguments, self._environment)
