"""From a replica's first command to its code: the last of our own imports are done, the first of the user's begin."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle  # noqa: F401 - before user code is importable, as `finder`

from eagleray import _code
from eagleray._code import finder  # noqa: F401

if TYPE_CHECKING:
    from eagleray._bootstrap import Paths


class Loaded:
    """What was imported before this process was the replica that it is.

    Attributes:
        settings: The `logging_config` that was in force meanwhile.
    """

    def __init__(self, settings: str, value: Any, error: BaseException | None) -> None:
        self.settings = settings
        self._value, self._error = value, error

    @property
    def failed(self) -> bool:
        """Whether `get` raises."""
        return self._error is not None

    def get(self) -> Any:
        """What `load` gave or raised. Once."""
        value, error = self._value, self._error
        self._value = self._error = None
        if error is not None:
            raise error
        return value


def open_paths(paths: Paths, config: dict[str, Any]) -> None:
    """From here on a module of the user's may have the name of any other."""
    paths.open(config["sys_path"])
    _code.install(config["code_path"])


def load(config: dict[str, Any]) -> Any:
    """The callable, its arguments and its keyword arguments; imports what they need."""
    data = Path(config["callable_path"]).read_bytes()
    # All that is made here is kept; looking for garbage in it takes longer than making a large application.
    enabled = gc.isenabled()
    gc.disable()
    try:
        return pickle.loads(data)
    finally:
        if enabled:
            gc.enable()
