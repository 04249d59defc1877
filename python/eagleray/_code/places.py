"""Whose file is it: the standard library's, an installed package's, or the user's own."""

from __future__ import annotations

import functools
import os
import sysconfig


@functools.cache
def _library_directories() -> tuple[str, ...]:
    found = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    found |= {os.path.realpath(path) for path in found if path}  # noqa: PTH118
    found |= {os.path.dirname(os.path.realpath(os.__file__))}  # noqa: PTH120
    return tuple(sorted(f"{path}{os.sep}" for path in found if path))


_OWN_DIRECTORY = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120


@functools.cache
def is_installed(directory: str) -> bool:
    """Whether modules in `directory` are installed ones, rather than the user's: they change by installation only."""
    directory = os.path.abspath(directory)  # noqa: PTH100
    parts = directory.split(os.sep)
    if "site-packages" in parts or "dist-packages" in parts:
        return True
    if directory.endswith(".zip") or not directory.startswith(os.sep):
        return True
    if f"{directory}{os.sep}".startswith(_library_directories()):
        return True
    if (os.path.realpath(directory) + os.sep).startswith(_OWN_DIRECTORY + os.sep):
        return True
    return _holds_installed_packages(directory)


@functools.cache
def _holds_installed_packages(directory: str) -> bool:
    """`pip install --target DIRECTORY` leaves `NAME.dist-info` beside the packages."""
    while len(directory) > 1:
        try:
            with os.scandir(directory) as entries:
                if any(entry.name.endswith(".dist-info") for entry in entries):
                    return True
        except OSError:
            return False
        if not os.path.exists(os.path.join(directory, "__init__.py")):  # noqa: PTH110, PTH118
            return False
        directory = os.path.dirname(directory)  # noqa: PTH120
    return False

