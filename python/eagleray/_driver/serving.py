"""`eagleray run FILE`, and `--reload`: serves applications until Ctrl-C, and anew what changes, if it shall.

This process imports nothing of the user's. Each load is a process of its own (`loading`); `watch` says when one is due,
and it was started ahead. What does not load, or does not come up, is said once, and what was there goes on serving: the
controller keeps the revision before until the next one runs. Without `--reload` a failure is the end, and nothing is
deployed before everything has loaded.

One thread, one step at a time: whatever is waited for is looked at in turns, so Ctrl-C finds nothing half done.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Any

from eagleray import _driver
from eagleray._driver import changes, sources
from eagleray._driver.loader import Loader, LoadingEndedError
from eagleray._driver.served import Served
from eagleray._driver.target import CommandError
from eagleray._driver.watch import Watcher
from eagleray.serve import _log
from eagleray.serve.config import HTTPOptions
from eagleray.serve.exceptions import RayServeException

if TYPE_CHECKING:
    from eagleray._driver.session import Session
    from eagleray._driver.sources import Sources

#: Files that have not changed for so long are saved: an editor that saves several is taken at once.
QUIET_S = 0.03
#: The same, when a file is gone or empty: it is being written.
QUIET_OF_GAPS_S = 0.3
#: Between two questions whether a deploy is up.
ASK_S = 0.02
#: Between two looks at the node, where nothing is watched.
REST_S = 0.5
#: Loads side by side.
MOST_LOADS = max(2, os.cpu_count() or 1)


class Serving:
    """The applications of one command, from the first load to the end."""

    def __init__(self, named: Sources, app_dir: str, *, reload: bool) -> None:
        """Takes what to serve, and where its modules are looked for.

        Raises:
            CommandError: there is no such directory.
        """
        if not os.path.isdir(app_dir):  # noqa: PTH112
            raise CommandError(f"--app-dir: {app_dir!r} is no directory", 2)
        self._app_dir = os.path.abspath(app_dir)  # noqa: PTH100
        self._sources = named
        self._served = {name: Served(order) for name, order in named.orders.items()}
        self._watcher = Watcher([self._app_dir]) if reload else None
        if self._watcher is not None:
            self._watcher.follow(named.files)
        self._ahead: Loader | None = None
        self._ending: list[Loader] = []
        self._modules: list[str] = []
        self._failures: list[CommandError] = []
        self._seen: dict[str, str] = {}
        self._seen_at = self._seen_since = 0.0
        self._said = ""

    def names(self) -> list[str]:
        """Of the applications, now."""
        return list(self._served)

    def run(self) -> None:
        """Serves until a signal, which is raised.

        Raises:
            CommandError: there is no application of that name, or the node has ended; without `--reload`, something
                does not load or does not come up.
        """
        try:
            self._begin_loads()
            session = _driver.connect(self._http_options(), explicit=bool(self._sources.http_options))
            if self._sources.warnings:
                _log.logger().warning("%s", self._sources.warnings)
            while True:
                self._turn(session)
        except (OSError, RuntimeError, ValueError, RayServeException) as error:
            raise CommandError(str(error)) from None
        finally:
            for loader in (self._ahead, *(one.loader for one in self._served.values()), *self._ending):
                if loader is not None:
                    loader.end()

    def _http_options(self) -> HTTPOptions:
        try:
            return HTTPOptions._take(self._sources.http_options)
        except TypeError as error:
            raise CommandError(f"http_options: {error}") from None

    def _turn(self, session: Session) -> None:
        session.check()
        loading = [one for one in self._served.values() if one.loader is not None]
        select.select([one.loader for one in loading if one.loader], [], [], self._pause())
        for served in loading:
            self._take_answer(session, served)  # also if there is nothing to read: its process may be gone
        self._ask(session)
        self._ending = [loader for loader in self._ending if not loader.over()]
        self._begin_loads()
        if self._watcher is not None:
            self._look(session, self._watcher)
        elif not any(one.loader or one.waiting or one.deploying for one in self._served.values()):
            self._deploy_all(session)

    def _pause(self) -> float:
        if self._seen or any(one.deploying or one.waiting or one.line for one in self._served.values()):
            return ASK_S
        return REST_S if self._watcher is None else self._watcher.interval_s

    def _begin_loads(self) -> None:
        room = MOST_LOADS - sum(one.loader is not None for one in self._served.values())
        for served in [one for one in self._served.values() if one.waiting][:room]:
            served.waiting = False
            if self._ahead is not None and not self._ahead.alive():
                self._ahead.end()
                self._ahead = None
            try:
                served.loader, self._ahead = self._ahead or Loader(self._app_dir, self._modules), None
            except OSError as error:
                self._fail(served, f"no process can be started that loads it: {error}")
                continue
            served.loader.load(served.order)

    def _look(self, session: Session, watcher: Watcher) -> None:
        """Loads anew when files have changed, and have stopped to."""
        found = watcher.look()
        now = time.monotonic()
        if found != self._seen:
            self._seen_at = self._seen_at if self._seen else now
            self._seen, self._seen_since = found, now
        quiet = QUIET_S if all(found.values()) else QUIET_OF_GAPS_S
        if not found or now - self._seen_since < quiet:
            return
        watcher.accept()
        self._seen = {}
        if not found.keys().isdisjoint(self._sources.files):
            self._read_again(session, watcher)
        known: frozenset[str] = frozenset().union(*(one.files for one in self._served.values()))
        for served in self._served.values():
            # What nobody has read is new: it may be what an import looks for.
            if own := [
                path for path in found if path in served.files or path not in known | self._sources.files.keys()
            ]:
                served.load_again(changes.named(own, self._app_dir), self._seen_at)

    def _read_again(self, session: Session, watcher: Watcher) -> None:
        """The config file has changed: what is new in it is loaded, what is gone from it ends."""
        (path,) = self._sources.files
        name = changes.named([path], self._app_dir)
        try:
            read = sources.of_file(path, self._sources.over)
        except CommandError as error:
            if str(error) != self._said:
                _log.logger().error("%s changed, but %s\nwhat was there goes on serving", name, error)
            self._said = str(error)
            return
        self._said = ""
        watcher.follow(read.files)
        for gone in self._served.keys() - read.orders.keys():
            served = self._served.pop(gone)
            if served.loader is not None:
                self._ending.append(served.loader)
            if gone in session.sent:
                session.begin_delete(gone)
            _log.logger().info("%s changed: application %r ends", name, gone)
        for key, order in read.orders.items():
            served = self._served.setdefault(key, Served(order, changed=name, began=self._seen_at))
            if served.order != order:
                served.order = order
                served.load_again(name, self._seen_at)
        if read.http_options != self._sources.http_options:
            _log.logger().warning("%s changed: http_options are taken at the next start", name)
        self._sources = read

    def _take_answer(self, session: Session, served: Served) -> None:
        assert served.loader is not None
        try:
            answer = served.loader.answer()
        except LoadingEndedError as error:
            self._lose(served, served.loader, error)
            return
        if answer is None:
            return
        self._ending.append(served.loader)
        served.loader = None
        served.files = frozenset(answer["files"])
        self._modules = answer["modules"]
        if self._watcher is not None:
            self._watcher.follow(answer["files"])
            if answer["misnamed"] and not served.changed and not self._sources.files:
                raise CommandError(answer["message"])
        if "built" not in answer:
            self._fail(served, answer["message"], answer["shown"])
            return
        served.built = answer["built"]
        if self._watcher is not None:
            self._watcher.forget_gone()
            self._deploy(session, [served])

    def _lose(self, served: Served, loader: Loader, error: LoadingEndedError) -> None:
        """A load ended without an answer: by the user's code, or by imports that do not bear another order."""
        served.loader = None
        if loader.has_imported:
            self._modules = []
            served.waiting = True
            return
        if self._watcher is not None and not served.files:
            served.files = self._watcher.follow_modules(self._app_dir, served.order["target"])
        self._fail(served, f"{served.order['target']} cannot be loaded: {error}")

    def _deploy_all(self, session: Session) -> None:
        """Everything has loaded, or come up, or has failed to."""
        if self._failures:
            shown = "".join(error.shown for error in self._failures)
            raise CommandError("\n".join(map(str, self._failures)), self._failures[0].code, shown)
        loaded = [one for one in self._served.values() if one.built is not None]
        if loaded:
            self._deploy(session, loaded)

    def _deploy(self, session: Session, loaded: list[Served]) -> None:
        built = [one.built for one in loaded if one.built is not None]
        for one in loaded:
            one.built, one.deploying = None, None
        try:
            # Of the first, the controller's own words: what was there before may go on.
            deployed = session.deploy(built, tell=not any(one.changed for one in loaded))
        except (OSError, RuntimeError, RayServeException) as error:
            if self._watcher is None:
                raise CommandError(str(error)) from None
            for one in loaded:
                self._fail(one, str(error))
            return
        taken = dict(deployed.sent)
        refused = list(map(str, deployed.refused))
        for one, what in zip(loaded, built, strict=True):
            if taken.get(one.order["name"]) == what.spec["revision"]:
                one.deploy(what.spec)
            else:
                self._fail(one, refused.pop(0))

    def _ask(self, session: Session) -> None:
        """Whether what was deployed is up, and what it cost."""
        self._say_lines(session)
        wanted = {name: one.deploying["revision"] for name, one in self._served.items() if one.deploying is not None}
        if not wanted:
            return
        try:
            settled = session.settled(wanted)
        except (OSError, RuntimeError, RayServeException):
            return  # the controller is away for a moment
        for name, status in settled.items():
            served = self._served[name]
            if status["status"] == "RUNNING":
                if served.running is None:
                    session.announce(status)
                served.runs(named=len(self._served) > 1)
            else:
                served.deploying = None
                again = "run again" if self._watcher is None else "save it"
                self._fail(served, session.failure(status, again=again))
        self._start_ahead()

    def _say_lines(self, session: Session) -> None:
        for name, served in self._served.items():
            if served.line and served.running is not None:
                try:
                    served.say_line(session.counted(name, served.running["revision"]))
                except (OSError, RuntimeError, RayServeException):
                    served.say_line(None)  # the controller is away for a moment

    def _fail(self, served: Served, message: str, shown: str = "") -> None:
        if self._watcher is not None:
            served.say_failure(message, shown, named=len(self._served) > 1)
            self._start_ahead()
            return
        name = f"application {served.order['name']!r}: " if len(self._served) > 1 else ""
        self._failures.append(CommandError(f"{name}{message}", shown=shown))

    def _start_ahead(self) -> None:
        """Starts the next load when nothing else is to be done: what is deployed needs the processor more."""
        busy = any(one.waiting or one.loader or one.deploying for one in self._served.values())
        if self._watcher is not None and self._ahead is None and not busy:
            with contextlib.suppress(OSError):  # then the next load says so
                self._ahead = Loader(self._app_dir, self._modules)


def of_command(options: dict[str, Any], arguments: dict[str, str]) -> Serving:
    """What `eagleray run` serves with these options, if it does not serve it by itself.

    Raises:
        CommandError: the command line or the config file is wrong.
    """
    path = options["target"]
    if not is_config(path):
        return Serving(sources.of_module(options, arguments), options["app_dir"], reload=options["reload"])
    if arguments:
        raise CommandError(f"{path} is a config file: arguments of an application stand in it, under args", 2)
    for key in ("name", "route_prefix"):
        if options[key] is not None:
            option = key.replace("_", "-")
            _log.logger().warning("--%s has no effect: applications of a config file have theirs in it", option)
    named = sources.of_file(os.path.abspath(path), options["http_options"])  # noqa: PTH100
    if not named.orders:
        raise CommandError(f"{path} has no application to serve", 1)
    return Serving(named, options["app_dir"], reload=options["reload"])


def is_config(path: str) -> bool:
    """Whether what is to be served is a config file: what is called like one, or any file that is no module."""
    if path.endswith((".yaml", ".yml")):
        return True  # there or not: no module has an attribute of that name
    return os.path.exists(path) and not os.path.isdir(path) and not path.endswith(".py")  # noqa: PTH110, PTH112
