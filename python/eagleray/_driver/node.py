"""Finds the user's resident node, or starts one that belongs to this process and ends with it.

A node that we start holds the read end of a pipe whose write end is ours: however this process ends, the node sees
it. At an orderly exit we wait until it is gone, so that its port is free when the shell prompt is back.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import stat
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eagleray import _routers

if TYPE_CHECKING:
    from eagleray.serve.config import HTTPOptions

#: A node of ours answers in a few hundred milliseconds; a machine this slow has another problem.
START_TIMEOUT_S = 60.0
#: Longer than the default grace of replicas (20 s), after which the node kills them.
END_TIMEOUT_S = 30.0
#: An end that takes longer says what it waits for.
END_QUIET_S = 1.0


@dataclass
class Address:
    """Where a node is, and the process that we started for it, if we did."""

    socket_path: str
    own: Launched | None = None


def runtime_root() -> str:
    """The directory that holds the run directories of this user's nodes."""
    explicit = os.environ.get("EAGLERAY_RUNTIME_DIR")
    if explicit:
        return explicit
    session = os.environ.get("XDG_RUNTIME_DIR")
    if session and os.path.isdir(session):  # noqa: PTH112
        return f"{session}/eagleray"
    return f"/tmp/eagleray-{os.getuid()}"


def state_root() -> str:
    """The directory that holds logs, code and checkpoints of this user's nodes, as long as it can be written."""
    base = os.environ.get("XDG_STATE_HOME") or f"{os.environ.get('HOME', '')}/.local/state"
    return f"{base}/eagleray" if base.startswith("/") else f"/var/tmp/eagleray-{os.getuid()}"


def find_resident() -> Address | None:
    """The resident node that `eagleray start` left running, if it answers."""
    name = os.environ.get("EAGLERAY_NODE_NAME") or "default"
    directory = f"{runtime_root()}/{name}"
    path = f"{directory}/node.sock"
    try:
        facts = os.stat(directory)  # noqa: PTH116
        if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
            return None
        os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    import socket
    import struct

    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.settimeout(5)
            probe.connect(path)
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
    # Whoever listens there would get the application, code and all.
    if struct.unpack("3i", credentials)[1] not in (os.getuid(), 0):
        return None
    return Address(path)


def executable() -> str:
    """The native executable: named by `EAGLERAY_BIN`, else beside this Python, else on PATH."""
    explicit = os.environ.get("EAGLERAY_BIN")
    if explicit:
        if os.access(explicit, os.X_OK):
            return explicit
        raise RuntimeError(f"EAGLERAY_BIN names {explicit!r}, which is not an executable file")
    beside = os.path.join(os.path.dirname(sys.executable), "eagleray")  # noqa: PTH118, PTH120
    found = beside if os.access(beside, os.X_OK) else shutil.which("eagleray")
    if not found:
        raise RuntimeError(
            f"the eagleray executable is neither beside {sys.executable} nor on PATH; it comes with the package: "
            "install eagleray with pip into this environment, or name it in EAGLERAY_BIN"
        )
    return found


def start(options: HTTPOptions, resources: dict[str, Any] | None = None) -> Address:
    """Starts a node and waits until it answers. `resources`: what it has, as far as it is stated."""
    return launch(options, resources).ready()


def launch(options: HTTPOptions, resources: dict[str, Any] | None = None) -> Launched:
    """Starts a node of this process's own; `ready` waits for it."""
    path = executable()
    owner_read, owner_write = os.pipe()
    ready_read, ready_write = os.pipe()
    for descriptor in (owner_read, ready_write):
        os.set_inheritable(descriptor, True)
    arguments = [
        path, "node",
        "--name", f"script-{os.getpid()}",
        "--owner-pid", str(os.getpid()),
        "--owner-fd", str(owner_read),
        "--ready-fd", str(ready_write),
    ]  # fmt: skip
    if options.disabled:
        arguments.append("--no-http")
    else:
        arguments += ["--http-host", str(options.host), "--http-port", str(options.port)]
    if options.root_path:
        arguments += ["--http-root-path", options.root_path]
    if options.request_timeout_s is not None:
        arguments += ["--http-request-timeout-s", str(options.request_timeout_s)]
    if options.keep_alive_timeout_s != 90:
        arguments += ["--http-keep-alive-timeout-s", str(options.keep_alive_timeout_s)]
    for network in options.trusted_proxies:
        arguments += ["--http-trusted-proxy", network]
    for host in options.allowed_hosts:
        arguments += ["--http-allowed-host", host]
    for key, number in options.limits.items():
        arguments += ["--http-limit", f"{key}={number}"]
    for name in ("certfile", "keyfile", "ca_certs"):
        file = getattr(options, f"ssl_{name}")
        if file is not None and not options.disabled:
            arguments += [f"--http-ssl-{name.replace('_', '-')}", file]
    for name, amount in (resources or {}).items():
        arguments += [f"--{name.replace('_', '-')}", json.dumps(amount)]
    try:
        pid = os.posix_spawn(
            path,
            arguments,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)],
            setsid=True,  # Ctrl-C in the terminal is for the script, which ends its node in order
            setsigdef=[signal.SIGPIPE],
        )
    except BaseException:
        os.close(owner_write)
        os.close(ready_read)
        raise
    finally:
        os.close(owner_read)
        os.close(ready_write)
    return Launched(pid, owner_write, ready_read)


class Launched:
    """A node process of ours."""

    def __init__(self, pid: int, owner_fd: int, ready_fd: int) -> None:
        self.pid = pid
        self._owner_fd = owner_fd
        self._ready_fd = ready_fd
        self._owner_pid = os.getpid()
        self._ended = False
        atexit.register(self._end_at_exit)

    def ready(self) -> Address:
        """Waits for the node's word.

        Raises:
            RuntimeError: it did not start; the text says why and what to do.
        """
        try:
            answer = self._read_answer()
            if not answer.get("ok"):
                raise RuntimeError(answer.get("message") or "the node did not start, and did not say why")
        except BaseException:
            self.end()
            raise
        if answer.get("warning"):
            from eagleray.serve._log import logger

            logger().warning("%s", answer["warning"])
        return Address(answer["node_socket"], self)

    def _read_answer(self) -> dict[str, Any]:
        data = b""
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            while not data.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self._ready_fd], [], [], left)[0]:
                    raise RuntimeError(f"the node did not start within {START_TIMEOUT_S:.0f} s")
                chunk = os.read(self._ready_fd, 65536)
                if not chunk:
                    break
                data += chunk
        finally:
            os.close(self._ready_fd)
        try:
            answer = json.loads(data)
        except ValueError:
            raise RuntimeError(
                f"the node ended while it started ({self._ending()}); its log, if it came to one, is in "
                f"{state_root()}/script-{os.getpid()}-*/logs"
            ) from None
        return answer if isinstance(answer, dict) else {}

    def _ending(self) -> str:
        with contextlib.suppress(OSError):
            _, status = os.waitpid(self.pid, 0)
            self.pid = 0
            code = os.waitstatus_to_exitcode(status)
            return f"exit status {code}" if code >= 0 else f"signal {-code}"
        return "no status"

    def alive(self) -> bool:
        """Whether the process runs."""
        if self._ended or self.pid == 0 or self._owner_pid != os.getpid():
            return False
        try:
            pid, _ = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pid = self.pid
        if pid:
            self.pid = 0
        return not pid

    def _announce_wait(self) -> None:
        from eagleray.serve._log import logger

        logger().info(
            "waiting for requests that run still, %.0f s at most; after another Ctrl-C the node ends by itself",
            END_TIMEOUT_S,
        )

    def _end_at_exit(self) -> None:
        # Whoever asks twice does not wait; the node goes on ending by itself.
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            self.end()

    def end(self) -> None:
        """Ends the node in order and waits for it. In a forked child it does nothing: the node is the parent's."""
        if self._ended or self._owner_pid != os.getpid():
            return
        self._ended = True
        atexit.unregister(self._end_at_exit)
        # Calls that go on would keep their replicas from draining.
        _routers.close_all()
        os.close(self._owner_fd)
        began = time.monotonic()
        announced = False
        pause = 0.001
        while self.pid:
            try:
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    self.pid = 0
                    break
            except ChildProcessError:
                self.pid = 0
                break
            passed = time.monotonic() - began
            if passed > END_TIMEOUT_S:
                break  # it goes on ending by itself
            if passed > END_QUIET_S and not announced:
                announced = True
                self._announce_wait()
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
