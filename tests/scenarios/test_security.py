"""Scenarios 44 and 46: what a stock start opens and to whom, and what a hostile neighbour on the machine gets."""

import contextlib
import fcntl
import os
import pickle
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from record import record

from machine import Load, Machine, eventually

HELLO = """
import os
from eagleray import serve

@serve.deployment
class Hello:
    async def __call__(self, request):
        return f"{os.getpid()} {len(await request.body())}"

app = Hello.bind()
"""
NOBODY = 65534
CLAIM_PAGE = "/memfd:eagleray-claims"
F_GET_SEALS, F_SEAL_SHRINK, F_SEAL_GROW = 1034, 2, 4
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

# Run as another user: tries every socket, and says of each what it got.
FOREIGN = """
import os, socket, sys
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
for path in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(20)
        try:
            probe.connect(path)
            probe.sendall({words!r})
            got = probe.recv(64)
            print("answered" if got else "closed")
        except (ConnectionResetError, BrokenPipeError):
            print("closed")
        except OSError as error:
            print(type(error).__name__)
"""


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def control_frame(payload: bytes, kind: int = 13, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return size.to_bytes(4, "little") + bytes([kind]) + bytes(27) + payload


def sockets_of(machine: Machine) -> list[Path]:
    return sorted(machine.runtime.glob("default/**/*.sock"))


def own_pids(machine: Machine) -> set[int]:
    return machine.pids("eagleray: ")


def descriptors(pids: set[int], kind: str) -> dict[str, Path]:
    """Open files of these processes whose target begins with `kind`, by target, with a path that opens each."""
    found = {}
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(path.readlink())
                if target.startswith(kind):
                    found[f"{target} {path.stat().st_ino}"] = path
    return found


def mapped(pids: set[int], name: str) -> list[Path]:
    """What these processes have mapped under this name."""
    found = []
    for pid in pids:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if name in line:
                # Without the zeros that the kernel puts before a number here and not there.
                start, end = (int(number, 16) for number in line.split()[0].split("-"))
                found.append(Path(f"/proc/{pid}/map_files/{start:x}-{end:x}"))
    return found


def listening(pids: set[int]) -> set[str]:
    """Local addresses, in hex, of TCP sockets that listen and belong to these processes."""
    inodes = {target.split("[")[1].split("]")[0] for target in descriptors(pids, "socket:[")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1])
    return found


def foreign(paths: list[Path], words: bytes = b"") -> list[str]:
    words = words or control_frame(b"\x0a\x00")
    code = FOREIGN.format(nobody=NOBODY, words=words)
    ran = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_a_stock_start_listens_on_loopback_only_and_lets_nobody_else_in(machine: Machine) -> None:
    with umask(0):
        address = machine.start_resident()
        assert machine.serve(HELLO).end() == 0
    with Load(address, threads=1) as load:
        load.wait_for_more(10)
        port = int(address.rpartition(":")[2])
        control = int(machine.nodes()[0]["control_address"].rpartition(":")[2])
        found = listening(own_pids(machine))
        assert found == {f"0100007F:{port:04X}", f"0100007F:{control:04X}"}, "ingress and control port on 127.0.0.1"
        pages = mapped(own_pids(machine), CLAIM_PAGE)
        assert pages, "router and replica share a page"
        # Only root may open what another process has mapped.
        for path in pages if os.geteuid() == 0 else []:
            with path.open("rb") as file:
                seals = fcntl.fcntl(file, F_GET_SEALS)
            wanted = F_SEAL_SHRINK | F_SEAL_GROW
            assert seals & wanted == wanted, f"{path}: sealed against shrinking and growing"
    files = directories = 0
    for path in [machine.runtime, *machine.runtime.rglob("*")]:
        facts = path.lstat()
        assert facts.st_uid == os.geteuid()
        if stat.S_ISDIR(facts.st_mode):
            directories += 1
            # The test's own folder of state is made by nobody; what is in it is ours.
            if path != machine.runtime / "state":
                assert stat.S_IMODE(facts.st_mode) == 0o700, path
        elif stat.S_ISLNK(facts.st_mode):
            # Its own mode means nothing; where it leads counts.
            assert (path.parent, path.name) == (machine.runtime / "default", "logs")
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        else:
            files += 1
            assert stat.S_IMODE(facts.st_mode) == 0o600, path
    record(
        44,
        "stock start under umask 000",
        {
            "TCP listeners": 2,
            "on other than loopback": 0,
            "directories 0700": directories,
            "files and sockets 0600": files,
        },
    )


@as_root
def test_another_user_gets_nowhere_even_when_the_directory_is_opened_up(machine: Machine) -> None:
    address = machine.start_resident()
    assert machine.serve(HELLO).end() == 0
    sockets = sockets_of(machine)
    assert len(sockets) == 4, "node, controller, its REST, replica"
    assert foreign(sockets) == ["PermissionError"] * 4
    for path in [machine.runtime, *machine.runtime.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    for path in sockets:
        path.chmod(0o666)
    with Load(address, threads=1) as load:
        load.wait_for_more(10)
        assert foreign(sockets) == ["closed"] * 4, "the peer's user id is looked at too"
        load.wait_for_more(10)
    assert set(load.outcomes) == {"200"}
    record(44, "another user tries every socket", {"sockets": 4, "permission denied": 4, "answered when opened up": 0})


def test_listening_everywhere_warns_once(machine: Machine) -> None:
    started = machine.cli("start", "--http-host", "0.0.0.0", "--http-port", "0")
    assert started.returncode == 0
    assert started.stderr.count("every machine that can reach") == 1
    assert machine.logs("node.log").count("every machine that can reach") == 1
    script = machine.script(
        """
        from eagleray import serve

        @serve.deployment
        def hello():
            return "hello"

        serve.start(http_options={"host": "0.0.0.0"})
        serve.run(hello.bind())
        """,
        environment={"EAGLERAY_NODE_NAME": "other"},
    )
    assert script.wait() == 0
    assert script.output.count("every machine that can reach") == 1, script.output


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, (f"touch {self.marker}",))


def test_a_hostile_neighbour_changes_nothing(machine: Machine) -> None:
    address = machine.start_resident()
    assert machine.serve(HELLO).end() == 0
    sockets, before = sockets_of(machine), own_pids(machine)
    marker = machine.work / "exploded"
    bomb = pickle.dumps(Bomb(marker))
    # HELLO, then a request of an unknown shape.
    hello = (0).to_bytes(4, "little") + bytes([1]) + bytes(15) + (1).to_bytes(4, "little") + bytes(8)
    attacks = {
        "a pickle": bomb,
        "a pickle as a message": control_frame(bomb),
        "a pickle as a message, many times": control_frame(bomb) * 50,
        "a length of four gigabytes": control_frame(b"", length=0xFFFFFFFF),
        "a message that never ends": control_frame(b"x" * 1000, length=1 << 20),
        "a frame of an unknown kind": control_frame(bomb, kind=99),
        "HTTP": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "a greeting and junk": hello + os.urandom(4096),
        "a greeting and a pickle as a request": hello + control_frame(bomb, kind=2),
        "junk": os.urandom(64 * 1024),
        "nothing": b"",
    }
    closed = 0
    with Load(address, method="POST", threads=1) as load:
        load.wait_for_more(10)
        for path in sockets:
            for name, attack in attacks.items():
                with socket.socket(socket.AF_UNIX) as peer:
                    peer.settimeout(20)
                    peer.connect(str(path))
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        peer.sendall(attack)
                        peer.shutdown(socket.SHUT_WR)
                        # What is not understood may be answered with an error; then the connection ends.
                        while peer.recv(65536):
                            pass
                    closed += 1
                assert not marker.exists(), f"{path.name}: {name}"
        import http.client

        for kind in ("application/python-pickle", "application/octet-stream", "application/x-python-serialize"):
            connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
            connection.request("POST", "/", body=bomb, headers={"content-type": kind, "x-pickle": "1"})
            assert connection.getresponse().read().split()[1] == str(len(bomb)).encode(), "a body is bytes"
            connection.close()
        load.wait_for_more(10)
    assert not marker.exists()
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert own_pids(machine) == before, "no process ended or was started"
    assert machine.cli("status").returncode == 0
    eventually(lambda: not marker.exists(), "nothing explodes later")
    record(
        46,
        "pickles and junk on every socket, by a process of the same user",
        {"sockets": len(sockets), "attacks": closed, "closed": closed, "pickles loaded": 0, "failed requests": 0},
    )
