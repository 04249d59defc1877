"""`eagleray run MODULE:NAME [KEY=VALUE ...]`: imports the application as a script would, and serves it until Ctrl-C.

The native executable checks the command line and starts this in its place, with the options in the environment, through
`eagleray._bootstrap`: what is imported from Eagleray is so before the user's directories are on the path.

Exit status: 0 after Ctrl-C while it serves, 130 before that or after a second one, 143 after SIGTERM, 1 when something
failed, 2 when the command line is wrong. An error of the user's code is shown with its traceback, one of ours in words.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from eagleray import _driver, _traceback
from eagleray._code import capture, identity, pickling  # noqa: F401
from eagleray._driver import build, culprit, current, node, session  # noqa: F401
from eagleray.serve import _log, _run, asgi, batching, config, handle, multiplex  # noqa: F401
from eagleray.serve._builder import build_application
from eagleray.serve.deployment import Application, Deployment

if TYPE_CHECKING:
    from eagleray._bootstrap import Paths


class _CommandError(Exception):
    """What to say of the command; `code` is the exit status."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def main(paths: Paths) -> NoReturn:
    """The whole process.

    Args:
        paths: Where modules of the user's are looked for; closed until our own are imported.
    """
    try:
        code = _main(paths, json.loads(os.environ.pop("EAGLERAY_OPTIONS")))
    except _CommandError as error:
        _complain(str(error))
        code = error.code
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _main(paths: Paths, options: dict[str, Any]) -> int:
    arguments = dict(_pair(text) for text in options["arguments"])
    sys.argv = ["eagleray", *sys.argv[1:]]
    session.exit_when_terminated()
    _open_path(paths, options["app_dir"])
    target = _find(options["target"])
    application = _build(target, arguments, options["target"])
    try:
        _serve(application, options)
    except KeyboardInterrupt:
        _end(options["name"])
        return 0
    except SystemExit:  # SIGTERM
        _end(options["name"])
        raise
    return 0


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign and value):
        raise _CommandError(f"arguments of the application are KEY=VALUE, got {text!r}", 2)
    return key, value


def _open_path(paths: Paths, directory: str) -> None:
    """Puts the user's directories on the path, in the order in which a script has them."""
    if not os.path.isdir(directory):  # noqa: PTH112
        raise _CommandError(f"--app-dir: {directory!r} is no directory", 2)
    paths.open([os.path.abspath(directory)])  # noqa: PTH100


def _find(target: str) -> Any:
    """What `module:name` or `module.name` names."""
    module_name, sign, attribute = target.partition(":") if ":" in target else target.rpartition(".")
    if os.path.isfile(target):  # noqa: PTH113
        stem, extension = os.path.splitext(target)  # noqa: PTH122
        if extension == ".py":
            module = stem.strip("./").replace(os.sep, ".")
            raise _CommandError(f"{target} is a file; name the application in it by its module, as {module}:NAME", 2)
        raise _CommandError(
            f"{target} is a file: config files are not available yet; name an application, MODULE:NAME", 2
        )
    if not (module_name and sign and attribute) or ":" in attribute:
        raise _CommandError(f"what to serve is written MODULE:NAME, such as app:app, got {target!r}", 2)
    module = _import(module_name)
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise _CommandError(f"module {module_name!r} has no {attribute!r}{_instead(module)}") from None
    return found


def _import(name: str) -> Any:
    try:
        __import__(name)  # importlib's own function would be in the traceback
        return sys.modules[name]
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            _show(error)
            raise _CommandError(f"module {name!r} cannot be imported, for the reason above") from None
        raise _CommandError(
            f"there is no module {error.name!r} in {sys.path[0]} nor installed; go to the directory that has it, or "
            "name that with --app-dir"
        ) from None
    except Exception as error:
        _show(error)
        raise _CommandError(f"module {name!r} cannot be imported, for the reason above") from None


def _instead(module: Any) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Application)]
    if names:
        return f"; it has the application{'s' if len(names) > 1 else ''} {', '.join(names)}"
    deployments = [name for name, value in vars(module).items() if isinstance(value, Deployment)]
    if deployments:
        return f"; it has the deployment {deployments[0]}: write app = {deployments[0]}.bind() there, and name app"
    return "; it has no application, which is what .bind() returns"


def _build(target: Any, arguments: dict[str, str], called: str) -> Application:
    try:
        return build_application(target, arguments, called=called)
    except Exception as error:
        if _traceback.is_ours(error):
            raise _CommandError(f"{called}: {error}") from None
        _show(error)
        raise _CommandError(f"the application builder {called} failed, for the reason above") from None


def _serve(application: Application, options: dict[str, Any]) -> None:
    """Deploys and sleeps until a signal, which is raised."""
    try:
        if options["http_options"]:
            http_options = config.HTTPOptions._take(options["http_options"])
            _driver.connect(http_options, explicit=True)
        _run.run(application, name=options["name"], route_prefix=options["route_prefix"])
    except KeyboardInterrupt:
        found = current.joined()
        if found is not None and options["name"] in found.announced:
            raise  # a moment after it was said to run
        _end(options["name"])
        raise _CommandError("interrupted before the application ran", 130) from None
    except Exception as error:
        if not _traceback.is_ours(error):
            _show(error)
        raise _CommandError(str(error) or type(error).__name__) from None
    try:
        _driver.block()
    except RuntimeError as error:
        raise _CommandError(str(error)) from None


def _end(name: str) -> None:
    """Ends what this command serves: a node of its own, or its application on the resident node."""
    try:
        if not _driver.shutdown_own():
            _log.logger().info("deleting application %r, which this command served; the node goes on", name)
            _driver.delete(name, blocking=True)
    except KeyboardInterrupt:
        _complain("not waited for; what runs still ends by itself")
        sys.exit(130)
    except Exception as error:
        raise _CommandError(f"the application could not be ended: {error}") from None


def _show(error: BaseException) -> None:
    text = _traceback.line_of(error) + "\n" if _traceback.is_ours(error) else _traceback.text_of(error)
    sys.stderr.write(text)


def _complain(message: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"eagleray: {message}\n")
    sys.stderr.flush()
