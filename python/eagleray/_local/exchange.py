"""What passes between a caller and user code in this process: stand-ins for the native `Call` and `Request`.

A `Call` is the caller's end, a `Request` the end of the code that answers; `_core.pyi` says what each method does. The
two share one lock. Items of a stream wait in a queue of `ITEMS`, and its producer waits for room, as with the credit of
production.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eagleray import _core
    from eagleray._local.replica import Replica

ITEMS = 16
# A request that makes more calls than this forgets those that are done.
_CALLS = 64
_GONE, _ROOM, _WAIT = 0, 1, 2


class Call:
    """The caller's end: waits for an answer, takes items, cancels."""

    def __init__(self) -> None:
        self.request_id = str(uuid.uuid4())
        self._changed = threading.Condition()
        self._items: deque[bytes] = deque()
        self._ended = False
        self._result: tuple[bytes, bool] | None = None
        self._failure: tuple[str, str, None] | None = None
        self._waiting: list[tuple[_core.Completions, int]] = []
        self._listeners: list[Callable[[], None]] = []
        self._on_cancel: Callable[[], None] | None = None
        self._on_dispatch: Callable[[bytes, bool], None] | None = None

    def done(self) -> bool:
        """Whether the answer is there, or a failure in its place."""
        return self._ended

    def ready(self) -> bool:
        """Whether there is an item to take, or the end."""
        return self._ended or bool(self._items)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for that. False: not in time."""
        with self._changed:
            return self._changed.wait_for(self.ready, timeout_s)

    def notify(self, completions: _core.Completions, token: int) -> bool:
        """The same for an event loop, which gets the token then. False: it is ready."""
        with self._changed:
            if self.ready():
                return False
            self._waiting.append((completions, token))
        return True

    def next(self) -> bytes | None:
        """The next item; None: none is there."""
        with self._changed:
            item = self._items.popleft() if self._items else None
            if item is not None:
                self._tell()
        return item

    def failure(self) -> tuple[str, str, None] | None:
        """Why there is no answer: a code and words."""
        return self._failure

    def result(self) -> tuple[bytes, bool] | None:
        """The pickled value, and whether it is an exception."""
        return self._result

    def cancel(self) -> None:
        """Ends the call; the code that answers hears of it."""
        self.fail("Cancelled", "")

    def dispatch(self, arguments: bytes | list[tuple[int, Any]], stream: bool) -> None:
        """Says what runs in the slot that this call reserved."""
        on_dispatch = self._on_dispatch
        assert on_dispatch is not None
        resolve(arguments, self, lambda body: on_dispatch(body, stream))

    def fail(self, code: str, message: str) -> None:
        """There will be no answer."""
        with self._changed:
            if self._ended:
                return
            self._failure = (code, message, None)
            self._end()
            on_cancel = self._on_cancel
        if on_cancel is not None:
            on_cancel()

    # --- the answering end's ----------------------------------------------------------------------------------------

    def _settle(self, result: tuple[bytes, bool] | None) -> None:
        with self._changed:
            if not self._ended:
                self._result = result
                self._end()

    def _put(self, item: bytes) -> int:
        with self._changed:
            if self._ended:
                return _GONE
            self._items.append(item)
            self._tell()
            return _ROOM if len(self._items) < ITEMS else _WAIT

    def _has_room(self) -> bool:
        return self._ended or len(self._items) < ITEMS

    def _end(self) -> None:
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        self._changed.notify_all()
        waiting, self._waiting = self._waiting, []
        for completions, token in waiting:
            completions.push(token)
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    async def _next_change(self, already: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        def changed() -> None:
            try:
                loop.call_soon_threadsafe(wake)
            except RuntimeError:
                pass  # the loop is closed, so nobody waits

        with self._changed:
            if already():
                return
            self._listeners.append(changed)
        await future


class Request:
    """The end of the code that answers, without what calls and HTTP have of their own."""

    is_call = False
    is_websocket = False
    trace_id = ""
    route = ""
    session_id = ""

    def __init__(self, request_id: str, multiplexed_model_id: str, deadline: float | None) -> None:
        self.request_id = request_id
        self.multiplexed_model_id = multiplexed_model_id
        self.cancelled = False
        self.answered = False
        self.finished = False
        self.task: asyncio.Task[Any] | None = None
        self._deadline = deadline
        self._replica: Replica | None = None
        self._calls: set[Call] = set()

    @property
    def remaining_s(self) -> float | None:
        """Seconds left to answer; None: no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def accepted(self, replica: Replica) -> None:
        """A replica has it."""
        self._replica = replica

    def add_call(self, call: Call) -> None:
        """A call that user code makes for this request: it ends with it."""
        if self.cancelled:
            call.cancel()
            return
        if len(self._calls) >= _CALLS:
            self._calls = {other for other in self._calls if not other.done()}
        self._calls.add(call)

    def cancel(self) -> None:
        """Nobody waits for the answer any more. Threads run on."""
        self.cancelled = True
        if self._replica is not None:
            self._replica.soon(self._cancel_task)
        for call in tuple(self._calls):
            call.cancel()

    def _cancel_task(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def claim(self) -> bool:
        """Whether it is still wanted."""
        return not self.cancelled

    def move_to_loop(self) -> None:
        """Its thread gave the rest to the loop."""

    def note_failure(self, name: str) -> None:
        """Nothing is counted in local testing mode."""

    def done(self) -> None:
        """Nothing more will come."""
        self.finished = True


class CallRequest(Request):
    """A call through a handle, as `_replica.calls` answers it."""

    is_call = True

    def __init__(
        self,
        call: Call,
        method: str,
        stream: bool,
        body: bytes,
        *,
        multiplexed_model_id: str,
        session_id: str = "",
        parent: Any = None,
    ) -> None:
        if isinstance(parent, Request):
            call.request_id = parent.request_id
            self.route = parent.route
        # What a background task calls after the answer stands for itself.
        parent = parent if isinstance(parent, Request) and not parent.finished else None
        left = None if parent is None else parent.remaining_s
        super().__init__(call.request_id, multiplexed_model_id, None if left is None else time.monotonic() + left)
        self._call = call
        self._method = method
        self._stream = stream
        self._body = body
        self.session_id = session_id
        call._on_cancel = self.cancel
        if parent is not None:
            parent.add_call(call)

    def accepted(self, replica: Replica) -> None:
        super().accepted(replica)
        left = self.remaining_s
        if left is not None:
            replica.soon(lambda: replica.loop.call_later(left, self._call.fail, "DeadlineExceeded", ""))

    def call(self) -> tuple[str, bool]:
        """The method, and whether its items are wanted one by one."""
        return self._method, self._stream

    def value(self) -> bytes | None:
        """The body that holds the arguments."""
        return self._body

    share = None
    """There is one process, and no memory to share."""

    def regions(self) -> list[Any]:
        """As the native request's: nothing comes beside a body."""
        return []

    def respond_value(self, data: bytes, error: bool = False) -> None:
        """The whole answer, or the exception after some items."""
        self.answered = self.finished = True
        self._call._settle((data, error))

    def send_item(self, data: bytes) -> int:
        """One item: 0 nobody takes it, 1 there is room for more, 2 wait first."""
        self.answered = True
        return self._call._put(data)

    def end_items(self) -> None:
        """The end of the stream."""
        self.finished = True
        self._call._settle(None)

    async def writable(self) -> None:
        """Until there is room."""
        while not self._call._has_room():
            await self._call._next_change(self._call._has_room)

    def wait_writable(self) -> bool:
        """The same for a thread. False: nobody takes any more."""
        with self._call._changed:
            self._call._changed.wait_for(self._call._has_room)
        return not self._call._ended


class ReservationRequest(CallRequest):
    """A call that says who answers it first, and hears only then what it is to run: `choose_replica`."""

    def __init__(self, call: Call, *, multiplexed_model_id: str, session_id: str, parent: Any) -> None:
        super().__init__(
            call, "", True, b"", multiplexed_model_id=multiplexed_model_id, session_id=session_id, parent=parent
        )
        self._dispatched: concurrent.futures.Future[bytes] = concurrent.futures.Future()
        self._items_wanted = True
        call._on_dispatch = self._dispatch

    def _dispatch(self, body: bytes, stream: bool) -> None:
        self._items_wanted = stream
        self._dispatched.set_result(body)

    def value(self) -> None:
        """It comes later, through `receive`."""

    def whole(self, body: bytes) -> bytes:
        """What came through `receive`, as a body that holds arguments."""
        return body

    async def receive(self) -> dict[str, Any]:
        """The pickled call, once it is dispatched."""
        body = await asyncio.wrap_future(self._dispatched)
        return {"type": "http.request", "body": body, "more_body": False}

    def send_item(self, data: bytes) -> int:
        """The identity, or an item of the dispatched call, or its whole answer."""
        if self._dispatched.done() and not self._items_wanted:
            self.respond_value(data)
            return _ROOM
        return super().send_item(data)


def resolve(data: bytes | list[tuple[int, Any]], call: Call, accept: Callable[[bytes], None]) -> None:
    """Hands a body on. Where answers of other calls are among its segments, a thread of its own waits for them."""
    if isinstance(data, bytes):
        accept(data)
        return
    segments = data

    def run() -> None:
        from eagleray import _values

        answers = 0
        filled = []
        for kind, content in segments:
            data = content
            if isinstance(content, Call):
                content.wait()
                result = content.result()
                if result is None or result[1]:
                    call.fail("Upstream", str(answers))
                    return
                data = result[0]
                answers += 1
            filled.append(_values.Segment(kind, data))
        accept(_values.join(filled))

    threading.Thread(target=run, name="eagleray local arguments", daemon=True).start()
