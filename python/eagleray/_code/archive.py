"""The code blob: one JSON line that says what is inside, then the sources, end to end.

The same files give the same bytes: modules are sorted by name, and nothing of the machine's clock or of file
metadata goes in. Reading a blob runs nothing, and nothing is compressed: a replica that imports three modules of a
thousand reads three.
"""

from __future__ import annotations

import json
from typing import NamedTuple

FORMAT = 1


class Module(NamedTuple):
    """A captured module, with the bytes of its file in whatever encoding it declares."""

    name: str
    path: str
    is_package: bool
    source: bytes


class Entry(NamedTuple):
    """Where a module lies in a blob."""

    path: str
    is_package: bool
    offset: int
    length: int


def pack(modules: list[Module]) -> bytes:
    """Encodes modules as one blob."""
    modules = sorted(modules)
    table = [[module.name, module.path, module.is_package, len(module.source)] for module in modules]
    line = json.dumps({"format": FORMAT, "modules": table}, separators=(",", ":"), sort_keys=True).encode()
    return b"".join([line, b"\n", *(module.source for module in modules)])


class Archive:
    """A blob on disk: its table in memory, sources read when asked for."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, "rb") as file:  # noqa: PTH123 - replicas start without pathlib
            line = file.readline()
            size = file.seek(0, 2)
        if not line.endswith(b"\n"):
            raise ValueError(f"the code blob {path} is cut: its first line has no end")
        header = json.loads(line)
        if header.get("format") != FORMAT:
            raise ValueError(f"the code blob {path} has format {header.get('format')!r}, this release reads {FORMAT}")
        self.entries: dict[str, Entry] = {}
        offset = len(line)
        for name, origin, is_package, length in header["modules"]:
            self.entries[name] = Entry(origin, is_package, offset, length)
            offset += length
        if offset != size:
            raise ValueError(f"the code blob {path} is cut: {size} bytes of {offset}")

    def source(self, name: str) -> bytes:
        """The module's source as it was captured."""
        entry = self.entries[name]
        with open(self.path, "rb") as file:  # noqa: PTH123
            file.seek(entry.offset)
            return file.read(entry.length)
