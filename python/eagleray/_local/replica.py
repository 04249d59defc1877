"""The one replica of a deployment in this process: a thread with an event loop, and user code on it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import pickle
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from eagleray import _runtime, _user_config
from eagleray._user_code import asgi, hooks, http, log, pool
from eagleray._user_code.calls import Calls
from eagleray._user_code.deployed import UserCode, is_async
from eagleray.serve import _model_caches, context

if TYPE_CHECKING:
    from eagleray._local.exchange import Request
    from eagleray._local.websocket import WebSocketRequest
    from eagleray.serve.deployment import Deployment

# As many as there may be sync methods at work: `max_ongoing_requests` is not enforced here.
_THREADS = 1000
_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
_NO_WEBSOCKETS = b"403: this deployment takes no WebSocket. Only one whose ingress is an ASGI application does\n"


class Replica:
    """Runs one deployment. `start` and `stop` are called once, from outside its loop."""

    def __init__(self, app_name: str, name: str, deployment: Deployment, arguments: bytes) -> None:
        self.name = name
        self.user_code: UserCode | None = None
        self.loop = asyncio.new_event_loop()
        self._deployment = deployment
        self._arguments = arguments
        self._context = context.ReplicaContext(context.ReplicaID(f"local-{name}", context.DeploymentID(name, app_name)))
        self._variables = contextvars.Context()
        self._variables.run(_runtime.local_replica.set, self._context)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting: list[Request] = []
        self._sockets: weakref.WeakSet[WebSocketRequest] = weakref.WeakSet()
        self._calls: Calls | None = None
        self._http: Callable[[Any], Coroutine[Any, Any, None]] | None = None
        self._http_in_thread: Callable[[Any], None] | None = None
        self._websockets = False
        self._ended = False
        self.loop.set_default_executor(
            pool.default_executor(
                deployment._config.resources.get("num_cpus"),
                thread_name_prefix=f"eagleray-local-{name}",
                initializer=_runtime.local_replica.set,
                initargs=(self._context,),
            )
        )
        self._thread = threading.Thread(
            target=self._variables.run, args=(self._run,), name=f"eagleray local {app_name}/{name}", daemon=True
        )

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Constructs user code, on its loop, and waits. Raises what it raises."""
        self._thread.start()
        self._finish(self._start())

    def stop(self) -> None:
        """Ends it after its running requests, at most `graceful_shutdown_timeout_s` later. Never raises."""
        if self._ended:
            return
        self._ended = True
        if self._thread.is_alive():
            self._finish(self._stop())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
        for request in self._waiting:
            request.cancel()
        self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Runs it on the loop to its end. `SystemExit` of user code is raised here, not through the loop."""
        outcome: concurrent.futures.Future[None] = concurrent.futures.Future()

        async def run() -> None:
            try:
                await coroutine
            except BaseException as error:
                outcome.set_exception(error)
            else:
                outcome.set_result(None)

        self.soon(lambda: self._task(run()))
        outcome.result()

    async def _start(self) -> None:
        args, kwargs = pickle.loads(self._arguments)
        user_code = await UserCode.construct(self._deployment.func_or_class, args, kwargs)
        # From here on with the variables that the constructor set.
        self._variables = contextvars.copy_context()
        self._context.servable_object = user_code.target
        self.user_code = user_code
        text = _user_config.encode(self._deployment.user_config)
        self._context._replica_metadata = await hooks.record_replica_metadata(user_code)
        await hooks.apply_user_config(user_code, text, self._context.rank)
        await hooks.check_health(user_code)
        self._serve_http(user_code)
        self._calls = Calls(user_code)
        for request in self._waiting:
            self._begin(request)
        self._waiting.clear()

    def _serve_http(self, user_code: UserCode) -> None:
        served, call = user_code.served, user_code.http
        run: Any = None
        if served is not None:
            asgi.limit_threads(_THREADS)
            run = asgi.on_loop(served.app, served.lifespan.state, may_compile=served.compiled)
            self._websockets = True
        elif call is not None and is_async(call):
            run = http.on_loop(call)
        elif call is not None:
            self._http_in_thread = http.in_thread(call, self._hand_over)
        self._http = run

    def _hand_over(self, rest: Coroutine[Any, Any, None], request: Any) -> None:
        """What is left of a sync handler's request, for the loop."""
        variables = contextvars.copy_context()

        def begin() -> None:
            request.task = self._task(rest, variables)

        self.soon(begin)

    async def _stop(self) -> None:
        this = asyncio.current_task()
        running = [task for task in self._tasks if task is not this]
        if running:
            await asyncio.wait(running, timeout=self._deployment._config.graceful_shutdown_timeout_s)
        for socket in list(self._sockets):
            socket.restart()
        await self._end_tasks()
        try:
            await self._destroy()
        except BaseException as error:
            log.failure("__del__ failed", error)

    async def _end_tasks(self) -> None:
        """Cancels what user code left running on the loop."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1.0)
        await self.loop.shutdown_asyncgens()

    async def _destroy(self) -> None:
        """Runs `__del__`, once; then models are unloaded."""
        try:
            await self._run_destructor()
        finally:
            await _model_caches.unload_all(self.loop)

    async def _run_destructor(self) -> None:
        user_code = self.user_code
        hook = None if user_code is None else user_code.hook("__del__")
        if user_code is None or hook is None:
            return
        await hooks.run(hook)
        hooks.without_destructor(user_code.target)

    # --- requests ---------------------------------------------------------------------------------------------------

    def accept(self, request: Request) -> None:
        """Takes a request, from any thread."""
        request.accepted(self)
        self.soon(lambda: self._begin(request))

    def soon(self, function: Callable[[], Any]) -> None:
        """Runs it on the loop, with this replica's variables and not those of the caller."""
        if not self._ended or self.loop.is_running():
            self.loop.call_soon_threadsafe(function, context=self._variables.copy())

    def _begin(self, request: Request) -> None:
        if self._calls is None:
            self._waiting.append(request)
        elif request.cancelled:
            return
        elif request.is_call:
            request.task = self._task(self._calls.on_loop(request))  # type: ignore[arg-type]
        elif request.is_websocket and not self._websockets:
            request.respond(403, _TEXT, _NO_WEBSOCKETS)  # type: ignore[attr-defined]
        elif self._http is not None:
            if request.is_websocket:
                self._sockets.add(request)  # type: ignore[arg-type]
            request.task = self._task(self._http(request))
        elif self._http_in_thread is not None:
            request.task = self._task(pool.to_its_end(self._http_in_thread, request))
        else:
            http.refuse(request)  # type: ignore[arg-type]

    def _task(
        self, coroutine: Coroutine[Any, Any, None], variables: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task = self.loop.create_task(coroutine, context=variables or self._variables.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
