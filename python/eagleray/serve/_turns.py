"""What a replica's event loop does in one turn: requests that go on together send together.

A send wakes another process, which costs more than the rest of it. So whoever tells several waiting requests to go on
says so, and what they send until the end of the next turn, answers and calls, leaves in few sends. Nothing waits for
long: the native replica looks after it within a millisecond if user code blocks the loop meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from eagleray import _runtime

if TYPE_CHECKING:
    import asyncio


def together_on(loop: asyncio.AbstractEventLoop) -> Callable[[int], None]:
    """What to call, with their number, after requests on `loop` have been told to go on."""
    replica = _runtime.replica
    if replica is None or replica.loop is not loop:
        return lambda count: None
    core = replica.core

    def go_on_together(count: int) -> None:
        if count > 1:
            core.begin_batch(count)
            # After the first step of each of them.
            loop.call_soon(core.flush)

    return go_on_together
