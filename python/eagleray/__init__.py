"""Eagleray serves machine-learning models behind HTTP.

The public surface is `eagleray.serve`, which mirrors `ray.serve`. Nothing is imported here: a replica and a script
that only reads the version pay for no more than they use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eagleray import serve

__version__ = "0.1.0"
__all__ = ["__version__", "serve"]


def __getattr__(name: str) -> Any:
    if name == "serve":
        return importlib.import_module("eagleray.serve")
    raise AttributeError(f"module 'eagleray' has no attribute {name!r}")
