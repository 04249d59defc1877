"""`eagleray run MODULE:NAME [KEY=VALUE ...]`: imports the application as a script would, and serves it until Ctrl-C.

The native executable checks the command line and starts this in its place, with the options in the environment, through
`eagleray._bootstrap`: what is imported from Eagleray is so before the user's directories are on the path. The
applications of a config file, and with `--reload` any, are imported by other processes (`serving`).

Exit status: 0 after Ctrl-C while it serves, 130 before that or after a second one, 143 after SIGTERM, 1 when something
failed, 2 when the command line is wrong. An error of the user's code is shown with its traceback, one of ours in words.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from eagleray import _driver, _traceback
from eagleray._code import capture, identity, pickling  # noqa: F401
from eagleray._driver import build, culprit, current, node, serving, session, target  # noqa: F401
from eagleray._driver.target import CommandError
from eagleray.serve import _log, _run, asgi, batching, config, handle, multiplex  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eagleray._bootstrap import Paths
    from eagleray.serve.deployment import Application


def main(paths: Paths) -> NoReturn:
    """The whole process.

    Args:
        paths: Where modules of the user's are looked for; closed until our own are imported.
    """
    try:
        code = _main(paths, json.loads(os.environ.pop("EAGLERAY_OPTIONS")))
    except CommandError as error:
        sys.stderr.write(error.shown)
        _complain(str(error))
        code = error.code
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _main(paths: Paths, options: dict[str, Any]) -> int:
    arguments = target.pairs(options["arguments"])
    sys.argv = ["eagleray", *sys.argv[1:]]
    session.exit_when_terminated()
    if options["reload"] or serving.is_config(options["target"]):
        if not serving.is_config(options["target"]):
            _name(options)
        served = serving.of_command(options, arguments)
        return _until_stopped(served.run, served.names)
    _name(options)
    target.open_path(paths, options["app_dir"])
    found = target.find(options["target"])
    application = target.build(found, arguments, options["target"])
    return _until_stopped(functools.partial(_serve, application, options), lambda: [options["name"]])


def _name(options: dict[str, Any]) -> None:
    """Names an application as `serve.run` would, where the command line does not."""
    options["name"] = "default" if options["name"] is None else options["name"]
    options["route_prefix"] = "/" if options["route_prefix"] is None else options["route_prefix"]


def _until_stopped(serve: Callable[[], None], names: Callable[[], list[str]]) -> int:
    """Serves until a signal, then ends what was served. The exit status."""
    try:
        serve()
    except KeyboardInterrupt:
        found = current.joined()
        ran = found is not None and not found.announced.isdisjoint(names())
        _end(names())
        if not ran:
            raise CommandError("interrupted before the application ran", 130) from None
        return 0
    except SystemExit:  # SIGTERM
        _end(names())
        raise
    except CommandError:
        found = current.joined()
        if found is not None:
            # What came up ends with the command, not what it would have taken the place of.
            _end([name for name in names() if name in found.announced])
        raise
    return 0


def _serve(application: Application, options: dict[str, Any]) -> None:
    """Deploys and sleeps until a signal, which is raised."""
    try:
        if options["http_options"]:
            http_options = config.HTTPOptions._take(options["http_options"])
            _driver.connect(http_options, explicit=True)
        _run.run(application, name=options["name"], route_prefix=options["route_prefix"])
    except Exception as error:
        above = "" if _traceback.is_ours(error) else target.shown(error)
        raise CommandError(str(error) or type(error).__name__, shown=above) from None
    try:
        _driver.block()
    except RuntimeError as error:
        raise CommandError(str(error)) from None


def _end(names: Sequence[str]) -> None:
    """Ends what this command serves: a node of its own, or its applications on the resident node."""
    try:
        found = current.joined()
        if _driver.shutdown_own() or found is None:
            return
        for name in [name for name in names if name in found.sent]:
            _log.logger().info("deleting application %r, which this command served; the node goes on", name)
            _driver.delete(name, blocking=True)
    except KeyboardInterrupt:
        _complain("not waited for; what runs still ends by itself")
        sys.exit(130)
    except Exception as error:
        raise CommandError(f"the application could not be ended: {error}") from None


def _complain(message: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"eagleray: {message}\n")
    sys.stderr.flush()
