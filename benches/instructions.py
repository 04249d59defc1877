"""Instructions that the proxy spends on a request, with one deployment known and with a thousand, and without metrics.

The shipped executable runs as a proxy under callgrind; this file plays the node (a control connection with one
snapshot) and all replicas (sockets that answer at once). One connection sends requests one after the other, once few
and once many: the difference, divided, is the cost of one, without start and snapshot. Skipped without valgrind.
"""

import contextlib
import fcntl
import json
import mmap
import os
import resource
import selectors
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from limit_replica import END_HEAD_DONE, FRAME, RESPONSE, response_payload
from measure import LOAD, CellFailed
from systems import baseline_python, own_python

HELLO, REQUEST, CONTROL = 1, 2, 13
VERSION = 1
SLOTS = 64
MAX_ONGOING = 32
F_ADD_SEALS, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW = 1033, 1, 2, 4
STARTED = 2
FEW, MANY = 500, 5500
APPLICATION = "bench"
# As `ProxyOptions` of the node has them.
PROXY_OPTIONS = {"root_path": "", "request_timeout_s": None, "keep_alive_timeout_s": 90, "limits": {}}

# As `Limits` of crates/logs has them: nothing is turned over in a run.
LOG_LIMITS = {"file_bytes": 1 << 30, "kept_files": 1, "directory_bytes": 1 << 32, "replica_files": 1}


# Protobuf, as much of it as one snapshot needs.


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number_field(tag, number):
    return varint(tag << 3) + varint(number)


def bytes_field(tag, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(tag << 3 | 2) + varint(len(value)) + value


def key(name):
    return bytes_field(1, APPLICATION) + bytes_field(2, name)


def deployment_target(name, socket_path):
    """`DeploymentTarget` with one version and one replica, as `control.rs` numbers its fields."""
    replica = bytes_field(1, name) + bytes_field(2, str(socket_path)) + number_field(3, 1)
    version = bytes_field(1, "v1") + bytes_field(2, "r1") + number_field(3, 1) + number_field(4, MAX_ONGOING)
    version += number_field(6, 64 * 1024 * 1024) + bytes_field(7, replica)
    no_queue_limit = number_field(2, 1)  # -1 in zigzag
    return bytes_field(1, key(name)) + no_queue_limit + number_field(3, 503) + bytes_field(5, version)


def snapshot(sockets):
    """An encoded `ProxyCommand` with an `Update` that tells of every deployment and its route."""
    routes = b"".join(bytes_field(1, bytes_field(1, f"/{name}") + bytes_field(2, key(name))) for name in sockets)
    update = number_field(1, 1) + number_field(2, 1) + number_field(3, 1)
    update += b"".join(bytes_field(4, deployment_target(name, path)) for name, path in sockets.items())
    update += bytes_field(6, routes)
    return bytes_field(1, update)


def frame(kind, payload, *, flags=0, sequence=0, slot=0, a=0, b=0, c=0):
    return FRAME.pack(len(payload), kind, flags, 0, sequence, slot, a, b, c) + payload


class Replicas(threading.Thread):
    """Every replica at once: accepts, says HELLO with a claim page, answers each request."""

    def __init__(self, sockets):
        super().__init__(daemon=True)
        self.selector = selectors.DefaultSelector()
        self.answer = response_payload()
        self.opened = []
        for name, path in sockets.items():
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.listen()
            self.opened.append(listener)
            self.selector.register(listener, selectors.EVENT_READ, (self.accept, name))
        self.ended = False

    def run(self):
        while not self.ended:
            for ready, _ in self.selector.select(0.1):
                handler, detail = ready.data
                handler(ready.fileobj, detail)

    def accept(self, listener, name):
        connection, _ = listener.accept()
        self.opened.append(connection)
        self.selector.register(connection, selectors.EVENT_READ, (self.read, [name, b"", None]))

    def read(self, connection, state):
        data = connection.recv(65536)
        if not data:
            self.selector.unregister(connection)
            return
        data = state[1] + data
        while len(data) >= FRAME.size:
            length, kind, _, _, sequence, slot, *_ = FRAME.unpack_from(data)
            if len(data) < FRAME.size + length:
                break
            data = data[FRAME.size + length :]
            if kind == HELLO:
                state[2] = self.say_hello(connection, state[0])
            elif kind == REQUEST:
                struct.pack_into("<Q", state[2], 8 * (1 + slot), sequence << 2 | STARTED)
                head = frame(RESPONSE, self.answer, flags=END_HEAD_DONE, sequence=sequence, slot=slot)
                connection.sendall(head)
        state[1] = data

    def say_hello(self, connection, name):
        page = os.memfd_create("claims", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(page, 8 * (1 + SLOTS))
        fcntl.fcntl(page, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)
        hello = frame(HELLO, name.encode(), a=VERSION, b=SLOTS, c=MAX_ONGOING)
        socket.send_fds(connection, [hello], [page])
        mapped = mmap.mmap(page, 8 * (1 + SLOTS))
        os.close(page)
        return mapped

    def end(self):
        self.ended = True
        self.join()
        for opened in self.opened:
            opened.close()


def count(python, deployments, requests, metrics):
    """Instructions of a proxy that knows so many deployments and answers so many requests of one of them.

    The executable is the one beside `python`. Without a directory for metrics it counts none.
    """
    scratch = Path(tempfile.mkdtemp(prefix="eagleray-count-"))
    if metrics:
        (scratch / "metrics").mkdir()
    # All of one length: a longer path would be a difference by itself.
    names = [f"d{number:04}" for number in range(deployments)]
    sockets = {name: scratch / f"{name}.s" for name in names}
    replicas = Replicas(sockets)
    replicas.start()
    listener = socket.create_server(("127.0.0.1", 0))
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    out = scratch / "callgrind.out"
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(python.parent / "eagleray")]
    child_options = {
        "logs": {"directory": str(scratch), "limits": LOG_LIMITS, "encoding": "Text", "terminal": False},
        "run_directory": str(scratch),
        "blob_directory": str(scratch),
        "checkpoint": str(scratch / "checkpoint"),
        "proxy": PROXY_OPTIONS,
        "node_id": "bench",
        "control_address": "",
        "http_options": {},
    }
    environment = {
        **os.environ,
        "EAGLERAY_ROLE": "proxy",
        "EAGLERAY_NODE": "bench",
        "EAGLERAY_RUN_DIR": str(scratch),
        "EAGLERAY_LISTENERS": f"http={listener.fileno()}",
        "EAGLERAY_LISTEN_FD": str(listener.fileno()),  # For an earlier Eagleray.
        "EAGLERAY_CONTROL_FD": str(theirs.fileno()),
        "EAGLERAY_OPTIONS": json.dumps(child_options),
    }
    errors = scratch / "stderr"
    with errors.open("wb") as output:
        proxy = subprocess.Popen(
            valgrind, env=environment, pass_fds=(listener.fileno(), theirs.fileno()), stdout=output, stderr=output
        )
    theirs.close()
    try:
        ours.sendall(frame(CONTROL, snapshot(sockets)))
        ours.sendall(frame(CONTROL, bytes_field(3, b"")))  # Accept
        load = [LOAD, f"127.0.0.1:{listener.getsockname()[1]}", "--connections", 1, "--requests", requests]
        load += ["--path", f"/{names[len(names) // 2]}"]
        wait_for_route(listener.getsockname()[1], load[-1], proxy, errors)
        report = json.loads(
            subprocess.run([str(part) for part in load], capture_output=True, timeout=300, check=True).stdout
        )
        if report["non2xx"] or report["errors"]:
            raise CellFailed(f"the proxy under callgrind did not answer every request: {report}")
        ours.sendall(frame(CONTROL, bytes_field(2, b"")))  # Drain
        with contextlib.suppress(subprocess.TimeoutExpired):
            proxy.wait(10)
        return total(proxy, out)
    finally:
        proxy.kill()
        proxy.wait()
        ours.close()
        listener.close()
        replicas.end()
        shutil.rmtree(scratch, ignore_errors=True)


def wait_for_route(port, path, proxy, errors):
    """Until the snapshot is applied and the replica is connected."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if proxy.poll() is not None:
            raise CellFailed(f"the proxy ended: {errors.read_text(errors='replace')[-500:]}")
        probe = [str(part) for part in (LOAD, f"127.0.0.1:{port}", "--connections", 1, "--requests", 1, "--path", path)]
        # Our own end of the listener keeps connections open that a proxy which has ended never takes.
        with contextlib.suppress(subprocess.TimeoutExpired):
            answered = subprocess.run(probe, capture_output=True, timeout=20, check=False)
            if answered.returncode == 0 and json.loads(answered.stdout)["non2xx"] == 0:
                return
        time.sleep(0.2)
    raise CellFailed("the proxy under callgrind never answered")


def total(proxy, out):
    """The number of instructions, from callgrind's file; SIGTERM when the proxy did not end by itself."""
    if proxy.poll() is None:
        proxy.terminate()
        proxy.wait(30)
    for line in out.read_text(errors="replace").splitlines():
        if line.startswith(("summary:", "totals:")):
            return int(line.split()[1])
    raise CellFailed("callgrind wrote no total")


def per_request(python, deployments, metrics=True):
    many, few = (count(python, deployments, requests, metrics) for requests in (MANY, FEW))
    return (many - few) / (MANY - FEW)


def counted_before():
    """Of the baseline; None without one, or when it is too old to be started from here."""
    if baseline_python() is None:
        return None
    try:
        return per_request(baseline_python(), 1)
    except CellFailed as error:
        print(f"the baseline was not counted: {error}", flush=True)
        return None


def measure():
    """Instructions a request with one and with a thousand deployments, and their ratio; or why not.

    Also without metrics, and the ratio to that. With a baseline also its instructions with one deployment, as `before`.
    """
    if shutil.which("valgrind") is None:
        return {"skipped": "valgrind is not installed"}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        one, thousand = per_request(own_python(), 1), per_request(own_python(), 1000)
        without = per_request(own_python(), 1, metrics=False)
        before = counted_before()
    except (CellFailed, OSError, subprocess.SubprocessError) as error:
        return {"skipped": f"failed: {error}"}
    counted = {"one": one, "thousand": thousand, "ratio": thousand / one}
    counted |= {"without_metrics": without, "metrics": one / without}
    if before:
        counted |= {"before": before, "to_before": one / before}
    return counted


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
