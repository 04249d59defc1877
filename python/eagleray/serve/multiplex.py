"""Many models behind one deployment: `@serve.multiplexed` loads and keeps them, requests name the one they want.

@serve.deployment
class Classifier:
    @serve.multiplexed(max_num_models_per_replica=4)
    async def load(self, model_id: str):
        return await asyncio.to_thread(read_model, model_id)

    async def __call__(self, request):
        model = await self.load(serve.get_multiplexed_model_id())
        return model.predict(await request.json())

What a loader keeps is in `_model_cache`; each loader of each instance has a cache of its own. Routers are told of every
change at once, and send requests to a replica that holds their model.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar, overload

from eagleray import _runtime
from eagleray._shortened import shortened
from eagleray.serve._methods import Owners
from eagleray.serve._model_cache import ModelCache
from eagleray.serve._model_caches import caches, tell_routers
from eagleray.serve._shared_work import get_multiplexed_model_id, owner, work_for

__all__ = ["get_multiplexed_model_id", "multiplexed"]

F = TypeVar("F", bound=Callable[..., Any])


@overload
def multiplexed(func: F) -> F: ...


@overload
def multiplexed(func: None = None, max_num_models_per_replica: int = 3) -> Callable[[F], F]: ...


@shortened
def multiplexed(func: Any = None, max_num_models_per_replica: int = 3) -> Any:
    """Makes an `async def` that loads a model by its id keep the models that it has loaded.

    Args:
        func: the loader, in the bare form `@serve.multiplexed`: a function or method with one parameter, the model id.
            Whatever it returns is the model; its `__del__`, sync or async, is called and awaited when it is unloaded.
        max_num_models_per_replica: how many models are loaded at a time; -1: without limit.

    A call takes the model id as its only, positional argument and waits until the model is loaded. A model stays at
    least until the request that asked for it has ended. What the loader raises is raised for those that wait for this
    load, and the next call tries again.

    Raises:
        TypeError: what is decorated is no `async def` with one parameter, or the limit is no integer; from a call: the
            model id is no string, or the call has other arguments.
        ValueError: the limit is 0 or below -1; from a call: the model id is empty.
        RuntimeError: from a call: this process is no replica.
    """
    if isinstance(max_num_models_per_replica, bool) or not isinstance(max_num_models_per_replica, int):
        raise TypeError(f"max_num_models_per_replica must be an integer, got {max_num_models_per_replica!r}")
    if max_num_models_per_replica != -1 and max_num_models_per_replica < 1:
        raise ValueError(
            f"max_num_models_per_replica must be at least 1, or -1 for no limit, got {max_num_models_per_replica}"
        )
    if func is None:
        return shortened(lambda function: _decorate(function, max_num_models_per_replica))
    return _decorate(func, max_num_models_per_replica)


def _check_function(function: Any) -> None:
    if not callable(function) or inspect.isclass(function):
        raise TypeError(
            f"@serve.multiplexed decorates an `async def` function or method that loads a model, got {function!r}; "
            "its parameter goes by name: @serve.multiplexed(max_num_models_per_replica=4)"
        )
    name = getattr(function, "__name__", repr(function))
    if not inspect.iscoroutinefunction(function):
        raise TypeError(
            f"@serve.multiplexed needs `async def {name}(...)`; if loading blocks, move that off the event loop inside "
            "it: `return await asyncio.to_thread(read_model, model_id)`"
        )
    if not 1 <= len(inspect.signature(function).parameters) <= 2:
        raise TypeError(
            f"{name}() under @serve.multiplexed must take the model id and nothing else: "
            f"`async def {name}(self, model_id: str)` in a class, `async def {name}(model_id: str)` outside"
        )


def _decorate(function: Any, limit: int) -> Any:
    _check_function(function)
    loader = Loader(function, limit)

    @functools.wraps(function)
    async def load(*args: Any, **kwargs: Any) -> Any:
        return await loader.call(args, kwargs)

    marked: Any = load
    marked.__eagleray_loader__ = loader
    return load


class Loader:
    """One decorated function: the caches of its instances."""

    def __init__(self, function: Callable[..., Any], limit: int) -> None:
        self._function = function
        self._limit = limit
        self._owners = Owners(function)
        self._caches: dict[int, tuple[ModelCache, Any]] = {}
        self._lock = threading.Lock()

    async def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See `multiplexed`."""
        instance, own = self._owners.split(args)
        model_id = self._model_id(own, kwargs)
        loop = asyncio.get_running_loop()
        cache = self._cache_of(instance, loop)
        if cache.loop is not loop:
            # A sync method, in a thread: its model is loaded where all others are.
            carried = asyncio.run_coroutine_threadsafe(cache.get(model_id, None), cache.loop)
            return await asyncio.wrap_future(carried)
        return await cache.get(model_id, owner(loop))

    def _model_id(self, own: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        name = self._function.__name__
        if kwargs or len(own) != 1:
            raise TypeError(f"{name}() takes the model id as its only argument, without a keyword: {name}(model_id)")
        model_id = own[0]
        if not isinstance(model_id, str):
            raise TypeError(f"the model id for {name}() must be a string, got {model_id!r}")
        if not model_id:
            raise ValueError(
                f"{name}() got an empty model id: the request names no model. Callers name it with "
                "handle.options(multiplexed_model_id=...) or the HTTP header serve_multiplexed_model_id"
            )
        return model_id

    def _cache_of(self, instance: Any, loop: asyncio.AbstractEventLoop) -> ModelCache:
        found = self._caches.get(id(instance))
        if found is not None and found[0].loop is loop:
            return found[0]
        with self._lock:
            found = self._caches.get(id(instance))
            if found is not None and found[0].loop.is_running():
                return found[0]
            if _runtime.replica_context() is None:
                raise RuntimeError(
                    f"{self._function.__name__}() under @serve.multiplexed works only inside a replica: deploy it, or "
                    "test it with serve.run(app, local_testing_mode=True)"
                )
            return self._add_cache(instance, loop)

    def _add_cache(self, instance: Any, loop: asyncio.AbstractEventLoop) -> ModelCache:
        replica = _runtime.replica
        if replica is not None and replica.loop.is_running():
            loop = replica.loop
        key = id(instance)
        reference: Any = instance
        if instance is not None:
            try:
                reference = weakref.ref(instance, lambda _: self._caches.pop(key, None))
            except TypeError:
                pass
        cache = ModelCache(functools.partial(self._load, reference), self._limit, loop, tell_routers)
        self._caches[key] = cache, reference
        caches.add(cache)
        return cache

    async def _load(self, reference: Any, model_id: str) -> Any:
        instance = reference() if isinstance(reference, weakref.ref) else reference
        # It is for all that wait for it, so no single request's deadline or cancellation is its own.
        with work_for(model_id):
            return await (self._function(model_id) if instance is None else self._function(instance, model_id))

    def __reduce__(self) -> tuple[Any, ...]:
        """By what was written: caches and their loops belong to a process."""
        return Loader, (self._function, self._limit)
