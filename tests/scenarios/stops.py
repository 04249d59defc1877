"""Signals its own process at a chosen point of a chosen request, once. Runs in replicas, beside the tests' application.

A request whose id is `POINT.SIGNAL.anything` (`queued.SIGKILL.17`) has its replica send itself that signal at that
point, unless a file with that id is in the directory of marks: it is made first, and holds the process id, so a request
that moves stops one replica only.

`queued` is accepted and taken from the queue, not yet claimed (async code): `install` puts it there. User code says
`at` for every other point.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from pathlib import Path

from eagleray import _core
from eagleray._replica.lifecycle import Lifecycle


class Stops:
    """The stops of this replica, whose marks are in `marks`."""

    def __init__(self, marks: str) -> None:
        self._marks = Path(marks)

    def install(self) -> None:
        """Puts the point `queued` behind the queue of this process. Called by the application's constructor."""
        (lifecycle,) = (found for found in gc.get_objects() if isinstance(found, Lifecycle))
        take = lifecycle._take_requests

        def taken() -> list[_core.Request]:
            requests = take()
            for request in requests:
                self.at("queued", request.request_id)
            return requests

        lifecycle._take_requests = taken

    def at(self, point: str, request_id: str) -> None:
        """The process is at `point` with this request: signals itself if its id says so."""
        wanted, _, rest = request_id.partition(".")
        if wanted != point:
            return
        try:
            with (self._marks / request_id).open("x") as mark:
                mark.write(f"{os.getpid()}\n")
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.Signals[rest.partition(".")[0]])
        if threading.current_thread() is not threading.main_thread():
            # The signal goes to the main thread, which may take a moment to stop all others.
            time.sleep(0.5)
