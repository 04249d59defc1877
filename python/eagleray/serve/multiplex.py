"""Many models behind one deployment: which model a request asks for."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["get_multiplexed_model_id"]

# Inside a batch, which belongs to no request: the model of the whole batch.
_model_of_batch: ContextVar[str | None] = ContextVar("eagleray_model_of_batch", default=None)


def get_multiplexed_model_id() -> str:
    """The model that the request asks for; empty if it names none, and outside of a request.

    A caller names it with `handle.options(multiplexed_model_id=...)` or the HTTP header `serve_multiplexed_model_id`.
    In a function under `@serve.batch` it is the model of the whole batch.
    """
    model_id = _model_of_batch.get()
    if model_id is not None:
        return model_id
    # Only a replica has imported it.
    module = sys.modules.get("eagleray._replica.context")
    request = None if module is None else module.current.get()
    return "" if request is None else str(request.multiplexed_model_id)


@contextlib.contextmanager
def _run_for_batch(model_id: str) -> Iterator[None]:
    """Inside it the code belongs to a batch: to a model, and to no single request.

    With the request of one caller its deadline and cancellation would reach the calls made for all of them.
    """
    module = sys.modules.get("eagleray._replica.context")
    request = None if module is None else module.current.set(None)
    token = _model_of_batch.set(model_id)
    try:
        yield
    finally:
        _model_of_batch.reset(token)
        if module is not None:
            module.current.reset(request)
