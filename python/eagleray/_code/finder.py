"""Serves captured code in a replica, ahead of every other finder.

`__file__`, `__path__` and `spec.origin` are what they were in the driver, so a data file beside a module is found, a
debugger shows the right file, and `importlib.resources` works; only the source comes from the blob. Tracebacks show
the captured lines, not what the file on disk has become.

What was not captured is left to the other finders. If that is a user's own file, a warning names it, once: such a
module is not part of the revision.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import linecache
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from eagleray._code.archive import Archive
from eagleray._code.places import is_installed


class CapturedLoader(importlib.machinery.SourceFileLoader):
    """Loads one captured module; everything else of a file loader (resources, data beside it) is unchanged."""

    def __init__(self, archive: Archive, name: str) -> None:
        super().__init__(name, archive.entries[name].path)
        self._archive = archive

    def get_data(self, path: str) -> bytes:  # type: ignore[override, unused-ignore]
        """The captured source for the module's own path; other paths are read from disk."""
        return self._archive.source(self.name) if path == self.path else super().get_data(path)

    def path_stats(self, path: str) -> dict[str, float]:  # type: ignore[override, unused-ignore]
        """No modification time: cached bytecode on disk belongs to the file on disk, not to the captured source."""
        raise OSError(f"{path} is served from the revision")

    def exec_module(self, module: ModuleType) -> None:
        """Runs the captured source in `module`."""
        # linecache believes the file on disk where there is one; an entry without a modification time is never
        # compared with it.
        source = self._archive.source(self.name)
        lines = importlib.util.decode_source(source).splitlines(keepends=True)
        linecache.cache[self.path] = (len(source), None, lines, self.path)
        super().exec_module(module)


class CapturedFinder:
    """A meta path finder over the modules of one blob."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._warned = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The captured module of this name; None, so that the next finder looks, for any other."""
        entry = self._archive.entries.get(fullname)
        if entry is not None:
            return importlib.util.spec_from_file_location(
                fullname,
                entry.path,
                loader=CapturedLoader(self._archive, fullname),
                submodule_search_locations=[os.path.dirname(entry.path)] if entry.is_package else None,  # noqa: PTH120
            )
        if not self._warned and fullname.partition(".")[0] not in sys.stdlib_module_names:
            self._warn_if_of_the_user(fullname, sys.path if path is None else path)
        return None

    def _warn_if_of_the_user(self, fullname: str, directories: Sequence[str]) -> None:
        stem = fullname.rpartition(".")[2]
        for directory in directories:
            if not isinstance(directory, str) or is_installed(directory):
                continue
            for candidate in (f"{directory}/{stem}.py", f"{directory}/{stem}/__init__.py"):
                if os.path.exists(candidate):  # noqa: PTH110
                    self._warned = True
                    from eagleray.serve._log import logger

                    logger().warning(
                        "module %s is not part of the revision and comes from disk (%s): a replica that starts later "
                        "may get other code. Import it at the top of a module of the application to have it captured",
                        fullname,
                        candidate,
                    )
                    return


def install(path: str) -> None:
    """Puts a finder for the blob at `path` before all others."""
    sys.meta_path.insert(0, CapturedFinder(Archive(path)))  # type: ignore[arg-type, unused-ignore]
