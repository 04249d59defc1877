"""All caches of models of this process: routers are told what is in them, and they are emptied at the end.

Apart from `multiplex`, so that a replica without models does not import that.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from eagleray import _runtime

if TYPE_CHECKING:
    import asyncio

    from eagleray.serve._model_cache import ModelCache

caches: weakref.WeakSet[ModelCache] = weakref.WeakSet()


def tell_routers() -> None:
    """Says which models are here. Does nothing outside a replica."""
    replica = _runtime.replica
    if replica is not None:
        replica.core.set_models(sorted({model_id for cache in caches for model_id in cache.model_ids}))


def has_loader(target: Any) -> bool:
    """Whether a deployed class or function has a loader, so that routers should look for models there."""
    if hasattr(target, "__eagleray_loader__"):
        return True
    return any(hasattr(value, "__eagleray_loader__") for kind in type(target).__mro__ for value in vars(kind).values())


async def unload_all(loop: asyncio.AbstractEventLoop) -> None:
    """Unloads every model of the caches on this loop."""
    for cache in list(caches):
        if cache.loop is loop:
            await cache.unload_all()
