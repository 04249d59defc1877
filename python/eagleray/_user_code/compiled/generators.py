"""Async dependencies with `yield`, entered with less around them than FastAPI puts there.

What FastAPI means by it is kept. While such a dependency is left, a cancellation of the request waits: one cancel scope
a request, entered before the first of them, is shielded meanwhile. What is thrown into the generator, what it may
swallow and what is said when it does not stop is the standard library's, whose context manager this is.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, _AsyncGeneratorContextManager
from types import TracebackType
from typing import Any

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

from eagleray._user_code.compiled.run import Run

# Where FastAPI keeps the scopes: those of one request stack are shared with whatever it enters itself.
_KEY = "fastapi_async_cleanup_scopes"


class _Entered(_AsyncGeneratorContextManager[Any]):
    """A generator whose exit is shielded."""

    _scope: CancelScope
    _was_shielded: bool

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        scope = self._scope
        scope.shield = True
        try:
            swallowed = await super().__aexit__(kind, error, trace)
        finally:
            scope.shield = self._was_shielded
        if error is None or swallowed:
            # A task group can have swallowed a cancellation while its parent was shielded.
            await checkpoint_if_cancelled()
        return swallowed


async def enter(run: Run, call: Any, values: dict[str, Any], stack: AsyncExitStack) -> Any:
    """Enters the generator that `call` makes; `stack` leaves it."""
    entered = _Entered(call, (), values)
    entered._scope = scope = _cleanup_scope(run)
    entered._was_shielded = scope.shield
    return await stack.enter_async_context(entered)


def _cleanup_scope(run: Run) -> CancelScope:
    scopes: dict[AsyncExitStack, CancelScope] = run.scope.setdefault(_KEY, {})
    stack, _ = run.stacks()
    found = scopes.get(stack)
    if found is None:
        found = scopes[stack] = stack.enter_context(CancelScope())
        stack.callback(scopes.pop, stack)
    return found
