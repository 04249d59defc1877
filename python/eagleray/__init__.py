"""Eagleray serves machine-learning models behind HTTP.

The public surface is `eagleray.serve`, which mirrors `ray.serve`. Nothing is imported here: a replica and a script
that only reads the version pay for no more than they use. `import eagleray as ray` has the names that programs use
around `serve` (`_beside_ray`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eagleray import exceptions, serve
    from eagleray._beside_ray import init, is_initialized, shutdown

__version__ = "0.1.0"
__all__ = ["__version__", "exceptions", "init", "is_initialized", "serve", "shutdown"]


def __getattr__(name: str) -> Any:
    if name in ("serve", "exceptions"):
        return importlib.import_module(f"eagleray.{name}")
    if name.startswith("_"):  # of tools that look what an object is, and of our own imports
        raise AttributeError(f"module 'eagleray' has no attribute {name!r}")
    from eagleray import _beside_ray

    if name in _beside_ray.NAMES:
        return getattr(_beside_ray, name)
    raise _beside_ray.missing(name)
