"""The process: its descriptors, its event loop, its end."""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import logging
import os
import signal
import sys
from typing import NoReturn

from eagleray import _core
from eagleray._replica import stacks
from eagleray._replica.lifecycle import Lifecycle


def main() -> NoReturn:
    """Serves until the controller says stop or the node is gone. Does not return."""
    faulthandler.enable()
    try:
        control = int(os.environ.pop("EAGLERAY_CONTROL_FD"))
        listener = int(os.environ.pop("EAGLERAY_LISTEN_FD"))
    except (KeyError, ValueError):
        sys.exit("eagleray._replica is started by a node; to serve an application call eagleray.serve.run")
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    lifecycle = Lifecycle(loop)
    core = _core.Replica(control, listener, stacks.install(), lifecycle.on_event)
    stacks.leave_to_io_thread()
    lifecycle.attach(core)
    # A replica leads its own session, so no terminal's Ctrl-C comes here; who sends one by hand wants an end in order.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lifecycle.terminate)
    loop.run_forever()
    core.stop()
    _exit(lifecycle.exit_code)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _exit(code: int) -> NoReturn:
    """Ends the process without waiting for threads that user code left behind; exit handlers run."""
    try:
        atexit._run_exitfuncs()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
