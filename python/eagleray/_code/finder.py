"""Serve captured code in a replica, ahead of every other finder.

``__file__``, ``__path__`` and ``spec.origin`` are what they were in the driver, so a data file beside a module is
found, a debugger shows the right file, and ``importlib.resources`` works; only the source comes from the blob.
Tracebacks show the captured lines, not what the file on disk has become.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import linecache
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from eagleray._code.archive import Module, unpack
from eagleray._code.capture import is_user_file

logger = logging.getLogger("eagleray.serve")


class CapturedLoader(importlib.machinery.SourceFileLoader):
    """Loads one captured module; everything else of a file loader (resources, data beside it) is unchanged."""

    def __init__(self, module: Module) -> None:
        super().__init__(module.name, module.path)
        self._source = module.source

    def get_data(self, path: str) -> bytes:
        """The captured source for the module's own path; other paths are read from disk."""
        return self._source if path == self.path else super().get_data(path)

    def path_stats(self, path: str) -> dict[str, float]:
        """No modification time: cached bytecode on disk belongs to the file on disk, not to the captured source."""
        raise OSError(f"{path} is served from the revision")

    def exec_module(self, module: ModuleType) -> None:
        """Run the captured source in `module`."""
        # An entry without a modification time is never checked against the disk again.
        lines = importlib.util.decode_source(self._source).splitlines(keepends=True)
        linecache.cache[self.path] = (len(self._source), None, lines, self.path)
        super().exec_module(module)


class CapturedFinder:
    """A meta path finder over the modules of one blob."""

    def __init__(self, modules: list[Module]) -> None:
        self._modules = {module.name: module for module in modules}
        self._warned = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a captured module; for any other, look on disk and warn once if it is the user's code."""
        module = self._modules.get(name)
        if module is not None:
            return importlib.util.spec_from_file_location(
                name,
                module.path,
                loader=CapturedLoader(module),
                submodule_search_locations=[os.path.dirname(module.path)] if module.is_package else None,  # noqa: PTH120
            )
        if self._warned or name.partition(".")[0] in sys.stdlib_module_names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin and spec.origin.endswith(".py") and is_user_file(spec.origin):
            self._warned = True
            logger.warning(
                "module %s is not part of the revision and comes from disk (%s): a replica that starts later may get "
                "other code. Import it at the top of a module of the application to have it captured.",
                name,
                spec.origin,
            )
        return spec


def install(path: str) -> None:
    """Serve the code blob at `path` from now on.

    Args:
        path: The blob's file. Empty: nothing was captured, and code comes from disk.

    Raises:
        OSError: the blob cannot be read.
        ValueError: the blob is cut or of another format.
    """
    if path:
        sys.meta_path.insert(0, CapturedFinder(unpack(Path(path).read_bytes())))  # type: ignore[arg-type]
