"""What a request is answered when there is no answer of user code: one clear status, the details in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eagleray._user_code import children, log
from eagleray.serve.exceptions import BackPressureError, DeploymentUnavailableError

if TYPE_CHECKING:
    from eagleray import _core

_PLAIN_TYPE = [(b"content-type", b"text/plain; charset=utf-8")]
LATE = (408, _PLAIN_TYPE, b"408: the time limit of the request has passed")
"""Status, headers and body when the deadline passed before there was an answer."""


def failed(request: _core.Request, error: BaseException) -> None:
    """User code raised, or its answer cannot be sent. An answer of which part has left breaks off visibly."""
    children.end_if_came_back(error)
    if request.cancelled:
        request.done()
        return
    request.note_failure(type(error).__name__)
    try:
        status, headers, text = known_error(error)
        # The router says 408 at the same moment. A call that user code made may hear of the deadline first, and then
        # this is the answer: it must not depend on who is quicker.
        late = request.remaining_s == 0.0
        if late:
            status, headers, text = LATE
        if status == 500 or (late and not isinstance(error, TimeoutError)):
            log.failure("request failed: user code raised" if not request.answered else "the answer broke off", error)
    except Exception:
        status, headers, text = 500, _PLAIN_TYPE, b"Internal Server Error"
    if request.answered:
        request.abort()
    else:
        request.respond(status, headers, text)


def known_error(error: BaseException) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body for an error; 500 for one that is the user's own."""
    if isinstance(error, BackPressureError):
        headers = list(_PLAIN_TYPE)
        if error.retry_after_s is not None:
            headers.append((b"retry-after", str(-int(-error.retry_after_s // 1)).encode()))
        return error.status_code, headers, error.message.encode()
    if isinstance(error, DeploymentUnavailableError):
        return 503, _PLAIN_TYPE, error.message.encode()
    return 500, _PLAIN_TYPE, b"Internal Server Error"
