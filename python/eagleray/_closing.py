"""Where a GeneratorExit comes from.

The interpreter raises one in a coroutine that is closed, since its task was collected or its loop has ended: nothing
may be awaited then, and it must go on up. Code that runs may raise one too, and that is an error like any other.
"""

from __future__ import annotations

import asyncio
from typing import Any


def is_closed(task: Any) -> bool:
    """Whether a GeneratorExit means that the coroutine of `task` is closed: then something else runs now, or nothing.

    None: the coroutine was never suspended, so nobody can have closed it.
    """
    if task is None:
        return False
    try:
        return asyncio.current_task() is not task
    except RuntimeError:
        return True
