"""The process: its descriptors, its event loop, its end."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from eagleray import _core
from eagleray._replica import stacks, zygote
from eagleray._replica.lifecycle import Lifecycle
from eagleray._user_code import children

if TYPE_CHECKING:
    from eagleray._bootstrap import Paths


def main(paths: Paths) -> NoReturn:
    """Serves until the controller says stop or the node is gone. Does not return.

    Args:
        paths: Where user code is looked for, which is opened when the first command says what is to run.
    """
    try:
        control = int(os.environ.pop("EAGLERAY_CONTROL_FD"))
        listener = int(os.environ.pop("EAGLERAY_LISTEN_FD"))
    except (KeyError, ValueError):
        sys.exit("eagleray._replica is started by a node; to serve an application call eagleray.serve.run")
    loaded = None
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    forks = os.environ.pop("EAGLERAY_ZYGOTE_FDS", None)
    if forks is not None:
        control, listener, loaded = zygote.begin(paths, forks, control, listener)
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    lifecycle = Lifecycle(loop, paths, loaded)
    core = _core.Replica(control, listener, stacks.install(), lifecycle.on_event)
    lifecycle.attach(core)
    children.prepare(loop)
    # A replica leads its own session, so no terminal's Ctrl-C comes here; who sends one by hand wants an end in order.
    core.hear_signals()
    for number, handler in handlers.items():
        present = signal.getsignal(number)
        if present is not None and present != handler:
            # Of user code, imported before this process was a replica: it takes the place of ours, as ever.
            signal.signal(number, present)
    _run(loop, lifecycle)
    core.stop()
    _exit(lifecycle.exit_code)


def _run(loop: asyncio.AbstractEventLoop, lifecycle: Lifecycle) -> None:
    while True:
        try:
            loop.run_forever()
            children.end_if_came_back()
            return
        except KeyboardInterrupt as error:
            children.end_if_came_back(error)
            # User code has put Python's own handler of SIGINT in the place of ours.
            lifecycle.terminate()
        except BaseException as error:
            children.end_if_came_back(error)
            raise


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _exit(code: int) -> NoReturn:
    """Ends the process without waiting for threads and children that user code left behind; exit handlers run."""
    try:
        children.end_all()
        atexit._run_exitfuncs()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
