"""The models that one loader of one instance has in memory.

Rules:

- A model is loaded once, however many ask for it; different ones are loaded side by side, as far as there is room.
- Room is counted before a load begins: loaded models, running loads and models whose `__del__` has not ended are never
  more than the limit, so the memory of a model is free before another is loaded into it.
- The least recently used model makes place, and never one that a request under way has asked for. When all are in use a
  load waits for the first that is not. Requests that wait for a load themselves do not count there, if nothing else
  helps: two that wait for each other would wait for ever.
- A load that fails is an error for those that wait for it, and for nobody else. A load whose callers are all gone is
  cancelled.

Everything happens on one event loop. What waits is bounded by the requests that wait for it.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from eagleray._closing import is_closed
from eagleray.serve._own_metrics import ModelMetrics, of_models
from eagleray.serve._shared_work import own_copy

Owner = asyncio.Task[Any]


@dataclass
class _Load:
    model_id: str
    waiters: list[asyncio.Future[Any]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class ModelCache:
    """See the module."""

    def __init__(
        self,
        load: Callable[[str], Awaitable[Any]],
        limit: int,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[], None],
    ) -> None:
        """`limit`: models at a time, -1 without limit. `changed`: called whenever `model_ids` has changed."""
        self.loop = loop
        self._load = load
        self._limit = limit
        self._changed = changed
        # Least recently used first.
        self._models: dict[str, Any] = {}
        self._loads: dict[str, _Load] = {}
        # Running loads, those included whose callers are gone, and models that are being unloaded.
        self._busy = 0
        self._owners: dict[str, set[Owner]] = {}
        self._waiting: dict[Owner, int] = {}
        self._freed: list[asyncio.Future[None]] = []
        # Made at the first use.
        self._metrics: ModelMetrics | None = None

    @property
    def model_ids(self) -> list[str]:
        """What is loaded or being loaded."""
        return [*self._models, *self._loads]

    async def get(self, model_id: str, owner: Owner | None) -> Any:
        """The model, loaded if need be. It stays until `owner` has ended.

        Cancel safe: the load goes on for those that still wait for it.
        """
        if self._metrics is None:
            self._metrics = of_models()
        if self._metrics is not None:
            self._metrics.asked()
        if owner is not None:
            self._pin(model_id, owner)
        if model_id in self._models:
            # The most recently used is the last.
            model = self._models[model_id] = self._models.pop(model_id)
            return model
        load = self._loads.get(model_id)
        if load is None:
            load = self._loads[model_id] = _Load(model_id)
            load.task = self.loop.create_task(self._run(load))
            self._changed()
        waiter = self.loop.create_future()
        load.waiters.append(waiter)
        if owner is not None:
            self._waiting[owner] = self._waiting.get(owner, 0) + 1
            self._wake()
        try:
            return await waiter
        except asyncio.CancelledError:
            load.waiters.remove(waiter)
            if not load.waiters and self._loads.get(model_id) is load and load.task is not None:
                # Whoever asks from now on begins anew.
                del self._loads[model_id]
                load.task.cancel()
                self._changed()
            raise
        finally:
            if owner is not None:
                self._waiting[owner] -= 1
                if not self._waiting[owner]:
                    del self._waiting[owner]

    async def unload_all(self) -> None:
        """At the end of the replica: unloads every model, least recently used first."""
        for load in list(self._loads.values()):
            if load.task is not None:
                load.task.cancel()
        while self._models:
            model_id = next(iter(self._models))
            await self._unload(model_id, self._models.pop(model_id))
        self._changed()

    # --- loads ------------------------------------------------------------------------------------------------------

    async def _run(self, load: _Load) -> None:
        model: Any = None
        error: BaseException | None = None
        entered = False
        try:
            await self._make_room()
            entered = True
            self._busy += 1
            began = time.monotonic()
            model = await self._load(load.model_id)
            if self._metrics is not None:
                self._metrics.loaded(time.monotonic() - began)
        except BaseException as raised:
            if isinstance(raised, GeneratorExit) and is_closed(load.task):
                raise
            error = raised
        current = self._loads.get(load.model_id) is load
        if current:
            del self._loads[load.model_id]
        if entered:
            self._busy -= 1
        if error is None:
            if current:
                self._models[load.model_id] = model
                if self._metrics is not None:
                    self._metrics.hold(len(self._models))
            else:
                # Nobody wants it any more, and it did not mind being cancelled.
                self._busy += 1
                await self._unload(load.model_id, model)
                self._busy -= 1
        self._changed()
        self._wake()
        waiters = [waiter for waiter in load.waiters if not waiter.done()]
        for number, waiter in enumerate(waiters):
            if error is None:
                waiter.set_result(model)
            elif isinstance(error, asyncio.CancelledError):
                waiter.set_exception(RuntimeError(f"loading model {load.model_id!r} was cancelled"))
            else:
                waiter.set_exception(own_copy(error, first=number == 0))

    async def _make_room(self) -> None:
        """Returns when one more model may be loaded, at once; the caller counts it before anything else runs."""
        while self._limit >= 0 and len(self._models) + self._busy >= self._limit:
            victim = self._victim()
            if victim is None:
                freed = self.loop.create_future()
                self._freed.append(freed)
                await freed
                continue
            model = self._models.pop(victim)
            self._changed()
            self._busy += 1
            try:
                await asyncio.shield(self._unload(victim, model))
            finally:
                self._busy -= 1
                self._wake()

    async def _unload(self, model_id: str, model: Any) -> None:
        began = time.monotonic()
        await _unload(model_id, model)
        if self._metrics is not None:
            self._metrics.unloaded(time.monotonic() - began)
            self._metrics.hold(len(self._models))

    def _victim(self) -> str | None:
        """The least recently used model that may go."""
        free = (model_id for model_id in self._models if not self._owners.get(model_id))
        victim = next(free, None)
        if victim is not None or self._busy:
            return victim
        return next((one for one in self._models if all(owner in self._waiting for owner in self._owners[one])), None)

    def _wake(self) -> None:
        """Something may have become free."""
        freed, self._freed = self._freed, []
        for waiter in freed:
            if not waiter.done():
                waiter.set_result(None)

    # --- what is in use ---------------------------------------------------------------------------------------------

    def _pin(self, model_id: str, owner: Owner) -> None:
        owners = self._owners.setdefault(model_id, set())
        if owner in owners:
            return
        owners.add(owner)

        def release(_: Owner) -> None:
            owners.discard(owner)
            if not owners and self._owners.get(model_id) is owners:
                del self._owners[model_id]
            self._wake()

        owner.add_done_callback(release)


async def _unload(model_id: str, model: Any) -> None:
    """Runs the model's `__del__`, sync in a thread or async, once. What it raises is logged."""
    from eagleray._user_code import log
    from eagleray._user_code.pool import in_thread

    hook = getattr(model, "__del__", None)
    if not callable(hook):
        return
    try:
        if inspect.iscoroutinefunction(hook):
            await hook()
        else:
            await in_thread(hook)
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        log.failure(f"__del__ of model {model_id!r} failed", error)
    _without_destructor(model)


def _without_destructor(model: Any) -> None:
    """Keeps the interpreter from running `__del__` again. Where the class does not allow that, it runs again."""
    kind = type(model)
    try:
        model.__class__ = type(kind.__name__, (kind,), {"__del__": lambda self: None, "__slots__": ()})
    except TypeError:
        pass
