"""The other end of `loading`: starts such a process, orders it to load, and takes its answer without waiting."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from eagleray import _bootstrap
from eagleray._driver.build import Built

#: What a process that has answered may take to end: the user's threads and exit functions are in it.
END_S = 2.0


class LoadingEndedError(Exception):
    """The process ended without an answer; the text says how."""


class Loader:
    """A process that loads an application once. Not for several threads."""

    def __init__(self, app_dir: str, modules: list[str]) -> None:
        """Starts it; it imports these modules ahead."""
        self.has_imported = bool(modules)
        orders_read, orders_write = os.pipe()
        answers_read, answers_write = os.pipe()
        options = {"app_dir": app_dir, "modules": modules, "orders": orders_read, "answers": answers_write}
        environment = {**os.environ, "EAGLERAY_OPTIONS": json.dumps(options)}
        if "PYTHONPATH" in environment:
            environment["EAGLERAY_PYTHONPATH"] = environment.pop("PYTHONPATH")
        for descriptor in (orders_read, answers_write):
            os.set_inheritable(descriptor, True)
        boot = os.path.abspath(_bootstrap.__file__)  # noqa: PTH100
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, boot, "eagleray._driver.loading"],
                environment,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)],
                setpgroup=0,  # with all that the user's modules start, so that it can be ended with that
                setsigdef=[signal.SIGPIPE, signal.SIGTERM],
            )
        except BaseException:
            os.close(orders_write)
            os.close(answers_read)
            raise
        finally:
            os.close(orders_read)
            os.close(answers_write)
        os.set_blocking(answers_read, False)
        self._orders: int | None = orders_write
        self._answers = answers_read
        self._read = bytearray()
        self._ending_since: float | None = None
        self._status: int | None = None

    def fileno(self) -> int:
        """Readable when there is more of the answer."""
        return self._answers

    def load(self, order: dict[str, Any]) -> None:
        """Orders it to load, once."""
        assert self._orders is not None
        orders, self._orders = self._orders, None
        data = json.dumps(order).encode() + b"\n"
        try:
            while data:
                data = data[os.write(orders, data) :]
        except BrokenPipeError:
            pass  # it is gone, as `answer` says
        finally:
            os.close(orders)

    def answer(self) -> dict[str, Any] | None:
        """The answer once it is whole.

        Raises:
            LoadingEndedError: there will be none.
        """
        gone = not self.alive()  # asked before the last bytes are read
        try:
            while chunk := os.read(self._answers, 1 << 20):
                self._read += chunk
            gone = True
        except BlockingIOError:
            pass
        whole = _whole(self._read)
        if whole is None and gone:
            self.end()
            raise LoadingEndedError(_how(self._status))
        return whole

    def over(self) -> bool:
        """Whether it is gone, after its answer; one that does not end by itself is ended."""
        now = time.monotonic()
        if self._ending_since is None:
            self._ending_since = now
        if self.alive() and now - self._ending_since < END_S:
            return False
        self.end()
        return True

    def end(self) -> None:
        """Ends it with all that it has started."""
        if self._orders is not None:
            os.close(self._orders)
            self._orders = None
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self._status is None:
            _, self._status = os.waitpid(self._pid, 0)

    def alive(self) -> bool:
        """Whether its process runs."""
        # Not reaped: until `end` has ended the group, its number must stay taken.
        return self._status is None and os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _whole(data: bytearray) -> dict[str, Any] | None:
    """The answer, with `built` in it if it loaded."""
    if len(data) < 8:
        return None
    end = 8 + int.from_bytes(data[:8], "big")
    if len(data) < end:
        return None
    answer: dict[str, Any] = json.loads(data[8:end])
    if len(data) < end + sum(size for _, size in answer["blobs"]):
        return None
    blobs = {}
    for name, size in answer["blobs"]:
        blobs[name] = bytes(data[end : end + size])
        end += size
    if "spec" in answer:
        answer["built"] = Built(answer["spec"], blobs, answer["warnings"])
    return answer


def _how(status: int | None) -> str:
    if status is None:
        return "it ended"
    code = os.waitstatus_to_exitcode(status)
    return f"its process ended by signal {-code}" if code < 0 else f"its process ended with status {code}"
