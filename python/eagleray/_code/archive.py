"""The code blob: one JSON line that says what is inside, then the sources, end to end.

The same files give the same bytes: modules are sorted by name, and nothing of the machine's clock or of file
metadata goes in. Data only; reading a blob runs nothing.
"""

from __future__ import annotations

import dataclasses
import json

FORMAT = 1


@dataclasses.dataclass(frozen=True, order=True)
class Module:
    """A captured module.

    Attributes:
        name: Full dotted name.
        path: The file it was read from: its ``__file__``, in the replica too.
        is_package: Whether the file is a package's ``__init__.py``.
        source: The bytes of the file, in whatever encoding it declares.
    """

    name: str
    path: str
    is_package: bool
    source: bytes


def pack(modules: list[Module], extensions: dict[str, str]) -> bytes:
    """Encode modules, and the SHA-256 of each extension module (which stays on disk), as one blob."""
    modules = sorted(modules)
    table = [
        {"name": module.name, "path": module.path, "package": module.is_package, "length": len(module.source)}
        for module in modules
    ]
    header = {"format": FORMAT, "modules": table, "extensions": dict(sorted(extensions.items()))}
    line = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    return b"".join([line, b"\n", *(module.source for module in modules)])


def unpack(blob: bytes) -> list[Module]:
    """Decode a blob.

    Raises:
        ValueError: the blob is cut, or of a format that this release does not read.
    """
    line, separator, sources = blob.partition(b"\n")
    if not separator:
        raise ValueError("the code blob is cut: its first line has no end")
    header = json.loads(line)
    if header.get("format") != FORMAT:
        raise ValueError(f"the code blob has format {header.get('format')!r}, this release reads {FORMAT}")
    modules = []
    offset = 0
    for entry in header["modules"]:
        end = offset + entry["length"]
        if end > len(sources):
            raise ValueError(f"the code blob is cut inside module {entry['name']}")
        modules.append(Module(entry["name"], entry["path"], entry["package"], sources[offset:end]))
        offset = end
    return modules
