"""From `MODULE:NAME` to the application that it names: found, imported, built.

For whoever imports an application in the user's stead: `eagleray run`, `eagleray build`, and the process that loads it
anew for `eagleray run --reload`. Every failure is a `CommandError`: what to say, and the traceback of the user's code
to show above it if there is one. So it can be passed on to another process before it is said.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from eagleray import _traceback
from eagleray.serve._builder import build_application
from eagleray.serve.deployment import Application, Deployment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eagleray._bootstrap import Paths


class CommandError(Exception):
    """What to say of a command that failed.

    Attributes:
        code: The exit status.
        shown: What is shown above it: a traceback of the user's code, or nothing.
        kind: A stable word for what failed.
        place: Where in the user's code, as `file:line`; or empty.
    """

    def __init__(self, message: str, code: int = 1, shown: str = "", kind: str = "failed", place: str = "") -> None:
        super().__init__(message)
        self.code, self.shown, self.kind, self.place = code, shown, kind, place


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """The arguments of an application, which are written KEY=VALUE."""
    return dict(_pair(text) for text in texts)


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign and value):
        raise CommandError(f"arguments of the application are KEY=VALUE, got {text!r}", 2)
    return key, value


def open_path(paths: Paths, directory: str) -> None:
    """Puts the user's directories on the path, in the order in which a script has them."""
    if not os.path.isdir(directory):  # noqa: PTH112
        raise CommandError(f"--app-dir: {directory!r} is no directory", 2)
    paths.open([os.path.abspath(directory)])  # noqa: PTH100


def parse(target: str) -> tuple[str, str]:
    """Module and attribute of `module:name` or `module.name`."""
    module_name, sign, attribute = target.partition(":") if ":" in target else target.rpartition(".")
    if target.endswith(".py") and os.path.isfile(target):  # noqa: PTH113
        module = target.removesuffix(".py").strip("./").replace(os.sep, ".")
        raise CommandError(f"{target} is a file; name the application in it by its module, as {module}:NAME", 2)
    if not (module_name and sign and attribute) or ":" in attribute:
        raise CommandError(f"what to serve is written MODULE:NAME, such as app:app, got {target!r}", 2)
    return module_name, attribute


def find(target: str) -> Any:
    """What `module:name` or `module.name` names; imports the module."""
    module_name, attribute = parse(target)
    module = _import(module_name)
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            message = f"module {module_name!r} has no {attribute!r}{_instead(module)}"
            raise CommandError(message, kind="attribute_missing", place=str(module.__file__ or "")) from None
    return found


def _import(name: str) -> Any:
    try:
        __import__(name)  # importlib's own function would be in the traceback
        return sys.modules[name]
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(name, error) from None
        raise CommandError(
            f"there is no module {error.name!r} in {sys.path[0]} nor installed{_nearest(error.name)}; go to the "
            "directory that has it, or name that with --app-dir",
            kind="module_not_found",
        ) from None
    except Exception as error:
        raise _failed(name, error) from None


def _failed(name: str, error: Exception) -> CommandError:
    return CommandError(
        f"module {name!r} cannot be imported, for the reason above",
        shown=shown(error),
        kind="import_failed",
        place=place_of(error),
    )


def _nearest(name: str) -> str:
    """What is there of a name that is much like it."""
    import difflib

    parent, _, last = name.rpartition(".")
    directory = os.path.join(sys.path[0], *parent.split("."))  # noqa: PTH118
    try:
        entries = os.listdir(directory)  # noqa: PTH208
    except OSError:
        return ""
    stems = {entry.removesuffix(".py") for entry in entries if entry.endswith(".py") or "." not in entry}
    near = difflib.get_close_matches(last, sorted(stems), 1)
    if not near:
        return ""
    found = f"{parent}.{near[0]}" if parent else near[0]
    return f" (did you mean {found!r}?)"


def _instead(module: Any) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Application)]
    if names:
        return f"; it has the application{'s' if len(names) > 1 else ''} {', '.join(names)}"
    deployments = [name for name, value in vars(module).items() if isinstance(value, Deployment)]
    if deployments:
        return f"; it has the deployment {deployments[0]}: write app = {deployments[0]}.bind() there, and name app"
    return "; it has no application, which is what .bind() returns"


def build(target: Any, arguments: Mapping[str, Any], called: str) -> Application:
    """The application that was found, or that the function that was found builds."""
    try:
        return build_application(target, arguments, called=called)
    except Exception as error:
        if _traceback.is_ours(error):
            raise CommandError(f"{called}: {error}", kind="not_an_application") from None
        raise CommandError(
            f"the application builder {called} failed, for the reason above",
            shown=shown(error),
            kind="builder_failed",
            place=place_of(error),
        ) from None


def shown(error: BaseException) -> str:
    """An error as users read it: one line of ours, or the traceback of their code."""
    return _traceback.line_of(error) + "\n" if _traceback.is_ours(error) else _traceback.text_of(error)


def place_of(error: BaseException) -> str:
    """Where in the user's code it was raised, as `file:line`; or empty."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    return _traceback.place_of(error).partition(" in ")[0]
