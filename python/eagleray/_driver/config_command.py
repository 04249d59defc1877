"""`eagleray build MODULE:NAME...`: prints a config of applications, with the options that their code states.

The native executable checks the command line and starts this in its place, as it does for `eagleray run`. What the
user's modules print goes to standard error: standard output is the config.

Exit status: 0, 1 when an application cannot be imported or is none, 2 when the command line is wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import eagleray
from eagleray._driver import build, culprit, declared, target, yaml_text  # noqa: F401
from eagleray._driver.target import CommandError
from eagleray.serve import asgi, batching, handle, multiplex  # noqa: F401
from eagleray.serve.context import build_step
from eagleray.serve.deployment import Application
from eagleray.serve.schema import LoggingConfig

if TYPE_CHECKING:
    from eagleray._bootstrap import Paths

_HEAD = "# This file was generated using the `eagleray build` command on Eagleray v{}.\n\n"


def main(paths: Paths) -> NoReturn:
    """The whole process.

    Args:
        paths: Where modules of the user's are looked for; closed until our own are imported.
    """
    options = json.loads(os.environ.pop("EAGLERAY_OPTIONS"))
    sys.argv = ["eagleray", *sys.argv[1:]]
    code = 0
    try:
        with contextlib.redirect_stdout(sys.stderr), build_step():
            target.open_path(paths, options["app_dir"])
            text = _HEAD.format(eagleray.__version__) + yaml_text.document(_config(options["targets"]))
        _write(text, options["output_path"])
        _note("the applications are named app1, app2, ...: rename them as you like")
    except CommandError as error:
        sys.stderr.write(error.shown)
        _note(str(error))
        code = error.code
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _config(targets: list[str]) -> dict[str, Any]:
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": 8000},
        "grpc_options": {"port": 9000, "grpc_servicer_functions": [], "enable_reflection": True},
        "logging_config": LoggingConfig().model_dump(),
        "applications": [_application(called, number, len(targets)) for number, called in enumerate(targets, 1)],
    }


def _application(called: str, number: int, of: int) -> dict[str, Any]:
    found = target.find(called)
    if not isinstance(found, Application):
        raise CommandError(
            f"{called} must be an application, which is what .bind() returns, got {type(found).__name__}; the options "
            "of what a function builds depend on its arguments: write the config of that by hand"
        )
    name = f"app{number}"
    try:
        deployments = build.deployments(found, name)
    except (TypeError, RuntimeError) as error:
        raise CommandError(f"{called}: {error}") from None
    return {
        "name": name,
        "route_prefix": "/" if of == 1 else f"/{name}",
        "import_path": called,
        "runtime_env": {},
        "deployments": [{"name": name, **declared.stated(config)} for name, config in deployments],
    }


def _write(text: str, path: str | None) -> None:
    if path is None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None


def _note(message: str) -> None:
    sys.stderr.write(f"eagleray: {message}\n")
    sys.stderr.flush()
