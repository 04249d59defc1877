"""The logger `eagleray.serve` of a replica: stderr, which the node takes.

`logging_config` says its level and whether lines are text or JSON. Handlers that user code adds stay.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, NamedTuple

from eagleray import _traceback
from eagleray._replica import context

logger = logging.getLogger("eagleray.serve")


class Component(NamedTuple):
    """Who writes."""

    application: str
    deployment: str
    replica_id: str


class _Text(logging.Formatter):
    """`LEVEL time APP/DEPLOYMENT ID [request_id] -- message`; the id only inside a request."""

    def __init__(self, component: Component, attributes: list[str]) -> None:
        super().__init__()
        self._who = f"{component.application}/{component.deployment} {component.replica_id}"
        self._attributes = attributes

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        request_id = context.request_id()
        middle = f"{self._who} {request_id}" if request_id else self._who
        more = "".join(f" {name}={getattr(record, name, '')}" for name in self._attributes)
        return f"{record.levelname} {self.formatTime(record)} {middle}{more} -- {record.message}"

    def usesTime(self) -> bool:  # noqa: N802 - the name is logging's
        return False

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        return _shown(ei)


class _Json(logging.Formatter):
    """One JSON object a line, with the keys that users of Ray Serve know."""

    def __init__(self, component: Component, attributes: list[str]) -> None:
        super().__init__()
        self._attributes = attributes
        self._fixed = {
            "component_name": "replica",
            "component_id": component.replica_id,
            "application": component.application,
            "deployment": component.deployment,
            "replica": component.replica_id,
        }

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "levelname": record.levelname,
            "asctime": self.formatTime(record),
            "message": record.getMessage(),
            **self._fixed,
        }
        request_id = context.request_id()
        if request_id:
            line["request_id"] = request_id
        for name in self._attributes:
            line[name] = getattr(record, name, None)
        more = getattr(record, "ray_serve_extra_fields", None)
        if isinstance(more, dict):
            line.update(more)
        if record.exc_info:
            line["exc_text"] = _shown(record.exc_info)
        return json.dumps(line, default=str)


def _shown(exc_info: Any) -> str:
    return _traceback.text_of(exc_info[1]).rstrip("\n") if isinstance(exc_info[1], BaseException) else ""


_handler: logging.Handler | None = None
_component = Component("", "", "")


def configure(component: Component, settings: str) -> None:
    """Sends the logger's lines to stderr, named after the replica; `settings` as in `apply`."""
    global _handler, _component  # noqa: PLW0603 - the logger is the process's
    _component = component
    _handler = logging.StreamHandler()
    logger.addHandler(_handler)
    logger.propagate = False
    apply(settings)


def apply(settings: str) -> None:
    """Takes the JSON of a `logging_config`; empty is the defaults."""
    values = json.loads(settings) if settings else {}
    formatter = _Json if values.get("encoding") == "JSON" else _Text
    if _handler is not None:
        _handler.setFormatter(formatter(_component, values.get("additional_log_standard_attrs", [])))
    logger.setLevel(values.get("log_level", "INFO"))


def failure(message: str, error: BaseException) -> None:
    """Logs an error of user code, with its traceback where it was raised; never fails itself."""
    try:
        line = _of_call(message, error)
        if line:
            logger.error("%s", line)
        else:
            logger.error(message, exc_info=error)
    except Exception:
        # A handler that user code added, or an exception whose own text raises.
        try:
            logger.error("%s: %s (its traceback cannot be shown)", message, type(error).__name__)
        except Exception:
            pass


def _of_call(message: str, error: BaseException) -> str:
    """One line for an error that a call has brought from another deployment, which has logged it; else empty.

    So a chain of deployments logs a traceback once, and each link which call failed, where, and with what.
    """
    client = sys.modules.get("eagleray.serve._client")
    remote = error.__cause__
    if client is None or not isinstance(remote, client.RemoteTraceback) or not remote.call:
        return ""
    what = f"{message.removesuffix(': user code raised')}: {remote.call} raised {_traceback.line_of(error)}"
    place = _traceback.place_of(error)
    more = f"see request {remote.request_id} in the log of that deployment"
    return f"{what} [called at {place}; {more}]" if place else f"{what} [{more}]"
