"""What a command line names: one application of a module, or all those of a config file.

Each application is an order, which is what `loading` takes: where it is found, its arguments, its name and prefix, and
what a config declares over its code.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

from eagleray import _core
from eagleray._driver import target
from eagleray._driver.target import CommandError


@dataclass
class Sources:
    """Orders by the names of applications.

    Attributes:
        orders: One for each application.
        http_options: What is asked of a node of our own; empty: nothing.
        over: What the command line says over the file's `http_options`.
        files: The config file with the hash of what was read, or none.
        warnings: What is right and yet to be said.
    """

    orders: dict[str, dict[str, Any]]
    http_options: dict[str, Any]
    over: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    warnings: str = ""


def of_module(options: dict[str, Any], arguments: dict[str, str]) -> Sources:
    """The application that MODULE:NAME names.

    Raises:
        CommandError: it is not written so.
    """
    target.parse(options["target"])
    order = {
        "target": options["target"],
        "arguments": arguments,
        "name": options["name"],
        "route_prefix": options["route_prefix"],
        "declared": None,
    }
    return Sources({options["name"]: order}, options["http_options"])


def of_file(path: str, over: dict[str, Any]) -> Sources:
    """The applications of a config file; `over` goes over its `http_options`.

    Raises:
        CommandError: all that is wrong with the file.
    """
    read = _hash(path)
    try:
        config = json.loads(_core.read_config(path))
    except ValueError as error:
        raise CommandError(f"{path} cannot be served:\n{error}", 5) from None
    http_options = {**config["node"].get("http_options", {}), **over}
    if config["node"].get("proxy_location") == "Disabled":
        http_options["host"] = None
    orders = {
        one["name"]: {
            "target": one["import_path"],
            "arguments": one["args"],
            "name": one["name"],
            "route_prefix": one["route_prefix"],
            "declared": one["stated"],
        }
        for one in config["applications"]
    }
    return Sources(orders, http_options, over, {path: read}, config["warnings"])


def _hash(path: str) -> str:
    """Of what is in it; empty where nothing can be read, which the reader of configs says better."""
    try:
        if not os.path.isfile(path):  # noqa: PTH113 - whoever opens a pipe waits
            return ""
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
