"""A process that imports an application once, for `eagleray run --reload`, where code that has changed needs a fresh
one, and for `eagleray run FILE`, where applications may have modules of one name and must not share them by chance.

It is started ahead. It imports what the last load imported of installed packages, which takes most of the time of an
import and does not change by an edit, and waits. Ordered to load, it imports the user's modules, builds the
application, captures its code, and sends all of it as data: the process that serves imports nothing of the user's.

One order comes as a line of JSON. The answer is a length in eight bytes, JSON of that length, and the blobs. What
becomes of it, and how it ends if whoever asked for it is gone, does not depend on the user's code: the kernel ends it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from importlib.machinery import SourceFileLoader
from typing import TYPE_CHECKING, Any, NoReturn

from eagleray import _traceback
from eagleray._code import capture, identity, pickling  # noqa: F401
from eagleray._code.places import is_user_file
from eagleray._driver import build, culprit, target  # noqa: F401
from eagleray._driver.target import CommandError
from eagleray.serve import _run, asgi, batching, config, handle, multiplex  # noqa: F401
from eagleray.serve.context import build_step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eagleray._bootstrap import Paths

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def main(paths: Paths) -> NoReturn:
    """The whole process.

    Args:
        paths: Where modules of the user's are looked for.
    """
    options = json.loads(os.environ["EAGLERAY_OPTIONS"])
    orders, answers = options["orders"], options["answers"]
    for descriptor in (orders, answers):
        os.set_inheritable(descriptor, False)
    _end_with_parent()
    sys.argv = ["eagleray"]
    try:
        is_open = os.path.isdir(options["app_dir"])  # noqa: PTH112
        if is_open:
            target.open_path(paths, options["app_dir"])
        ours = set(sys.modules)
        _import_ahead(options)
        os.environ.pop("EAGLERAY_OPTIONS")
        order = _order(orders)
        if not is_open:
            # It was not there then.
            paths.open([os.path.abspath(options["app_dir"])])  # noqa: PTH100
        own_pid = os.getpid()
        loaded = _load(order, options["app_dir"], ours)
        if os.getpid() != own_pid:
            os._exit(0)  # a child of the user's code that came back here
        _answer(answers, *loaded)
    except KeyboardInterrupt:
        os._exit(130)
    sys.exit(0)


def _end_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def _import_ahead(options: dict[str, Any]) -> None:
    """Imports what was asked for. Begins anew without it if that brought modules of the user's, which may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in options["modules"]:
            try:
                importlib.import_module(name)
            except Exception:  # whoever needs it imports it again, and is told
                continue
    if options["modules"] and any(map(_file_of_user, list(sys.modules.values()))):
        os.environ["EAGLERAY_OPTIONS"] = json.dumps({**options, "modules": []})
        for descriptor in (options["orders"], options["answers"]):
            os.set_inheritable(descriptor, True)
        if "PYTHONPATH" in os.environ:
            os.environ["EAGLERAY_PYTHONPATH"] = os.environ.pop("PYTHONPATH")
        os.execv(sys.executable, [sys.executable, sys.modules["__main__"].__file__ or "", __name__])


def _file_of_user(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and is_user_file(os.path.abspath(file))  # noqa: PTH100


def _order(orders: int) -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(orders, 1 << 16)
        if not chunk:
            os._exit(0)  # nobody wants it any more
        line += chunk
    found: dict[str, Any] = json.loads(line)
    return found


def _load(order: dict[str, Any], app_dir: str, ours: set[str]) -> tuple[dict[str, Any], Mapping[str, bytes]]:
    if order["declared"] is not None:
        # As in replicas, and in the build of a deploy: before anything of the user's is imported.
        os.environ.update((order["declared"].get("runtime_env") or {}).get("env_vars") or {})
    _ignore_bytecode()
    importlib.invalidate_caches()
    called = order["target"]
    top = frozenset({target.parse(called)[0].partition(".")[0]})
    answer: dict[str, Any] = {"message": "", "shown": "", "misnamed": False}
    blobs: Mapping[str, bytes] = {}
    captured = None
    try:
        with build_step():
            if not os.path.isdir(app_dir):  # noqa: PTH112
                raise CommandError(f"the directory {app_dir!r} is not there")
            answer["misnamed"] = True
            found = target.find(called)
            answer["misnamed"] = False
            application = target.build(found, order["arguments"], called)
            built = _build(application, order)
        answer |= {"spec": built.spec, "warnings": built.warnings}
        blobs = built.blobs
        files = {file["path"]: file["sha256"] for file in built.spec["code_files"]}
    except CommandError as error:
        answer |= {"message": str(error), "shown": error.shown}
        captured = capture.capture(top)
    except SystemExit as error:
        answer |= {"message": f"{called} ended the import with sys.exit({error.code!r})", "misnamed": False}
        captured = capture.capture(top)
    if captured is not None:
        files = {file.path: file.sha256 for file in captured.files}
    answer["misnamed"] = answer["misnamed"] and not answer["shown"]
    answer["files"] = files
    answer["modules"] = [
        name
        for name, module in list(sys.modules.items())
        if name not in ours and getattr(module, "__spec__", None) is not None and not _file_of_user(module)
    ]
    return answer, blobs


def _build(application: Any, order: dict[str, Any]) -> build.Built:
    try:
        wanted = _run.checked(_run.RunTarget(application, order["name"], order["route_prefix"]))
        return build.build(
            wanted.application,
            name=wanted.name,
            route_prefix=wanted.route_prefix,
            logging_config=wanted.logging_config,
            declared=order["declared"],
        )
    except Exception as error:
        above = "" if _traceback.is_ours(error) else target.shown(error)
        raise CommandError(str(error) or type(error).__name__, shown=above) from None


def _ignore_bytecode() -> None:
    """Compiled files of the user's modules are neither read nor written.

    They count as fresh by whole seconds and size, and two edits in a second that leave the size are no rarity here.
    """
    plain = SourceFileLoader.path_stats

    def path_stats(self: SourceFileLoader, path: str) -> Mapping[str, Any]:
        if is_user_file(path):
            raise OSError  # what `importlib.abc.SourceLoader` wants of a loader that cannot tell
        return plain(self, path)

    SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]


def _answer(answers: int, answer: dict[str, Any], blobs: Mapping[str, bytes]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    answer["blobs"] = [(name, len(data)) for name, data in blobs.items()]
    head = json.dumps(answer).encode()
    with open(answers, "wb") as pipe:
        pipe.write(len(head).to_bytes(8, "big") + head)
        for data in blobs.values():
            pipe.write(data)
