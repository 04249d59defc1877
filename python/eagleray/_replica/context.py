"""Of the replica what public modules need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eagleray._request import current

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from eagleray import _core

# Set by the lifecycle: the native replica, the loop that async user code runs on, and how many requests may run at a
# time (0: not known).
core: _core.Replica | None = None
loop: asyncio.AbstractEventLoop | None = None
max_ongoing_requests = 0
# Tells routers which multiplexed models are here.
tell_models: Callable[[list[str]], None] | None = None


def request_id() -> str:
    """The id of the request that this code serves; empty outside of one."""
    request = current.get()
    return "" if request is None else request.request_id


def go_on_together(count: int) -> None:
    """So many requests have been told to go on, in the next turn of `loop`: what they send leaves together."""
    if core is not None and loop is not None and count > 1:
        core.begin_batch(count)
        # After the first step of each of them.
        loop.call_soon(core.flush)
