"""Capture the user's code in the driver, by module name.

What is the user's: every imported module with a source file that is neither the standard library's, nor in a
site-packages directory, nor Eagleray's own. An editable install lies outside site-packages, so it is the user's.
With each such module come the files that its code may import later, inside a function: all ``.py`` files of the
packages that were imported, and those beside a top-level module or beside the script.

Data files, namespace packages and extension modules stay where they are; extension modules are hashed, so that a
rebuilt one is a new version.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import sys
import types

from eagleray._code.archive import Module, pack
from eagleray._code.places import is_user_file

MAX_CODE_BYTES = 100 * 1024 * 1024
"""Sources beyond this are not captured: the application is deployed unsealed, with a warning."""

_SKIPPED_DIRECTORIES = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_IMPORT = re.compile(rb"^[ \t]*(?:import|from)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Capture:
    """The code of an application.

    Attributes:
        blob: The packed sources; ``None`` when there was more than `MAX_CODE_BYTES`.
        files: ``(path, sha256)`` of every captured file and extension module, sorted.
        imports: Top-level names that the captured sources import.
        warnings: What the user should know, one line each.
    """

    blob: bytes | None
    files: list[tuple[str, str]]
    imports: frozenset[str]
    warnings: list[str]


def capture() -> Capture:
    """Read the source of the user's modules, as they are on disk now.

    Returns:
        The capture. A file that cannot be read is named in its warnings and left out, and so comes from disk in
        the replica.
    """
    found: dict[str, tuple[str, bool]] = {}
    extensions: dict[str, str] = {}
    warnings: list[str] = []
    for name, module in sorted(sys.modules.items()):
        if name != "__main__" and isinstance(module, types.ModuleType):
            _add_loaded(name, module, found, extensions, warnings)
    _add_beside_main(found)
    modules, size = [], 0
    for name, (path, is_package) in sorted(found.items()):
        try:
            source = _read(path)
        except OSError as error:
            warnings.append(f"module {name} is not captured: {error}; replicas load it from disk")
            continue
        size += len(source)
        if size > MAX_CODE_BYTES:
            warnings.append(
                f"more than {MAX_CODE_BYTES >> 20} MiB of source: deployed unsealed, so replicas load code from disk, "
                "as it is when they start"
            )
            return Capture(None, sorted(extensions.items()), frozenset(), warnings)
        modules.append(Module(name, path, is_package, source))
    files = [(module.path, hashlib.sha256(module.source).hexdigest()) for module in modules]
    imports = frozenset(match.decode() for module in modules for match in _IMPORT.findall(module.source))
    return Capture(pack(modules), sorted(files + list(extensions.items())), imports, warnings)


def _add_loaded(
    name: str,
    module: types.ModuleType,
    found: dict[str, tuple[str, bool]],
    extensions: dict[str, str],
    warnings: list[str],
) -> None:
    spec = getattr(module, "__spec__", None)
    origin = getattr(module, "__file__", None) or getattr(spec, "origin", None)
    if not isinstance(origin, str) or spec is None or spec.name != name:
        return
    origin = os.path.abspath(origin)  # noqa: PTH100 - the name that `__file__` has, links not followed
    if not is_user_file(origin):
        return
    if not origin.endswith(".py"):
        if origin.endswith((".so", ".pyd")):
            try:
                extensions[origin] = hashlib.sha256(_read(origin)).hexdigest()
            except OSError as error:
                warnings.append(f"extension module {name} cannot be hashed: {error}")
        return
    is_package = getattr(module, "__path__", None) is not None
    found[name] = (origin, is_package)
    directory = os.path.dirname(origin)  # noqa: PTH120
    if is_package:
        _add_package(name, directory, found)
    elif "." not in name:
        _add_siblings(directory, found)


def _add_package(name: str, directory: str, found: dict[str, tuple[str, bool]]) -> None:
    main = _main_file()
    for base, directories, files in os.walk(directory):
        directories[:] = sorted(d for d in directories if d.isidentifier() and d not in _SKIPPED_DIRECTORIES)
        inner = os.path.relpath(base, directory).split(os.sep) if base != directory else []  # noqa: PTH206
        if inner and "__init__.py" not in files:
            directories.clear()
            continue
        for file in sorted(files):
            stem, extension = os.path.splitext(file)  # noqa: PTH122
            path = os.path.join(base, file)  # noqa: PTH118
            if extension == ".py" and stem.isidentifier() and path != main:
                is_package = stem == "__init__"
                parts = (name, *inner) if is_package else (name, *inner, stem)
                found.setdefault(".".join(parts), (path, is_package))


def _add_siblings(directory: str, found: dict[str, tuple[str, bool]]) -> None:
    main = _main_file()
    try:
        entries = sorted(os.listdir(directory))  # noqa: PTH208
    except OSError:
        return
    for entry in entries:
        stem, extension = os.path.splitext(entry)  # noqa: PTH122
        path = os.path.join(directory, entry)  # noqa: PTH118
        if extension == ".py" and stem.isidentifier() and path != main and os.path.isfile(path):  # noqa: PTH113
            found.setdefault(stem, (path, False))


def _add_beside_main(found: dict[str, tuple[str, bool]]) -> None:
    # The script itself travels by value, so an edit of it rolls only the deployments whose code it changes.
    main = _main_file()
    directory = os.path.dirname(main)  # noqa: PTH120
    if main and directory in {os.path.abspath(entry or ".") for entry in sys.path}:  # noqa: PTH100
        _add_siblings(directory, found)


def _main_file() -> str:
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.abspath(path) if isinstance(path, str) and is_user_file(path) else ""  # noqa: PTH100


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def package_versions(names: set[str] | frozenset[str]) -> dict[str, str]:
    """Versions of the installed packages behind some top-level module names.

    Args:
        names: Module names. Those of the standard library, of the user's code, and unknown ones are left out.

    Returns:
        Name to version, sorted. A package without metadata is named with its module's ``__version__``.
    """
    wanted = {
        name
        for name in names
        if name not in sys.stdlib_module_names and name in sys.modules and _is_installed(sys.modules[name])
    }
    versions: dict[str, str] = {}
    if wanted:
        known = _installed_distributions()
        for name in sorted(wanted):
            version = known.get(name.lower().replace("_", "-"))
            versions[name] = version or str(getattr(sys.modules[name], "__version__", "unknown"))
    return versions


def _is_installed(module: types.ModuleType) -> bool:
    origin = getattr(module, "__file__", None)
    return isinstance(origin, str) and not is_user_file(origin)


def _installed_distributions() -> dict[str, str]:
    # The names of the metadata directories hold all that is wanted; reading them through importlib.metadata takes
    # a hundred times as long, in the start of every script.
    versions: dict[str, str] = {}
    for directory in reversed(sys.path):
        try:
            entries = os.listdir(directory or ".")  # noqa: PTH208
        except OSError:
            continue
        for entry in entries:
            if entry.endswith(".dist-info"):
                name, _, version = entry.removesuffix(".dist-info").rpartition("-")
                versions[name.lower().replace("_", "-")] = version
    return versions
