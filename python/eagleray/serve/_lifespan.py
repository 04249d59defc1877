"""The lifespan of an ASGI application: its startup before the first request, its shutdown after the last.

One task runs the application for as long as it lives, since what it opens at startup it must close in the same task.

An application that does not know the protocol raises or returns before it asks for its first message; that is no
failure. What it raises after that is one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any

logger = logging.getLogger("eagleray.serve")

_LAST_WORDS_S = 1.0


class Lifespan:
    """Runs the lifespan of `app`; `state` is what the application puts there for its requests."""

    def __init__(self, app: Any) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._asked = 0
        self._started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failure: str | None = None
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Returns when the application is ready for requests.

        Raises:
            RuntimeError: its startup failed; the message is what it says.
        """
        self._task = asyncio.get_running_loop().create_task(self._run(), name="eagleray lifespan")
        try:
            await self._started.wait()
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if self._failure is not None:
            # So that its error goes along, if it raises one after what it says.
            await asyncio.wait([self._task], timeout=_LAST_WORDS_S)
            self._task.cancel()
            raise RuntimeError(
                f"the startup of the ASGI application failed: {self._failure or 'it does not say why'}"
            ) from self._error

    async def shutdown(self) -> None:
        """Returns when the application has closed what it opened.

        Raises:
            RuntimeError: its shutdown failed; the message is what it says.
        """
        if self._task is None or self._task.done():
            return
        self._stopping.set()
        try:
            await self._stopped.wait()
        finally:
            # Nobody waits for what it does after its last word, or for one that does not say it in time.
            self._task.cancel()
        if self._failure is not None:
            raise RuntimeError(
                f"the shutdown of the ASGI application failed: {self._failure or 'it does not say why'}"
            ) from self._error

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if self._asked == 0:
                logger.info("the ASGI application has no lifespan: %s: %s", type(error).__name__, error)
            elif self._started.is_set() and not self._stopping.is_set() and self._failure is None:
                # Its startup was complete, however soon this comes: it serves on.
                from eagleray._user_code import log

                log.failure("the lifespan of the ASGI application ended with an error", error)
            elif not self._stopped.is_set():
                self._error = error
                if self._failure is None:
                    self._failure = f"{type(error).__name__}: {error}"
        finally:
            self._started.set()
            self._stopped.set()

    async def _receive(self) -> dict[str, Any]:
        self._asked += 1
        if self._asked == 1:
            return {"type": "lifespan.startup"}
        if self._asked == 2:
            await self._stopping.wait()
            return {"type": "lifespan.shutdown"}
        # There is no third message.
        await asyncio.Event().wait()
        raise AssertionError

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        kind = message["type"]
        if kind.endswith(".failed"):
            self._failure = message.get("message", "")
        if kind in ("lifespan.startup.complete", "lifespan.startup.failed") and not self._started.is_set():
            self._started.set()
            return
        # A failure may come before it was asked to stop: this is what is said when its task is cancelled.
        if kind == "lifespan.shutdown.failed" or (kind == "lifespan.shutdown.complete" and self._stopping.is_set()):
            self._stopped.set()
            return
        raise RuntimeError(f"the ASGI application may not send {kind!r} now")
