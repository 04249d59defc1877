"""A build: imports the application that a config names, and says to the controller what came of it.

The node starts this through `eagleray._bootstrap`, with what is asked as JSON on the standard input. It imports what
the import path names as `eagleray run` does, puts the config over the options in the code, captures, hashes and stores
as `serve.run` does, and sends the result. Every failure of the user's code is a result too: what happened, where, and
what to do. The process that ends without one is spoken for by the node.

What user code does to the process (threads, forks, exit functions) ends with it: the node ends what it leaves behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from eagleray import _core, _traceback
from eagleray._code import capture, identity, pickling  # noqa: F401
from eagleray._driver import blobs, build, culprit, target  # noqa: F401
from eagleray._driver.last_build import LastBuild
from eagleray._driver.target import CommandError
from eagleray.serve import _run, asgi, batching, config, handle, multiplex  # noqa: F401
from eagleray.serve.context import build_step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eagleray._bootstrap import Paths

#: Characters of a traceback that a status shows, its end first: a deep recursion is no reason to fill a screen.
_MOST_SHOWN = 8000


@dataclass
class Result:
    """What came of it: `spec` with its blobs, or `failure`."""

    spec: dict[str, Any] | None = None
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    failure: dict[str, str] | None = None
    warnings: list[str] = field(default_factory=list)
    skipped: bool = False
    #: For when the result is handed over.
    keep: Callable[[], None] = lambda: None


def main(paths: Paths) -> NoReturn:
    """The whole process.

    Args:
        paths: Where modules of the user's are looked for; closed until our own are imported.
    """
    began = time.monotonic()
    own_pid = os.getpid()
    asked = json.load(sys.stdin.buffer)
    _keep_to_itself()
    sys.argv = ["eagleray"]
    result = run(asked, paths)
    if os.getpid() != own_pid:
        os._exit(0)  # a child of the user's code that came back here
    took = round((time.monotonic() - began) * 1000)
    code = _say(asked, result, took)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)  # threads of the user's may never end


def _keep_to_itself() -> None:
    """User code reads nothing of ours, and what it starts inherits nothing; what it prints is seen even if it dies."""
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.close(nothing)
    control = os.environ.pop("EAGLERAY_CONTROL_FD", "")
    if control:
        # Open to the end: by it the node knows that this is the process that it started.
        os.set_inheritable(int(control), False)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def run(asked: dict[str, Any], paths: Paths) -> Result:
    """Builds what is asked for. Never raises for what user code does."""
    declared = json.loads(asked["config"])
    os.environ.update(_application_environment(declared))
    directory = os.path.abspath(asked["app_directory"] or ".")  # noqa: PTH100
    paths.open([directory])
    try:
        return _built(asked, declared)
    except CommandError as error:
        return Result(failure=_failure(error))
    except SystemExit as error:
        message = f"{declared['import_path']} called sys.exit({error.code!r}) while it was imported"
        help_ = "put what runs as a script under `if __name__ == '__main__':`"
        return Result(failure=_said("exited", message, target.place_of(error), help_, target.shown(error)))
    except BaseException as error:  # whatever user code raises
        message = f"{declared['import_path']} cannot be built: {_traceback.line_of(error)}"
        return Result(failure=_said("build_failed", message, target.place_of(error), "", target.shown(error)))


def _application_environment(declared: dict[str, Any]) -> dict[str, str]:
    variables: dict[str, str] = (declared.get("runtime_env") or {}).get("env_vars") or {}
    return variables


def _built(asked: dict[str, Any], declared: dict[str, Any]) -> Result:
    last = LastBuild(asked)
    found = None if asked["rebuild"] else last.find()
    if found is not None:
        spec, warnings = found
        return Result(spec, warnings=warnings, skipped=True)
    path = declared["import_path"]
    with build_step():
        application = target.build(target.find(path), declared.get("args") or {}, path)
        try:
            made = build.build(
                application,
                name=asked["application"],
                route_prefix=declared.get("route_prefix", "/") or "",
                logging_config=None,
                declared=declared,
                environment=asked["environment"],
            )
        except TypeError as error:
            raise _refused(error, "not_picklable") from None
        except Exception as error:
            raise _refused(error, "config_refused") from None
    return Result(made.spec, made.blobs, warnings=made.warnings, keep=lambda: last.keep(made))


def _refused(error: Exception, kind: str) -> CommandError:
    ours = _traceback.is_ours(error)
    message = str(error) or type(error).__name__
    return CommandError(
        message, shown="" if ours else target.shown(error), kind=kind if ours else "build_failed",
        place=target.place_of(error),
    )  # fmt: skip


_HELP = {
    "module_not_found": "correct import_path, or deploy from the directory that has the module (--app-dir)",
    "attribute_missing": "correct import_path, which is MODULE:NAME",
    "import_failed": "correct the code, and deploy again",
    "builder_failed": "correct the function or its args, and deploy again",
    "not_an_application": "import_path names an application (what .bind() returns), or a function that returns one",
    "config_refused": "correct the config, and deploy again",
}


def _failure(error: CommandError) -> dict[str, str]:
    return _said(error.kind, str(error), error.place, _HELP.get(error.kind, ""), error.shown)


def _said(kind: str, message: str, place: str, help_: str, shown: str) -> dict[str, str]:
    if len(shown) > _MOST_SHOWN:
        shown = f"... {len(shown) - _MOST_SHOWN} characters before this ...\n{shown[-_MOST_SHOWN:]}"
    if len(message) > _MOST_SHOWN:
        message = f"{message[:_MOST_SHOWN]} ..."
    whole = f"{shown.rstrip()}\n{message}" if shown else message
    return {"code": kind, "message": _sendable(whole), "place": _sendable(place), "help": _sendable(help_)}


def _sendable(text: str) -> str:
    """Without halves of characters, as names of files may have them."""
    return text.encode(errors="backslashreplace").decode()


def _say(asked: dict[str, Any], result: Result, took: int) -> int:
    """Stores what is needed and tells the controller. Returns the exit status."""
    if result.failure is not None:
        # For the log, which has what was printed before.
        with contextlib.suppress(Exception):  # it may be closed, or the user's own
            sys.stderr.write(f"{result.failure['message']}\n")
    answer = {
        "build": asked["build"],
        "spec": result.spec,
        "failure": result.failure,
        "skipped": result.skipped,
        "warnings": result.warnings,
        "took_milliseconds": took,
    }
    controller = _core.Client(asked["controller"])
    try:
        # What is only to be compared leaves nothing behind.
        stored = result.blobs if asked["stores"] else {}
        with blobs.stored(asked["blobs"], stored, durable=True):
            controller.built(answer)
        if asked["stores"]:
            result.keep()
    except Exception as error:
        sys.stderr.write(f"the result of the build could not be handed over: {error}\n")
        return 1
    return 0
