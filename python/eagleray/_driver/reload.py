"""`eagleray run --reload`: serves an application, and anew whatever of its code changes, until Ctrl-C.

This process imports nothing of the user's. Each load is a process of its own (`loading`), started ahead; `watch` says
when one is due. What does not load, or does not come up, is said once, and what was there goes on serving: the
controller keeps the revision before until the next one runs.

One thread, one step at a time: whatever is waited for is looked at in turns, so Ctrl-C finds nothing half done.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Any

from eagleray import _driver
from eagleray._driver import changes, target
from eagleray._driver.loader import Loader, LoadingEndedError
from eagleray._driver.target import CommandError
from eagleray._driver.watch import Watcher
from eagleray.serve import _log
from eagleray.serve.config import HTTPOptions
from eagleray.serve.exceptions import RayServeException

if TYPE_CHECKING:
    from eagleray._driver.session import Session

#: Files that have not changed for so long are saved: an editor that saves several is taken at once.
QUIET_S = 0.05
#: The same, when a file is gone or empty: it is being written.
QUIET_OF_GAPS_S = 0.3
#: Between two questions whether a deploy is up.
ASK_S = 0.02


class Reload:
    """One application, from the first load to the end."""

    def __init__(self, options: dict[str, Any], arguments: dict[str, str]) -> None:
        """Takes the options of the command, and the arguments of the application.

        Raises:
            CommandError: the command line names nothing that can be loaded.
        """
        target.parse(options["target"])
        app_dir = os.path.abspath(options["app_dir"])  # noqa: PTH100
        if not os.path.isdir(app_dir):  # noqa: PTH112
            raise CommandError(f"--app-dir: {options['app_dir']!r} is no directory", 2)
        self._app_dir = app_dir
        self._http_options = options["http_options"]
        self._order = {
            "target": options["target"],
            "arguments": arguments,
            "name": options["name"],
            "route_prefix": options["route_prefix"],
        }
        self._watcher = Watcher([app_dir])
        self._ahead: Loader | None = Loader(app_dir, [])
        self._loading: Loader | None = None
        self._ending: list[Loader] = []
        self._modules: list[str] = []
        self._session: Session | None = None
        self._running: dict[str, Any] | None = None  # the specification that runs
        self._deploying: dict[str, Any] | None = None
        self._changed = ""  # what this load is for; empty: the first
        self._began = 0.0
        self._seen: dict[str, str] = {}
        self._seen_since = 0.0
        self._said = ""

    def run(self) -> None:
        """Serves until a signal, which is raised.

        Raises:
            CommandError: there is no application of that name, or the node has ended.
        """
        try:
            self._load("")
            options = HTTPOptions._take(self._http_options) if self._http_options else HTTPOptions()
            self._session = _driver.connect(options, explicit=bool(self._http_options))
            while True:
                self._turn(self._session)
        except (RuntimeError, ValueError) as error:
            raise CommandError(str(error)) from None
        finally:
            for loader in (self._ahead, self._loading, *self._ending):
                if loader is not None:
                    loader.end()

    def _turn(self, session: Session) -> None:
        session.check()
        waits = [] if self._loading is None else [self._loading]
        is_near = self._deploying is not None or bool(self._seen)
        ready, _, _ = select.select(waits, [], [], ASK_S if is_near else self._watcher.interval_s)
        if self._loading is not None:
            self._take_answer(session, self._loading, readable=bool(ready))
        if self._deploying is not None:
            self._ask(session, self._deploying)
        self._ending = [loader for loader in self._ending if not loader.over()]
        self._look()

    def _look(self) -> None:
        """Loads when files have changed, and have stopped to."""
        found = self._watcher.look()
        now = time.monotonic()
        if found != self._seen:
            self._began = self._began if self._seen else now
            self._seen, self._seen_since = found, now
        quiet = QUIET_S if all(found.values()) else QUIET_OF_GAPS_S
        if not found or now - self._seen_since < quiet:
            return
        self._watcher.accept()
        self._seen = {}
        self._load(changes.named(found, self._app_dir))

    def _load(self, changed: str) -> None:
        """Begins a load; one that has not ended yet loads what is old."""
        if self._loading is not None:
            self._loading.end()
        self._changed = changed
        self._loading = self._ahead or Loader(self._app_dir, self._modules)
        self._ahead = None
        self._loading.load(self._order)

    def _take_answer(self, session: Session, loader: Loader, *, readable: bool) -> None:
        try:
            answer = loader.answer() if readable else None
        except LoadingEndedError as error:
            self._loading = None
            self._say_failure(f"{self._order['target']} cannot be loaded: {error}")
            return
        if answer is None:
            return
        self._loading = None
        self._ending.append(loader)
        self._watcher.follow(answer["files"])
        self._modules = answer["modules"]
        if answer["misnamed"] and not self._changed:
            raise CommandError(answer["message"])
        if "built" not in answer:
            self._say_failure(answer["message"], answer["shown"])
            return
        self._watcher.forget_gone()
        try:
            # Of the first, the controller's own words: what was there before may go on.
            deployed = session.deploy([answer["built"]], tell=not self._changed)
        except (OSError, RuntimeError) as error:
            self._say_failure(str(error))
            return
        if deployed.refused:
            self._say_failure(str(deployed.refused[0]))
            return
        self._deploying = answer["spec"]

    def _ask(self, session: Session, spec: dict[str, Any]) -> None:
        """Whether what was deployed is up."""
        try:
            settled = session.settled(spec["name"], spec["revision"])
        except RayServeException as error:  # somebody else has deployed it, or deleted it
            self._deploying = None
            self._say_failure(str(error))
            return
        except (OSError, RuntimeError, TimeoutError):
            return  # the controller is away for a moment
        if settled is None:
            return
        self._deploying = None
        if settled["status"] != "RUNNING":
            self._say_failure(session.failure(settled, again="save it"))
            return
        if self._running is None:
            session.announce(settled)
        if self._changed:
            took = time.monotonic() - self._began
            what = changes.between(self._running, spec)
            _log.logger().info("%s changed: %s, %.2f s", self._changed, what, took)
        self._running = spec
        self._said = ""
        self._start_ahead()

    def _say_failure(self, message: str, shown: str = "") -> None:
        """Says what went wrong; a traceback, or a text of many lines, is not said twice in a row."""
        first, _, more = message.partition("\n")
        if self._said == shown + more and self._said:
            shown, message = "", f"{first} (as before)"
        else:
            self._said = shown + more
        goes_on = "what was there goes on serving" if self._running is not None else "nothing is served yet"
        why = f"{self._changed} changed, but " if self._changed else ""
        _log.logger().error("%s%s%s\n%s; waiting for a change", shown and f"\n{shown}", why, message, goes_on)
        self._start_ahead()

    def _start_ahead(self) -> None:
        if self._ahead is None and self._loading is None:
            self._ahead = Loader(self._app_dir, self._modules)
