"""What the last good build of an application has read, so that the next need not import what is as it was.

A build is a function of: the config with its args, the directory, the search path, the interpreter, the environment,
the versions of what is installed and when something was installed last, and the files that were captured. Beside the
files stand the lists of what is next to them, since a new file may be one that is imported. If all are as they were, so
is the result, which is kept too.

What is not seen is data: a file that a module reads while it is imported. `rebuild` is for that. Code that was too much
to be captured is always imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from eagleray import __version__
from eagleray._code import capture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eagleray._driver import build

#: Applications of which it is kept, those built last.
_MOST_KEPT = 64
_FORMAT = 1


class LastBuild:
    """The record of one application, in a file beside the blobs. All of it may be gone at any time."""

    def __init__(
        self, asked: dict[str, Any], path: list[str] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Looks for it.

        Args:
            asked: what the build is asked to do.
            path: the search path that it begins with, by default `sys.path`.
            environment: its variables, by default those of this process.
        """
        path = sys.path if path is None else path
        environment = os.environ if environment is None else environment
        self._directory = os.path.join(os.path.dirname(asked["blobs"]), "builds")  # noqa: PTH118, PTH120
        name = hashlib.sha256(asked["application"].encode()).hexdigest()[:32]
        self._path = f"{self._directory}/{name}.json"
        self._blobs = asked["blobs"]
        self._packages = _hash([capture.installed_distributions(path), _installed_at(path)])
        own = {name: value for name, value in environment.items() if not name.startswith(("EAGLERAY_", "SPT_"))}
        self._key = _hash([
            asked["application"], asked["config"], asked["app_directory"], asked["environment"], own,
            path, sys.executable, sys.version, __version__,
        ])  # fmt: skip

    def find(self) -> tuple[dict[str, Any], list[str]] | None:
        """The specification and the warnings of the last build, if one now would give the same."""
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123
                kept = json.load(file)
            if kept["format"] != _FORMAT or kept["key"] != self._key:
                return None
            files = kept["files"]
            if kept["packages"] != self._packages or kept["beside"] != _beside(files):
                return None
            if any(_sum(path) != sha256 for path, sha256 in files.items()):
                return None
            spec: dict[str, Any] = kept["spec"]
            for blob in _blobs_of(spec):
                # The controller leaves a file that somebody has just come for.
                os.utime(f"{self._blobs}/{blob}")
            return spec, list(kept["warnings"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep(self, built: build.Built) -> None:
        """Keeps what a build has read. One that cannot be kept is built again next time."""
        if not built.spec["code_blob"]:
            return
        files = {file["path"]: file["sha256"] for file in built.spec["code_files"]}
        record = {
            "format": _FORMAT,
            "key": self._key,
            "files": files,
            "beside": _beside(files),
            "packages": self._packages,
            "spec": built.spec,
            "warnings": built.warnings,
        }
        temporary = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)  # noqa: PTH103
            with open(temporary, "w", opener=_private, encoding="utf-8") as file:
                json.dump(record, file)
            os.replace(temporary, self._path)  # noqa: PTH105
            self._forget_others()
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108

    def _forget_others(self) -> None:
        found = [entry for entry in os.scandir(self._directory) if entry.is_file()]
        found.sort(key=lambda entry: entry.stat().st_mtime)
        for entry in found[:-_MOST_KEPT]:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)  # noqa: PTH108


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _blobs_of(spec: dict[str, Any]) -> list[str]:
    of_deployments = [
        one[key] for one in spec["deployments"] for key in ("callable_blob", "policy_blob") if one.get(key)
    ]
    return [spec["code_blob"], *of_deployments]


def _beside(files: dict[str, str]) -> dict[str, str]:
    """By directory that has a captured file: a hash over what may be imported from there."""
    directories = sorted({os.path.dirname(path) for path in files})  # noqa: PTH120
    return {directory: _hash(_importable(directory)) for directory in directories}


def _installed_at(path: list[str]) -> dict[str, int]:
    """When something was last installed or removed, by directory: a package may come anew in the same version."""
    found = {}
    for directory in path:
        if os.path.basename(directory) in {"site-packages", "dist-packages"}:  # noqa: PTH119
            with contextlib.suppress(OSError):
                found[directory] = os.stat(directory).st_mtime_ns  # noqa: PTH116
    return found


def _importable(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.name.endswith((".py", ".so"))
                or (entry.name.isidentifier() and entry.is_dir() and entry.name != "__pycache__")
            )
    except OSError:
        return ["<gone>"]


def _sum(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
