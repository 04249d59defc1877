"""Capture the user's code in the driver, by module name.

What is the user's: every imported module with a source file that is neither the standard library's, nor in a
site-packages directory, nor Eagleray's own. An editable install lies outside site-packages, so it is the user's.
With each such module come the files that its code may import later, inside a function: all ``.py`` files of the
packages that were imported or that import statements name, and those beside a top-level module or beside the script.

All of it counts for a deployment's version, except what the process has imported since it captured first and nothing
names: whoever goes on working in a notebook keeps the replicas.

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
from eagleray._code.places import is_installed, is_user_file

MAX_CODE_BYTES = 100 * 1024 * 1024
"""Sources beyond this are not captured: the application is deployed unsealed, with a warning."""

_SKIPPED_DIRECTORIES = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_IMPORT = re.compile(rb"^[ \t]*(?:import|from)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class File:
    """A captured file, or an extension module.

    Attributes:
        path: Where it is.
        sha256: Of what is in it.
        top: The top-level name that its module is under.
        imports: Top-level names that it imports.
        late: Whether the process had nothing under this name when it captured first.
    """

    path: str
    sha256: str
    top: str
    imports: frozenset[str]
    late: bool


@dataclasses.dataclass(frozen=True)
class Capture:
    """The code of an application.

    Attributes:
        blob: The packed sources; ``None`` when there was more than `MAX_CODE_BYTES`.
        files: Every captured file and extension module, sorted by path.
        warnings: What the user should know, one line each.
    """

    blob: bytes | None
    files: list[File]
    warnings: list[str]

    def needed(self, names: frozenset[str]) -> tuple[list[tuple[str, str]], frozenset[str]]:
        """``(path, sha256)`` of the files that code which names these modules may use, and all names imported there."""
        counted = [file for file in self.files if not file.late]
        late = [file for file in self.files if file.late]
        wanted = names.union(*(file.imports for file in counted))
        while more := [file for file in late if file.top in wanted]:
            counted += more
            late = [file for file in late if file.top not in wanted]
            wanted = wanted.union(*(file.imports for file in more))
        return sorted((file.path, file.sha256) for file in counted), wanted


_first: set[str] = set()
"""Top-level names of what this process captured first."""


def capture(names: frozenset[str] = frozenset()) -> Capture:
    """Read the source of the user's modules, as they are on disk now.

    Args:
        names: Top-level names that are captured too where they are the user's, though they may not be imported: of a
            module whose import failed.

    Returns:
        The capture. A file that cannot be read is named in its warnings and left out, and so comes from disk in
        the replica.
    """
    found: dict[str, tuple[str, bool]] = {}
    extensions: dict[str, tuple[str, str]] = {}
    warnings: list[str] = []
    unread: set[str] = set()
    for name, module in sorted(sys.modules.items()):
        if name != "__main__" and isinstance(module, types.ModuleType):
            _add_loaded(name, module, found, extensions, warnings)
    _add_beside_main(found)
    _add_imported(names, found)
    modules: list[Module] = []
    size = 0
    while left := sorted(found.keys() - {module.name for module in modules} - unread):
        for name in left:
            path, is_package = found[name]
            try:
                source = _read(path)
            except OSError as error:
                unread.add(name)
                warnings.append(f"module {name} is not captured: {error}; replicas load it from disk")
                continue
            size += len(source)
            if size > MAX_CODE_BYTES:
                warnings.append(
                    f"more than {MAX_CODE_BYTES >> 20} MiB of source: deployed unsealed, so replicas load code from "
                    "disk, as it is when they start"
                )
                return Capture(None, _files([], extensions), warnings)
            modules.append(Module(name, path, is_package, source))
            _add_imported(_imports(source), found)
    return Capture(pack(modules), _files(modules, extensions), warnings)


def _imports(source: bytes) -> frozenset[str]:
    return frozenset(match.decode() for match in _IMPORT.findall(source))


def _add_imported(names: frozenset[str], found: dict[str, tuple[str, bool]]) -> None:
    """Those that are the user's, imported or not yet: what is captured must not depend on what ran before."""
    for name in names:
        if name in found or name in sys.stdlib_module_names:
            continue
        for directory in sys.path:
            path = os.path.join(os.path.abspath(directory or "."), name)  # noqa: PTH100, PTH118
            if os.path.isfile(f"{path}/__init__.py"):  # noqa: PTH113
                if not is_installed(path):
                    _add_package(name, path, found)
                break
            if os.path.isfile(f"{path}.py"):  # noqa: PTH113
                if is_user_file(f"{path}.py") and f"{path}.py" != _main_file():
                    found[name] = (f"{path}.py", False)
                break


def _files(modules: list[Module], extensions: dict[str, tuple[str, str]]) -> list[File]:
    if not _first:
        _first.update(module.name.partition(".")[0] for module in modules)
        _first.update(name.partition(".")[0] for name, _ in extensions.values())
        _first.add("")
    files = [_file(path, sha256, name, frozenset()) for path, (name, sha256) in extensions.items()]
    for module in modules:
        files.append(
            _file(module.path, hashlib.sha256(module.source).hexdigest(), module.name, _imports(module.source))
        )
    return sorted(files, key=lambda file: file.path)


def _file(path: str, sha256: str, name: str, imports: frozenset[str]) -> File:
    top = name.partition(".")[0]
    return File(path, sha256, top, imports, top not in _first)


def _add_loaded(
    name: str,
    module: types.ModuleType,
    found: dict[str, tuple[str, bool]],
    extensions: dict[str, tuple[str, str]],
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
                extensions[origin] = name, hashlib.sha256(_read(origin)).hexdigest()
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
    """Versions of the installed packages behind some top-level module names, imported or not.

    Args:
        names: Module names. Those of the standard library, of the user's code, and unknown ones are left out.

    Returns:
        Name to version, sorted. A package whose metadata is under another name is known by the size and the time of its
        first file, and by its directory.
    """
    wanted = sorted(name for name in names if name not in sys.stdlib_module_names)
    known = installed_distributions() if wanted else {}
    versions = {name: _version(name, known) for name in wanted}
    return {name: version for name, version in versions.items() if version}


def _version(name: str, known: dict[str, str]) -> str:
    version = known.get(name.lower().replace("_", "-"), "")
    for directory in sys.path:
        for file in (f"{directory or '.'}/{name}/__init__.py", f"{directory or '.'}/{name}.py"):
            try:
                found = os.stat(file)  # noqa: PTH116
            except OSError:
                continue
            is_of_the_user = not is_installed(os.path.abspath(directory or "."))  # noqa: PTH100
            return "" if is_of_the_user else version or f"{file} {found.st_size} {found.st_mtime_ns}"
    return version


def installed_distributions(path: list[str] | None = None) -> dict[str, str]:
    """Name to version of what is installed where `path` looks, by default `sys.path`."""
    # The names of the metadata directories hold all that is wanted; reading them through importlib.metadata takes
    # a hundred times as long, in the start of every script.
    versions: dict[str, str] = {}
    for directory in reversed(sys.path if path is None else path):
        try:
            entries = os.listdir(directory or ".")  # noqa: PTH208
        except OSError:
            continue
        for entry in entries:
            if entry.endswith(".dist-info"):
                name, _, version = entry.removesuffix(".dist-info").rpartition("-")
                versions[name.lower().replace("_", "-")] = version
    return versions
