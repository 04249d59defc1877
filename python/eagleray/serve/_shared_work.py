"""Work that is done for several requests at once: a batch, the load of a model. It belongs to none of them."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from eagleray._request import current, given

# Inside such work: its model, and the task that does it.
_work: ContextVar[tuple[str, asyncio.Task[Any] | None] | None] = ContextVar("eagleray_work", default=None)


def get_multiplexed_model_id() -> str:
    """The model that the request asks for; empty if it names none, and outside of a request.

    A caller names it with `handle.options(multiplexed_model_id=...)` or the HTTP header `serve_multiplexed_model_id`.
    In a function under `@serve.batch` it is the model of the whole batch.
    """
    work = _work.get()
    if work is not None:
        return work[0]
    request = current.get() or given.get()
    return "" if request is None else request.multiplexed_model_id


@contextlib.contextmanager
def work_for(model_id: str) -> Iterator[None]:
    """Inside it the code works for several requests: it has a model, and no request.

    With the request of one caller its deadline and cancellation would reach the calls made for all of them.
    """
    request = current.set(None)
    token = _work.set((model_id, asyncio.current_task()))
    try:
        yield
    finally:
        _work.reset(token)
        current.reset(request)


def owner(loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any] | None:
    """The task whose end says that the model is not used any more: that of the request or of the batch."""
    work = _work.get()
    request = current.get()
    task = work[1] if work is not None else getattr(request, "task", None)
    if not isinstance(task, asyncio.Future) or task.get_loop() is not loop or task.done():
        task = asyncio.current_task()
    return task  # type: ignore[return-value]


def own_copy(error: BaseException, *, first: bool) -> BaseException:
    """An exception for one caller: raising it adds to its traceback, so callers must not share it."""
    if first:
        return error
    try:
        made = copy.copy(error)
    except Exception:
        return error
    if type(made) is not type(error):
        return error
    made.__traceback__ = error.__traceback__
    made.__cause__, made.__context__ = error.__cause__, error.__context__
    made.__suppress_context__ = error.__suppress_context__
    return made
