"""A replica's life: start, serve, reconfigure, health, drain, stop. The order is that of the commands.

Commands come from the controller through the node; they and the requests are taken from the native module on the
loop's thread, by one reader of one descriptor.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import sys
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from eagleray import _metrics, _runtime, _traceback
from eagleray._replica import loading
from eagleray._replica.life_metrics import LifeMetrics
from eagleray._replica.naming import component_of, set_title
from eagleray._user_code import asgi, children, hooks, http, log, streams, websocket
from eagleray._user_code.call_lines import CallLines
from eagleray._user_code.calls import Calls
from eagleray._user_code.deployed import UserCode, is_async
from eagleray._user_code.pool import Pool, default_executor
from eagleray.serve import _model_caches
from eagleray.serve.context import DeploymentID, ReplicaContext, ReplicaID, ReplicaRank, get_replica_context

if TYPE_CHECKING:
    from eagleray import _core
    from eagleray._bootstrap import Paths
    from eagleray._user_code.compiled.serve import Report

# What is left of the grace for the destructor, at least.
_DESTRUCTOR_S = 1.0
# How long requests may take to end before `reconfigure` is called.
_FINISH_S = 2.0
_LOOK_S = 0.01
_AVOIDED_AFTER_S = 0.1


class Lifecycle:
    """Owns everything in this process that is not native."""

    def __init__(self, loop: asyncio.AbstractEventLoop, paths: Paths, loaded: loading.Loaded | None) -> None:
        self.exit_code = 0
        self._paths = paths
        # What was imported before this process was this replica.
        self._loaded = loaded
        self._loop = loop
        self._make_task = http.task_factory(loop)
        self._drained = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._draining = False
        self._configuring = asyncio.Lock()
        self._starting: asyncio.Task[None] | None = None
        # What the constructor works on, and what is there once it has ended.
        self._begun: UserCode | None = None
        self._user_code: UserCode | None = None
        # The variables that the constructor set.
        self._context = contextvars.Context()
        self._user_config = ""
        # It has taken that; after a failure nobody knows what it has.
        self._configured = True
        self._options: dict[str, Any] = {}
        self._rank: Any = None
        self._lines = CallLines(loop)
        # Once it serves.
        self._metrics: LifeMetrics | None = None
        self._compiled_routes: Report | None = None
        self._run_http: Callable[[_core.Request], Coroutine[Any, Any, None]] | None = None
        self._run_call: Callable[[_core.Request], Coroutine[Any, Any, None]] | None = None

    def attach(self, core: _core.Replica) -> None:
        """Begins to take events and requests."""
        self._core = core
        self._runtime = _runtime.become_replica(core, self._loop)
        self._take_requests = core.drain
        core.attach(self._loop)
        self._pool = Pool(core, self._loop)
        self._loop.add_reader(core.fileno(), self._on_readable)

    def on_event(self, kind: str, value: Any) -> None:
        """Called by the native module's `drain`, and by pool threads for "thread"."""
        if kind == "thread":
            self._pool.start_thread()
        elif kind == "terminate":
            self.terminate()
        elif kind == "drained":
            self._drained.set()
        elif kind == "problem":
            log.warning("%s", value)
        else:
            self._on_command(value)

    def terminate(self) -> None:
        """SIGTERM or SIGINT from outside: as the command to stop."""
        grace = self._options.get("graceful_shutdown_timeout_s", 20.0)
        self._stop_soon(grace)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        requests = self._take_requests()
        make_task, run_http = self._make_task, self._run_http
        for request in requests:
            if request.is_call:
                assert self._run_call is not None
                request.task = make_task(self._run_call(request))
            elif run_http is not None:
                request.task = make_task(run_http(request))
            else:
                http.refuse(request)
        if len(requests) > 1:
            # After the first step of each of them, in the same turn.
            self._loop.call_soon(self._core.end_batch)

    # --- commands ---------------------------------------------------------------------------------------------------

    def _on_command(self, command: dict[str, Any]) -> None:
        kind = command["kind"]
        if kind == "start":
            self._starting = self._soon(self._start(command))
        elif kind == "reconfigure":
            self._soon(self._reconfigure(command))
        elif kind == "check_health":
            self._soon(self._check_health(command["id"]))
        elif kind == "drain":
            self._soon(self._drain())
        elif kind == "stop":
            self._stop_soon(command["grace_milliseconds"] / 1000)

    def _soon(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _start(self, config: dict[str, Any]) -> None:
        began = time.perf_counter()
        self._options = config["options"]
        self._lines.on = self._options["access_log"]
        self._runtime.max_ongoing_requests = self._options["max_ongoing_requests"]
        try:
            await self._construct(config)
            if self._stopping:
                return
            self._serve(config)
        except BaseException as error:
            children.end_if_came_back(error)
            if self._stopping:
                if not isinstance(error, asyncio.CancelledError):
                    log.failure("stopped while it was starting, which then failed", error)
                return
            self._begun = None
            text = _traceback.text_of(error)
            # Before it is told, since whoever hears of it may end this process at once.
            _print(text)
            self._core.tell_start_failed(text)
            self.exit_code = 1
            self._loop.stop()
            return
        took = int((time.perf_counter() - began) * 1e6)
        self._core.tell_ready(self._sync_http, took, _docs_path(self._user_code), self._compiled_routes)

    async def _construct(self, config: dict[str, Any]) -> None:
        name = f"{config['application']}/{config['deployment']}"
        set_title("eagleray: replica", name, config["replica_id"])
        func_or_class, args, kwargs = await self._load(config)
        context = self._runtime.context = _context_of(config)
        self._rank = context.rank
        user_code = await UserCode.construct(func_or_class, args, kwargs, self._begin)
        children.end_if_came_back()
        self._context = contextvars.copy_context()
        context.servable_object = user_code.target
        self._user_code = user_code
        if self._stopping:
            return
        self._user_config = self._options["user_config"]
        context._replica_metadata = await hooks.record_replica_metadata(user_code)
        await hooks.apply_user_config(user_code, self._user_config, self._rank)
        await hooks.check_health(user_code)
        gc.collect()
        gc.freeze()

    async def _load(self, config: dict[str, Any]) -> Any:
        executor = default_executor(self._options["resources"].get("num_cpus"))
        who, settings = component_of(config), self._options["logging"]
        if self._loaded is not None:
            log.rename(who, settings, was=self._loaded.settings)
            self._loop.set_default_executor(executor)
            return self._loaded.get()
        streams.install()
        log.configure(who, settings)
        # The last moment before user code.
        loading.open_paths(self._paths, config)
        self._loop.set_default_executor(executor)
        if os.environ.pop("EAGLERAY_JOIN_RAY", None):
            # Where its environment says (`_driver/ray_cluster.py`). In the main thread it would take SIGTERM for
            # itself.
            await asyncio.to_thread(__import__("ray").init, namespace=os.environ.get("RAY_NAMESPACE"))
        return loading.load(config)

    def _begin(self, user_code: UserCode) -> None:
        self._begun = user_code

    def _told_routes(self, report: Report) -> None:
        self._compiled_routes = report

    def _serve(self, config: dict[str, Any]) -> None:
        user_code = self._user_code
        assert user_code is not None
        served = user_code.served
        call = user_code.http
        self._sync_http = call is not None and not is_async(call)
        calls = Calls(user_code, self._lines)
        self._run_call = calls.on_loop
        in_thread = None
        if call is not None and self._sync_http:
            in_thread = http.in_thread(call, self._pool.hand_over)
        elif served is not None:
            asgi.limit_threads(self._options["max_ongoing_requests"])
            self._run_http = asgi.on_loop(
                served.app,
                served.lifespan.state,
                may_compile=served.compiled,
                told=self._told_routes,
                named=self._core.set_routes,
            )
        elif call is not None:
            self._run_http = http.on_loop(call)
        self._pool.serve(in_thread, calls.in_thread, self._context)
        # Anew, so that it is called with the variables of the constructor: the tasks that it makes start with a copy.
        self._context.run(self._loop.add_reader, self._core.fileno(), self._on_readable)
        _announce_models(user_code)
        self._core.count_in(_metrics.sheet(), config["deployment"], config["replica_id"], config["application"])
        self._metrics = LifeMetrics(self._loop, config["deployment"], config["replica_id"], config["application"])
        self._metrics.watch()
        self._core.serve(
            config["replica_id"],
            self._options["max_ongoing_requests"],
            self._options["max_body_bytes"] or 2**63,
            self._sync_http,
            user_code.sync_methods(),
            websockets=served is not None,
        )
        if self._sync_http:
            self._pool.start_thread()

    async def _reconfigure(self, command: dict[str, Any]) -> None:
        if command["replaced"]:
            # It goes as soon as its successor serves, and is not well: its code is not asked to do anything more.
            self._take_place(command["rank"], command["world_size"])
            self._core.tell_reconfigured(command["id"], "")
            return
        failure = ""
        options = command["options"]
        try:
            user_code = self._user_code
            if user_code is None:
                raise RuntimeError("the replica has not started yet")
            self._take_options(user_code, options)
            moved = self._take_place(command["rank"], command["world_size"]) and hooks.wants_rank(user_code)
            config = None if command["keep_user_config"] else options["user_config"]
            if moved or config is not None:
                began = time.perf_counter()
                await self._configure(user_code, config, moved)
                if self._metrics is not None:
                    self._metrics.reconfigured(time.perf_counter() - began)
        except BaseException as error:
            children.end_if_came_back(error)
            log.failure("reconfigure failed", error)
            failure = _traceback.text_of(error)
        self._core.tell_reconfigured(command["id"], failure)

    def _take_options(self, user_code: UserCode, options: dict[str, Any]) -> None:
        """All but `user_config`: they wait for nothing."""
        if options["logging"] != self._options["logging"]:
            log.apply(options["logging"])
        self._options = options
        self._lines.on = options["access_log"]
        self._core.set_limit(options["max_ongoing_requests"])
        if user_code.served is not None:
            asgi.limit_threads(options["max_ongoing_requests"])

    async def _configure(self, user_code: UserCode, config: str | None, moved: bool) -> None:
        """Calls `reconfigure` if the configuration (None: the one that it has) or the rank is another one.

        One at a time: a controller that has just begun asks again for what its predecessor asked for.
        """
        async with self._configuring:
            wanted = self._user_config if config is None else config
            if not moved and wanted == self._user_config and self._configured:
                return
            self._user_config, self._configured = wanted, False
            # It may take its time, on the loop too.
            self._core.set_exempt(True)
            soon = None
            try:
                if is_async(user_code.hook("reconfigure")):
                    self._core.set_avoided(True)
                    await self._finish_requests()
                else:
                    # In a thread it blocks nothing, so routers need not know of one that is quick.
                    soon = self._loop.call_later(_AVOIDED_AFTER_S, self._core.set_avoided, True)
                await hooks.apply_user_config(user_code, wanted, self._rank)
            finally:
                if soon is not None:
                    soon.cancel()
                self._core.set_avoided(False)
                self._core.set_exempt(False)
            self._configured = True

    def _take_place(self, rank: int | None, world_size: int) -> bool:
        """Its place among its siblings as it is now; returns whether the rank is another one."""
        context = get_replica_context()
        context.world_size = world_size or context.world_size
        if rank is None or rank == self._rank.rank:
            return False
        self._rank = context.rank = ReplicaRank(rank, 0, rank)
        return True

    async def _finish_requests(self) -> None:
        """Lets what runs here end, for a while, before user code may block the loop; if others take what comes."""
        from eagleray.serve.context import get_replica_context

        if get_replica_context().world_size > 1:
            for _ in range(int(_FINISH_S / _LOOK_S)):
                if not self._core.ongoing():
                    break
                await asyncio.sleep(_LOOK_S)

    async def _check_health(self, number: int) -> None:
        failure = ""
        timeout = self._options.get("health_check_timeout_s") or None
        began = time.perf_counter()
        try:
            if self._user_code is not None:
                await asyncio.wait_for(hooks.check_health(self._user_code), timeout)
        except TimeoutError:
            failure = f"check_health did not return within {timeout} s"
        except BaseException as error:
            children.end_if_came_back(error)
            log.failure("health check failed", error)
            failure = _traceback.text_of(error)
        if self._metrics is not None:
            self._metrics.checked(time.perf_counter() - began)
        self._core.tell_health(number, failure)

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        if not self._draining:
            self._draining = True
            self._core.begin_drain()
        await self._drained.wait()
        self._core.tell_drained()

    def _stop_soon(self, grace_s: float) -> None:
        if not self._stopping:
            self._stopping = True
            self._soon(self._stop(grace_s))

    async def _stop(self, grace_s: float) -> None:
        await self._end_start(grace_s)
        try:
            async with asyncio.timeout(grace_s):
                await self._drain()
        except TimeoutError:
            log.warning("%d requests were still running after %s s", self._core.ongoing(), grace_s)
            websocket.close_all()
        try:
            async with asyncio.timeout(max(_DESTRUCTOR_S, grace_s)):
                await self._destroy()
        except BaseException as error:
            children.end_if_came_back(error)
            log.failure("__del__ failed", error)
        self._lines.write()
        self._loop.stop()

    async def _end_start(self, grace_s: float) -> None:
        """Cancels an async constructor, or the first hooks; whatever does not heed that is left to itself."""
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting], timeout=max(_DESTRUCTOR_S, grace_s))

    async def _destroy(self) -> None:
        """Runs `__del__` once: the class loses it, so that the end of the process does not run it again."""
        try:
            await self._run_destructor()
        finally:
            await _model_caches.unload_all(self._loop)

    async def _run_destructor(self) -> None:
        # Of a constructor that never ended too: it may have taken something.
        user_code = self._user_code or self._begun
        hook = None if user_code is None else user_code.hook("__del__")
        if user_code is None or hook is None:
            return
        kind: Any = type(user_code.target)
        kind.__del__ = lambda self: None
        await hooks.run(hook)


def _docs_path(user_code: UserCode | None) -> str:
    """Where FastAPI's documentation is, below the route prefix; empty if there is none, or nobody can know."""
    served = None if user_code is None else user_code.served
    app: Any = None if served is None else getattr(served.app, "app", served.app)
    # Without a schema FastAPI makes no page of it.
    path = getattr(app, "docs_url", None) if getattr(app, "openapi_url", None) else None
    return path if isinstance(path, str) else ""


def _announce_models(user_code: UserCode) -> None:
    """Lets routers know that this deployment has models, before the first is loaded."""
    if _model_caches.has_loader(user_code.target):
        _model_caches.tell_routers()


def _print(text: str) -> None:
    """To standard error, as long as user code has left it as it was."""
    with contextlib.suppress(Exception):
        sys.stderr.write(text)
        sys.stderr.flush()


def _context_of(config: dict[str, Any]) -> ReplicaContext:
    return ReplicaContext(
        replica_id=ReplicaID(config["replica_id"], DeploymentID(config["deployment"], config["application"])),
        rank=ReplicaRank(config["rank"], 0, config["rank"]),
        world_size=config["world_size"],
        code_version=config["version"],
    )
