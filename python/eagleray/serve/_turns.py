"""What a replica's event loop does in one turn: requests that go on together send together.

A send wakes another process, which costs more than the rest of it. So whoever tells several waiting requests to go on
says so, and what they send until the end of the next turn, answers and calls, leaves in few sends. Nothing waits for
long: the native replica looks after it within a millisecond if user code blocks the loop meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from eagleray import _core


def replica() -> _core.Replica | None:
    """The native replica of this process; None: it is no replica."""
    # Only a replica has imported it.
    context = sys.modules.get("eagleray._replica.context")
    return None if context is None else context.core


def together_on(loop: asyncio.AbstractEventLoop) -> Callable[[int], None]:
    """What to call, with their number, after requests on `loop` have been told to go on."""
    context = sys.modules.get("eagleray._replica.context")
    if context is None or context.core is None or context.loop is not loop:
        return lambda count: None
    return context.go_on_together  # type: ignore[no-any-return]
