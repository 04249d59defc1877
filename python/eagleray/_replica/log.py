"""The logger `eagleray.serve` of a replica: stderr, which the node takes."""

from __future__ import annotations

import logging

from eagleray._replica import context

logger = logging.getLogger("eagleray.serve")


class _Formatter(logging.Formatter):
    """`LEVEL time APP/DEPLOYMENT ID [request_id] -- message`; the id only inside a request."""

    def __init__(self, component: str, replica_id: str) -> None:
        super().__init__()
        self._who = f"{component} {replica_id}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        request_id = context.request_id()
        middle = f"{self._who} {request_id}" if request_id else self._who
        return f"{record.levelname} {self.formatTime(record)} {middle} -- {record.message}"

    def usesTime(self) -> bool:  # noqa: N802 - the name is logging's
        return False


def configure(component: str, replica_id: str) -> None:
    """Sends the logger's lines to stderr, named after the replica."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(component, replica_id))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def failure(message: str, error: BaseException) -> None:
    """Logs an error of user code with its traceback; never fails itself."""
    try:
        logger.error(message, exc_info=error)
    except Exception:
        # A handler that user code added, or an exception whose own text raises.
        try:
            logger.error("%s: %s (its traceback cannot be shown)", message, type(error).__name__)
        except Exception:
            pass
