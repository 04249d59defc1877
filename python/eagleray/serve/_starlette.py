"""`import starlette` alone, and then `starlette.requests.Request`: the way guides of Ray Serve write annotations.

There it works because Ray Serve itself has imported those modules. Importing them takes longer than all of Eagleray, so
here they are imported when they are first named.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = frozenset({
    "applications", "background", "concurrency", "convertors", "datastructures", "exceptions", "formparsers",
    "middleware", "requests", "responses", "routing", "staticfiles", "status", "types", "websockets",
})  # fmt: skip


def import_later() -> None:
    """From now on the modules of Starlette that Ray Serve imports are there once `starlette` is imported."""
    import starlette

    vars(starlette).setdefault("__getattr__", _module)


def _module(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"starlette.{name}")
    raise AttributeError(f"module 'starlette' has no attribute {name!r}")
