"""What a build does with the user's code: imports it, puts the config over it, captures and hashes it.

All that it needs of ours is imported here, before anything of the user's can be.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from eagleray import _traceback
from eagleray._code import capture, identity, pickling  # noqa: F401
from eagleray._driver import blobs, build, culprit, target  # noqa: F401
from eagleray._driver.build_process import Result, environment_of, first_on_path
from eagleray._driver.last_build import LastBuild
from eagleray._driver.target import CommandError
from eagleray.serve import _run, asgi, batching, config, handle, multiplex  # noqa: F401
from eagleray.serve.context import build_step

if TYPE_CHECKING:
    from eagleray._bootstrap import Paths

#: Characters of a traceback that a status shows, its end first: a deep recursion is no reason to fill a screen.
_MOST_SHOWN = 8000


def run(asked: dict[str, Any], paths: Paths) -> Result:
    """Builds what is asked for. Never raises for what user code does."""
    declared = json.loads(asked["config"])
    os.environ.update(environment_of(asked))
    paths.open(first_on_path(asked))
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
