"""Which files are no longer as they were loaded: asked again and again, by `stat`, never told by the kernel.

A change is a content that has another hash than the one that was loaded: a file that was only touched, or written with
what it had, is none. Editors that write beside and rename, links that point elsewhere, a directory that is moved away
and comes back and network file systems then need no code of their own, which they all would with inotify; what is paid
for that is `MOST_OF_A_CORE` of a core, and the interval.

A new module beside those that were loaded is a change too: an import that failed may find it now.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping

#: Between two looks, however few files there are.
LEAST_INTERVAL_S = 0.05
#: Between two looks, however many there are.
MOST_INTERVAL_S = 1.0
#: What looking may take.
MOST_OF_A_CORE = 0.04
#: A file that was written so lately may be written again without another time or size: file systems count in ticks.
TICK_NS = 2_000_000_000

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})

#: What `stat` tells of a content: when the file was changed, which no program can set; how long; which file it is.
_Facts = tuple[int, int, int]


class _File:
    """A file of what was loaded."""

    __slots__ = ("facts", "found", "loaded")

    def __init__(self, loaded: str) -> None:
        self.loaded = loaded  # the hash of what was loaded; empty: there was none
        self.found = loaded
        self.facts: _Facts | None = None  # None: look into it, whatever `stat` says


class _Directory:
    """A directory with modules."""

    __slots__ = ("facts", "inner", "names")

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self.inner: list[str] = []
        self.facts: tuple[_Facts | None, ...] = ()


class Watcher:
    """Watches files, and directories for modules that are new in them."""

    def __init__(self, directories: Iterable[str]) -> None:
        self._files: dict[str, _File] = {}
        self._directories: dict[str, _Directory] = {}
        self._new: set[str] = set()
        self.interval_s = LEAST_INTERVAL_S
        for directory in directories:
            self._add_directory(directory)

    def follow(self, files: Mapping[str, str]) -> None:
        """These were loaded, with contents of these hashes (SHA-256 in hexadecimal)."""
        for path, loaded in files.items():
            self._files[path] = _File(loaded)
            self._add_directory(os.path.dirname(path))  # noqa: PTH120
        self._new -= files.keys()

    def follow_modules(self, directory: str, target: str) -> frozenset[str]:
        """Follows what a load reads in any case, where nobody knows what it has read: the modules of a directory, and
        of the package in it that `target` is in.
        """
        found = {f"{directory}/{name}" for name in _modules(directory)[0]}
        for base, _, names in os.walk(f"{directory}/{target.replace(':', '.').partition('.')[0]}"):
            found |= {f"{base}/{name}" for name in names if name.endswith(".py")}
        self.follow({path: _hash(path) for path in found})
        return frozenset(found)

    def forget_gone(self) -> None:
        """Forgets files that are neither there nor loaded; where their directory is there, they are new once back."""
        for path, file in list(self._files.items()):
            known = self._directories.get(os.path.dirname(path))  # noqa: PTH120
            if not file.loaded and not file.found and (known is None or known.facts[:1] != (None,)):
                del self._files[path]

    def look(self) -> dict[str, str]:
        """The hash of what is there now, of all that is not as it was loaded; empty where nothing is."""
        began = time.perf_counter()
        for path, directory in list(self._directories.items()):
            self._look_into(path, directory)
        changed = {path: file.found for path, file in self._files.items() if _differs(path, file)}
        changed.update((path, "new") for path in self._new)
        took = time.perf_counter() - began
        self.interval_s = min(max(took / MOST_OF_A_CORE, LEAST_INTERVAL_S), MOST_INTERVAL_S)
        return changed

    def accept(self) -> None:
        """What the last look found is loaded from here on."""
        for file in self._files.values():
            file.loaded = file.found
        self._new.clear()

    def _add_directory(self, path: str) -> None:
        if path not in self._directories:
            self._directories[path] = directory = _Directory()
            self._look_into(path, directory)
            self._new -= {f"{path}/{name}" for name in directory.names}

    def _look_into(self, path: str, directory: _Directory) -> None:
        facts = tuple(_facts(one) for one in (path, *directory.inner))
        if facts == directory.facts:
            return
        names, directory.inner = _modules(path)
        appeared = {f"{path}/{name}" for name in names - directory.names}
        self._new |= appeared - self._files.keys()
        self._new -= {f"{path}/{name}" for name in directory.names - names}
        directory.names = names
        after = tuple(_facts(one) for one in (path, *directory.inner))
        # Taken anew when it is old enough, for two changes may have one time.
        directory.facts = () if any(_is_fresh(one) for one in after) else after


def _differs(path: str, file: _File) -> bool:
    facts = _facts(path)
    if facts is None:
        file.found, file.facts = "", None
    elif facts != file.facts:
        file.found = _hash(path)
        file.facts = None if _is_fresh(facts) else facts
    return file.found != file.loaded


def _facts(path: str) -> _Facts | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a link's target: it is that which is imported
    except OSError:
        return None
    return found.st_ctime_ns, found.st_size, found.st_ino


def _is_fresh(facts: _Facts | None) -> bool:
    return facts is not None and time.time_ns() - facts[0] < TICK_NS


def _hash(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""  # as if it were not there: it cannot be imported either


def _modules(path: str) -> tuple[frozenset[str], list[str]]:
    """Files of modules in a directory and of packages right below it, and the directories that may become some."""
    names, inner = set(), []
    try:
        entries = list(os.scandir(path))
    except OSError:
        return frozenset(), []
    for entry in entries:
        stem, extension = os.path.splitext(entry.name)  # noqa: PTH122
        if extension == ".py" and stem.isidentifier():
            names.add(entry.name)
        elif entry.name.isidentifier() and entry.name not in _SKIPPED and _is_directory(entry):
            inner.append(entry.path)
            if os.path.exists(f"{entry.path}/__init__.py"):  # noqa: PTH110
                names.add(f"{entry.name}/__init__.py")
    return frozenset(names), sorted(inner)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
