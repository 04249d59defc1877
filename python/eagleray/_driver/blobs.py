"""Writes an application's code and arguments where controller and replicas find them: files named by their hash.

Whatever happens, a file under its name is whole. The controller removes files when the last revision that needs them is
gone; those of a deploy that did not come to be are removed here.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

from eagleray.serve.exceptions import RayServeException

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: A node makes a directory that somebody removed again within a second.
RESTORED_WITHIN_S = 5.0


@contextlib.contextmanager
def stored(directory: str, blobs: Mapping[str, bytes], *, durable: bool) -> Iterator[None]:
    """Has these files in `directory`, for a deploy in the block; one that is refused leaves none that were not there.

    Args:
        directory: the node's blob directory.
        blobs: bytes by the hex SHA-256 of them.
        durable: whether the files must outlive a loss of power.

    Raises:
        OSError: they cannot be written (ENOSPC, EDQUOT, EROFS ...); it names the directory, and nothing was deployed.
    """
    made: list[str] = []
    try:
        for name, data in blobs.items():
            if _store(directory, name, data, durable=durable):
                made.append(f"{directory}/{name}")
    except BaseException:
        _remove(made)
        raise
    try:
        yield
    except (ValueError, RayServeException):
        # Refused. After any other end the deploy may have come to be.
        _remove(made)
        raise


def _remove(paths: list[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108


def _store(directory: str, name: str, data: bytes, *, durable: bool) -> bool:
    """Whether the file was not there before."""
    path = f"{directory}/{name}"
    temporary = f"{directory}/.{name}.{os.getpid()}.{threading.get_ident()}"
    try:
        # The controller leaves a file that somebody has just come for.
        os.utime(path)
        return False
    except FileNotFoundError:
        pass
    except OSError:
        return False  # there, on a disk that is read-only now
    try:
        _write(temporary, data, durable=durable)
        os.rename(temporary, path)  # noqa: PTH104
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        if not isinstance(error, OSError):
            raise
        raise OSError(
            error.errno,
            f"{error.strerror}: nothing was deployed, since the application's code and arguments "
            f"({len(data)} bytes) cannot be stored. Make room on that disk, or set XDG_STATE_HOME to a directory on "
            "another one before the node starts",
            directory,
        ) from None
    return True


def _write(path: str, data: bytes, *, durable: bool) -> None:
    give_up = time.monotonic() + RESTORED_WITHIN_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            break
        except FileNotFoundError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
