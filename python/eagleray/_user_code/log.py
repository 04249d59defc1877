"""The logger `eagleray.serve` of a replica: stderr, which the node takes.

`logging_config` says its level and whether lines are text or JSON. Handlers that user code adds stay. What fails is
logged even after user code has disabled loggers, as `dictConfig` does with all that it does not know.

What nobody else has taken goes to the same handler, so that it says where it comes from too: records for which no
logger has a handler, warnings, and exceptions that end a thread. Each takes the place of Python's own last resort only,
and any handler or hook of user code comes before it.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

from eagleray import _request, _traceback
from eagleray._request import request_id
from eagleray._user_code.streams import Marked
from eagleray.serve import _log

logger = logging.getLogger("eagleray.serve")


class Component(NamedTuple):
    """Who writes."""

    application: str
    deployment: str
    replica_id: str
    # Of the revision that it was started for; empty: not known.
    revision: str = ""


class _Formatter(logging.Formatter):
    """What both encodings have in common."""

    _millisecond, _printed = -1, ""

    def time_of(self, at: float) -> str:
        """As `formatTime` has it, for lines of which many fall into one millisecond."""
        millisecond = int(1000 * at)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            self._printed = f"{time.strftime(self.default_time_format, time.localtime(second))},{rest:03d}"
        return self._printed

    def access(self, message: str, request_id: str, at: float) -> str:
        """The line of a call that ended `at`, in seconds since the epoch."""
        raise NotImplementedError


class _Text(_Formatter):
    """`LEVEL time APP/DEPLOYMENT ID REVISION [request_id] -- message`; the request's id only inside one.

    `crates/logs/src/head.rs` reads it.
    """

    def __init__(self, component: Component, attributes: list[str]) -> None:
        super().__init__()
        # Spaces part the words.
        name = "_".join(f"{component.application}/{component.deployment}".split())
        self._who = f"{name} {component.replica_id} {component.revision or '-'}"
        self._attributes = attributes

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        middle = f"{self._who}{_in_head(request_id())}"
        more = "".join(f" {name}={getattr(record, name, '')}" for name in self._attributes)
        return f"{record.levelname} {self.formatTime(record)} {middle}{more} -- {record.message}"

    def access(self, message: str, request_id: str, at: float) -> str:
        return f"INFO {self.time_of(at)} {self._who}{_in_head(request_id)} -- {message}"

    def usesTime(self) -> bool:  # noqa: N802 - the name is logging's
        return False

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        return _shown(ei)


def _in_head(request_id: str) -> str:
    if not request_id:
        return ""
    # One with an equals sign would look like an attribute of another name.
    return f" request_id={request_id}" if "=" in request_id else f" {request_id}"


class _Json(_Formatter):
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
            "revision": component.revision or "-",
        }

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "levelname": record.levelname,
            "asctime": self.formatTime(record),
            "message": record.getMessage(),
            **self._fixed,
        }
        request = _request.current.get()
        if request is not None:
            line["request_id"], line["route"] = request.request_id, request.route
            if request.trace_id:
                line["trace_id"] = request.trace_id
        for name in self._attributes:
            line[name] = getattr(record, name, None)
        more = getattr(record, "ray_serve_extra_fields", None)
        if isinstance(more, dict):
            line.update(more)
        if record.exc_info:
            line["exc_text"] = _shown(record.exc_info)
        if record.stack_info:
            line["stack_info"] = record.stack_info
        return json.dumps(line, default=str)

    def access(self, message: str, request_id: str, at: float) -> str:
        head = {"levelname": "INFO", "asctime": self.time_of(at), "message": message}
        return json.dumps({**head, **self._fixed, "request_id": request_id})


def _shown(exc_info: Any) -> str:
    return _traceback.text_of(exc_info[1]).rstrip("\n") if isinstance(exc_info[1], BaseException) else ""


class _Handler(logging.StreamHandler[TextIO]):
    """Writes a record as one, to the standard error that the process began with."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = self.stream
        if not isinstance(stream, Marked):
            super().emit(record)
            return
        try:
            stream.write_record(self.format(record))
        except Exception:
            self.handleError(record)


_handler: logging.Handler | None = None
_component = Component("", "", "")


def configure(component: Component, settings: str) -> None:
    """Sends the logger's lines to stderr, named after the replica; `settings` as in `apply`."""
    global _handler, _component  # noqa: PLW0603 - the logger is the process's
    _component = component
    _handler = _Handler()
    _log.give_way(_handler)
    apply(settings)
    last = logging.lastResort = _Last(logging.WARNING)
    threading.excepthook = _thread_ended
    warnings.showwarning = functools.partial(_warned, last, warnings.showwarning)


def rename(component: Component, settings: str, was: str) -> None:
    """After `configure` with the settings `was`: names the lines after another replica, which has `settings`.

    What user code has set meanwhile stays.
    """
    global _component  # noqa: PLW0603 - the logger is the process's
    _component = component
    level = logger.level
    apply(settings)
    if settings == was:
        logger.setLevel(level)


class _Last(logging.Handler):
    """Takes the records that no other handler takes, as ours would."""

    def emit(self, record: logging.LogRecord) -> None:
        if _handler is not None:
            _handler.handle(record)


def _thread_ended(args: threading.ExceptHookArgs) -> None:
    """Logs what has ended a thread of user code, as `threading.excepthook`."""
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    name = args.thread.name if args.thread is not None else "?"
    failure(f"thread {name} ended by an exception", args.exc_value)


def _warned(
    last: logging.Handler,
    otherwise: Callable[..., None],
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Logs a warning, as `warnings.showwarning`."""
    if file is not None:
        otherwise(message, category, filename, lineno, file, line)
        return
    text = warnings.formatwarning(message, category, filename, lineno, line).rstrip("\n")
    logger = logging.getLogger("py.warnings")
    last.handle(logger.makeRecord(logger.name, logging.WARNING, filename, lineno, "%s", (text,), None))


def apply(settings: str) -> None:
    """Takes the JSON of a `logging_config`; empty is the defaults."""
    values = json.loads(settings) if settings else {}
    is_json = values.get("encoding") == "JSON"
    formatter = _Json if is_json else _Text
    if isinstance(sys.__stderr__, Marked):
        sys.__stderr__.announce("JSON" if is_json else "TEXT", _component.revision or "-")
    if _handler is not None:
        _handler.setFormatter(formatter(_component, values.get("additional_log_standard_attrs", [])))
    logger.setLevel(values.get("log_level", "INFO"))


def access() -> Callable[[str, str, float], str | None] | None:
    """What makes a line about a call, of the message, the request's id, and the seconds since the epoch when it ended.

    None: there is to be none now; so may what it makes be, by a filter. Filters and handlers that user code has added
    get a record, whose `serve_access_log` is True.
    """
    if logger.getEffectiveLevel() > logging.INFO or _handler is None:
        return None
    ray, formatter = logging.getLogger("ray.serve"), _handler.formatter
    assert isinstance(formatter, _Formatter)
    if len(logger.handlers) + len(ray.handlers) == 1 and not logger.filters and not ray.filters:
        return formatter.access
    return functools.partial(_access_by_record, ray, formatter)


def _access_by_record(
    ray: logging.Logger, formatter: _Formatter, message: str, request_id: str, at: float
) -> str | None:
    record = logger.makeRecord(logger.name, logging.INFO, __file__, 0, message, (), None)
    record.created, record.msecs = at, 1000 * (at % 1)
    record.request_id, record.serve_access_log = request_id, True
    if not logger.filter(record) or not ray.filter(record):
        return None
    for handler in (*logger.handlers, *ray.handlers):
        if handler is not _handler and record.levelno >= handler.level:
            handler.handle(record)
    return formatter.access(message, request_id, at)


def failure(message: str, error: BaseException) -> None:
    """Logs an error of user code, with its traceback where it was raised; never fails itself."""
    try:
        line = _of_call(message, error)
        if line:
            _log_surely(logging.ERROR, "%s", line)
        else:
            _log_surely(logging.ERROR, message, error=error)
    except Exception:
        # A handler that user code added, or an exception whose own text raises.
        try:
            _log_surely(logging.ERROR, "%s: %s (its traceback cannot be shown)", message, type(error).__name__)
        except Exception:
            pass


def warning(message: str, *args: Any) -> None:
    """Logs what the replica has to say."""
    _log_surely(logging.WARNING, message, *args)


def _log_surely(level: int, message: str, *args: Any, error: BaseException | None = None) -> None:
    """Logs at `level`, unless that is below the logger's own.

    `logging.disable` and `disable_existing_loggers` are meant for the talk of libraries; a service whose failures they
    hide cannot be mended.
    """
    if not logger.disabled and logger.manager.disable < level:
        logger.log(level, message, *args, exc_info=error)
    elif level >= logger.getEffectiveLevel():
        exc_info = None if error is None else (type(error), error, error.__traceback__)
        record = logger.makeRecord(logger.name, level, __file__, 0, message, args, exc_info)
        for handler in logger.handlers:
            if level >= handler.level:
                handler.handle(record)


def _of_call(message: str, error: BaseException) -> str:
    """One line for an error that a call has brought from another deployment, which has logged it; else empty.

    So a chain of deployments logs a traceback once, and each link which call failed, where, and with what.
    """
    remote = error.__cause__
    if not isinstance(remote, _traceback.RemoteTraceback) or not remote.call:
        return ""
    what = f"{message.removesuffix(': user code raised')}: {remote.call} raised {_traceback.line_of(error)}"
    place = _traceback.place_of(error)
    more = f"see request {remote.request_id} in the log of that deployment"
    return f"{what} [called at {place}; {more}]" if place else f"{what} [{more}]"
