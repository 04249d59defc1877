"""Whose file is it: the user's own, or an installed one, which changes by installation only."""

from __future__ import annotations

import functools
import os
import sys

_OWN_DIRECTORY = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120


@functools.cache
def _library_directories() -> tuple[str, ...]:
    stdlib = os.path.dirname(os.path.realpath(os.__file__))  # noqa: PTH120
    found = {stdlib, f"{sys.prefix}/lib/{os.path.basename(stdlib)}", _OWN_DIRECTORY}  # noqa: PTH119
    return tuple(sorted(path + os.sep for path in found))


@functools.cache
def is_installed(directory: str) -> bool:
    """Whether modules in `directory` are the standard library's, installed packages or Eagleray's own.

    An editable install lies where its author works, so it is the user's.
    """
    real = os.path.realpath(directory) + os.sep
    if f"{os.sep}site-packages{os.sep}" in real or f"{os.sep}dist-packages{os.sep}" in real:
        return True
    return real.endswith(f".zip{os.sep}") or real.startswith(_library_directories())


def is_user_file(path: str) -> bool:
    """Whether a module's file is the user's own code."""
    return not is_installed(os.path.dirname(path))  # noqa: PTH120
