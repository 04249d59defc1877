"""For tests only: signals its own process at a chosen point of a chosen request, once.

Off unless the environment variable `EAGLERAY_TEST_STOPS` names a directory. Then a request whose id is
`POINT.SIGNAL.anything` (`queued.SIGKILL.17`) has its replica send itself that signal at that point, unless a file with
that id is in the directory: it is made first, and holds the process id, so a request that moves stops one replica only.

`queued`: accepted and taken from the queue, not yet claimed (async code). `claimed`: just before user code. Tests' own
user code calls `at` with a point of its own.
When it is off, nothing of this file is on the path of a request.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eagleray._request import current
from eagleray._user_code.deployed import is_async

if TYPE_CHECKING:
    from eagleray import _core

DIRECTORY = os.environ.get("EAGLERAY_TEST_STOPS", "")


def after(drain: Callable[[], list[_core.Request]]) -> Callable[[], list[_core.Request]]:
    """`drain`, with the point `queued` behind it."""
    if not DIRECTORY:
        return drain

    def drained() -> list[_core.Request]:
        requests = drain()
        for request in requests:
            at("queued", request.request_id)
        return requests

    return drained


def before(call: Callable[..., Any]) -> Callable[..., Any]:
    """The user's `call`, with the point `claimed` before it."""
    if not DIRECTORY:
        return call
    if is_async(call):

        @functools.wraps(call)
        async def claimed(*args: Any) -> Any:
            _stop_current()
            return await call(*args)

        return claimed

    @functools.wraps(call)
    def claimed_by_thread(*args: Any) -> Any:
        _stop_current()
        return call(*args)

    return claimed_by_thread


def _stop_current() -> None:
    request = current.get()
    if request is not None:
        at("claimed", request.request_id)


def at(point: str, request_id: str) -> None:
    """The process is at `point` with this request: signals itself if its id says so."""
    wanted, _, rest = request_id.partition(".")
    if wanted != point:
        return
    try:
        mark = os.open(os.path.join(DIRECTORY, request_id), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)  # noqa: PTH118
    except FileExistsError:
        return
    os.write(mark, b"%d\n" % os.getpid())
    os.close(mark)
    os.kill(os.getpid(), signal.Signals[rest.partition(".")[0]])
    if threading.current_thread() is not threading.main_thread():
        # The signal goes to the main thread, which may take a moment to stop all others.
        time.sleep(0.5)
