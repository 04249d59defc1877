"""A build: imports the application that a config names, and says to the controller what came of it.

The node starts this through `eagleray._bootstrap`, with what is asked as JSON on the standard input. If nothing that
the last build has read has changed, its result is sent again. Otherwise `building` imports what the import path names
as `eagleray run` does, puts the config over the options in the code, captures and hashes; what comes of it is stored as
`serve.run` does it, and sent. Every failure of the user's code is a result too: what happened, where, and what to do.
The process that ends without one is spoken for by the node.

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

from eagleray import _core
from eagleray._driver.last_build import LastBuild

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eagleray._bootstrap import Paths

# Between two offers of a result.
_AGAIN_S = 0.5


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
    keep_to_itself()
    sys.argv = ["eagleray"]
    result = _as_before(asked, paths)
    if result is None:
        # Most of what a build takes when there is nothing to do is the import of what it would be done with.
        paths.load("eagleray._driver.building")
        result = sys.modules["eagleray._driver.building"].run(asked, paths)
    if os.getpid() != own_pid:
        os._exit(0)  # a child of the user's code that came back here
    took = round((time.monotonic() - began) * 1000)
    code = _say(asked, result, took, began + asked["limit_s"])
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)  # threads of the user's may never end


def keep_to_itself() -> None:
    """User code reads nothing of ours, and what it starts inherits nothing; what it prints is seen even if it dies."""
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.close(nothing)
    control = os.environ.pop("EAGLERAY_CONTROL_FD", "")
    if control:
        # Open to the end: by it the node knows that this is the process that it started.
        os.set_inheritable(int(control), False)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def environment_of(asked: dict[str, Any]) -> dict[str, str]:
    """The variables that the config sets."""
    declared = json.loads(asked["config"])
    variables: dict[str, str] = (declared.get("runtime_env") or {}).get("env_vars") or {}
    return variables


def first_on_path(asked: dict[str, Any]) -> list[str]:
    """Where modules of the application are looked for before all else."""
    return [os.path.abspath(asked["app_directory"] or ".")]  # noqa: PTH100


def _as_before(asked: dict[str, Any], paths: Paths) -> Result | None:
    """The result of the last build, if it can be seen without anything of the user's that it would be the same."""
    if asked["rebuild"] or paths.has_tools():
        return None
    last = LastBuild(asked, paths.opened(first_on_path(asked)), {**os.environ, **environment_of(asked)})
    found = last.find()
    if found is None:
        return None
    spec, warnings = found
    return Result(spec, warnings=warnings, skipped=True)


def _say(asked: dict[str, Any], result: Result, took: int, until: float) -> int:
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
        if stored:
            from eagleray._driver import blobs  # it is there: who has something to store has built

            with blobs.stored(asked["blobs"], stored, durable=True):
                hand_over(controller.built, answer, until)
        else:
            hand_over(controller.built, answer, until)
        if asked["stores"]:
            result.keep()
    except Exception as error:
        sys.stderr.write(f"the result of the build could not be handed over: {error}\n")
        return 1
    return 0


def hand_over(tell: Callable[[dict[str, Any]], None], answer: dict[str, Any], until: float) -> None:
    """Says the result until it is taken; one that was taken before changes nothing.

    A controller that dies at this moment is started again, and one that cannot save what it is told can soon: neither
    is a reason to import everything once more, or to call the deploy failed. What is wrong with the result itself
    (`ValueError`) stays wrong.

    Raises:
        ConnectionError: There was no controller until `until`, on the clock of `time.monotonic`.
        RuntimeError: It could not take the result until then.
    """
    told = False
    while True:
        try:
            tell(answer)
            return
        except (ConnectionError, RuntimeError) as error:
            if time.monotonic() + _AGAIN_S > until:
                raise
            if not told:
                told = True
                with contextlib.suppress(Exception):  # it may be closed, or the user's own
                    sys.stderr.write(f"the result of the build is offered again: {error}\n")
        time.sleep(_AGAIN_S)
