"""What `import eagleray as ray` has beside `serve`: the calls that Serve programs make around it. They do nothing here.

Eagleray needs no cluster to be joined or left. So `init` and `shutdown` only remember that they were called, and say
once that they did nothing. Tasks, actors and data are Ray's own, which can be installed and imported beside this.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

#: Of the package, imported when they are first used. `exceptions` is what programs name as `ray.exceptions`.
NAMES = ("init", "is_initialized", "shutdown")

_initialized = False
_said: set[str] = set()


class Context:
    """What `init` returns: for `with` statements, and for programs that look at addresses, of which there are none."""

    address_info: dict[str, Any] = {}  # noqa: RUF012 - as in Ray
    dashboard_url = ""

    def disconnect(self) -> None:
        """As `shutdown`."""
        shutdown()

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutdown()

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]


def init(*args: Any, **kwargs: Any) -> Context:
    """Does nothing, whatever the arguments, and says so once: `serve.run` starts or joins what is needed."""
    global _initialized  # noqa: PLW0603 - it is the state of the process that programs ask for
    _initialized = True
    given = [repr(argument) for argument in args] + list(kwargs)
    effect = f", so {', '.join(given)} had no effect" if given else ""
    _say("init", f"eagleray.init() does nothing{effect}: serve.run starts or joins the node that it needs")
    return Context()


def is_initialized() -> bool:
    """Whether `init` was called, and `shutdown` not since."""
    return _initialized


def shutdown(*args: Any, **kwargs: Any) -> None:
    """Does nothing and says so once: what runs is ended by `serve.shutdown`, or with the script."""
    global _initialized  # noqa: PLW0603
    del args, kwargs
    _initialized = False
    _say(
        "shutdown",
        "eagleray.shutdown() does nothing: serve.shutdown() ends what runs, and so does the end of the script",
    )


def missing(name: str) -> AttributeError:
    """The error for any other name."""
    return AttributeError(
        f"module 'eagleray' has no attribute {name!r}: it serves, and tasks, actors and data are Ray's. To use them in "
        f"the same program install ray, write `import ray` beside `from eagleray import serve`, and call ray.{name}; "
        "replicas whose code uses ray join the cluster that the script is connected to when it calls serve.run"
    )


def _say(about: str, text: str) -> None:
    from eagleray._runtime import in_replica

    if about in _said or in_replica():
        return
    _said.add(about)
    from eagleray.serve._log import logger

    logger().info("%s", text)
