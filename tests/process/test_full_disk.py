"""Writes that fail: lines of logs are lost and counted, deploys are refused, and nothing else happens."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control import Control
from machine import Load, Machine, eventually, request

APP = """
import os
from eagleray import serve

@serve.deployment(num_replicas=2)
class App:
    async def __call__(self, request):
        print("x" * 1500)
        print("y" * 1500)
        return str(os.getpid())

app = App.bind()
"""
ROLES = ("replica default/App", "proxy", "controller")


def status_of(address: str) -> int:
    try:
        return request("GET", address + "/").status
    except OSError:
        return 0


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def logs_of(machine: Machine, name: str = "default") -> Path:
    (path,) = (machine.runtime / "state" / "eagleray").glob(f"{name}*/logs")
    return path


def everything_dies_and_comes_back(machine: Machine, address: str) -> None:
    """Each process of a node but the node itself is killed; nothing of it is seen by clients for long."""
    (node,) = machine.pids("eagleray: node")
    for role in ROLES:
        before = machine.pids(f"eagleray: {role}")
        kill(min(before))
        eventually(
            lambda role=role, before=before: (
                len(now := machine.pids(f"eagleray: {role}")) == len(before) and now != before
            ),
            f"another {role} is there",
        )
        eventually(lambda: status_of(address) == 200, f"serves after the death of a {role}")
    assert machine.pids("eagleray: node") == {node}


def test_a_node_whose_logs_cannot_be_written_lives_and_says_so_and_heals(machine: Machine) -> None:
    directory = machine.runtime / "state/eagleray/default/logs"
    directory.mkdir(parents=True, mode=0o700)
    for level in (directory, directory.parent, directory.parent.parent):
        level.chmod(0o700)
    full = [directory / f"{name}.log" for name in ("node", "proxy", "controller", "access")]
    for path in full:
        path.symlink_to("/dev/full")
    address = machine.start_resident()
    machine.serve(APP)
    everything_dies_and_comes_back(machine, address)
    said = eventually(
        lambda: said if "Lines of logs are lost" in (said := machine.cli("status").stderr) else "",
        "the status says that lines are lost",
    )
    assert "node.log" in said, said
    assert "No space left on device" in said, said
    for path in full:
        path.unlink()

    kill(min(machine.replicas()))  # the node logs it

    eventually(lambda: status_of(address) == 200, "serves")
    node_log, access_log = full[0], full[-1]
    eventually(
        lambda: node_log.exists() and "lines lost: No space left on device" in node_log.read_text(),
        "lines are written again, after the number of those that are missing",
    )
    eventually(lambda: status_of(address) == 200 and access_log.exists(), "access lines are written again")
    eventually(lambda: "lost" not in machine.cli("status").stderr, "the status is quiet again")
    assert "panicked" not in machine.logs()


def test_a_log_that_nobody_takes_holds_nobody(machine: Machine) -> None:
    directory = machine.runtime / "state/eagleray/default/logs"
    directory.mkdir(parents=True, mode=0o700)
    for level in (directory, directory.parent, directory.parent.parent):
        level.chmod(0o700)
    fifos = [directory / f"{name}.log" for name in ("node", "proxy", "controller", "access")]
    readers = []
    for path in fifos:
        os.mkfifo(path, 0o600)
        readers.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    try:
        address = machine.start_resident()
        machine.serve(APP)
        with Load(address, threads=4) as load:
            load.wait_for_more(3000)  # more access lines than a pipe holds
        assert set(load.outcomes) == {"200"}, load.outcomes
        everything_dies_and_comes_back(machine, address)
    finally:
        for path, reader in zip(fifos, readers, strict=True):
            os.close(reader)
            path.unlink()


def test_files_that_may_not_grow_further_are_turned_over_and_end_nothing(machine: Machine) -> None:
    limit = 128 * 1024
    text = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n" + APP
    script = machine.serve(text)
    address = script.address
    with Load(address, threads=2) as load:
        load.wait_for_more(300)  # 900 kB of replicas' lines
    assert set(load.outcomes) == {"200"}, load.outcomes
    everything_dies_and_comes_back(machine, address)
    directory = logs_of(machine, "script-")
    replica_logs = eventually(lambda: sorted(directory.glob("replica_*.log.1")), "logs of replicas were turned over")
    assert all(path.stat().st_size <= limit for path in directory.iterdir())
    assert replica_logs
    # A deploy that is too large is refused, whole; the next one is taken.
    refused = script.ask("serve.run(App.bind(os.urandom(300_000)))")
    assert refused["error"] == "OSError", refused
    for words in ("File too large", "nothing was deployed", str(directory.parent / "blobs")):
        assert words in refused["text"], refused
    assert all(not path.name.startswith(".") for path in (directory.parent / "blobs").iterdir()), "no half is left"
    assert status_of(address) == 200
    assert script.do('serve.run(App.options(num_replicas=1).bind(), name="other", route_prefix="/other") and 1') == 1


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 8 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting takes root, and mount(8)")
    path = Path(tempfile.mkdtemp(prefix="er-disk-", dir="/tmp"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        path.rmdir()
        pytest.skip(f"nothing can be mounted here: {mounted.stderr!r}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)
    path.rmdir()


def fill(disk: Path) -> Path:
    path = disk / "fill"
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


@pytest.mark.parametrize("variable", ["XDG_STATE_HOME", "EAGLERAY_RUNTIME_DIR"])
def test_a_disk_that_fills_up_costs_nothing_but_lines_and_deploys(
    machine: Machine, small_disk: Path, variable: str
) -> None:
    machine.environment[variable] = str(small_disk)
    if variable == "EAGLERAY_RUNTIME_DIR":
        machine.runtime, before = small_disk, machine.runtime
        shutil.rmtree(before, ignore_errors=True)
        machine.environment["XDG_STATE_HOME"] = str(small_disk / "state")
    script = machine.serve(APP)
    address = script.address
    filled = fill(small_disk)
    with Load(address, threads=2) as load:
        load.wait_for_more(100)
    assert set(load.outcomes) == {"200"}, load.outcomes
    everything_dies_and_comes_back(machine, address)
    refused = script.ask("serve.run(App.bind(os.urandom(100_000)))")
    assert "No space left on device" in refused["text"], refused
    assert str(small_disk) in refused["text"], refused
    filled.unlink()
    assert script.do("serve.run(App.options(num_replicas=1).bind()) and 1") == 1
    eventually(lambda: status_of(address) == 200, "serves")

    def counted() -> bool:
        status_of(address)
        return any(
            "lines lost: No space left on device" in path.read_text(errors="replace")
            for path in small_disk.glob("**/logs/*.log")
        )

    eventually(counted, "the lines that are missing are counted")

    def sheets_of_the_dead() -> list[str]:
        names = [path.name for path in small_disk.glob("*/metrics/*")]
        return [name for name in names if not Path("/proc", name.split("-")[-2]).exists()]

    # Their node removes them, which makes room.
    eventually(lambda: not sheets_of_the_dead(), "what the dead have counted is taken over")
    fill(small_disk)
    other = machine.script(APP + "\nserve.run(app)\n", name="other.py")
    assert other.wait() != 0
    assert "No space left on device" in other.output, other.output
    assert "make room" in other.output, other.output
    filled.unlink()


def test_series_stop_on_a_full_disk_and_go_on_when_there_is_room(machine: Machine, small_disk: Path) -> None:
    machine.environment["XDG_STATE_HOME"] = str(small_disk)
    script = machine.serve(APP)
    control = Control(machine, owner=script.pid)

    def ask(query: str) -> dict[str, Any]:
        answer = control.get(f"/api/v1/series?{query}")
        assert answer.status == 200, answer.text
        return dict(answer.json())

    def is_measured() -> bool:
        return sum(ask("from=-8&to=-2")["covered_s"]) > 0

    eventually(is_measured, "series are kept", 30)
    filled = fill(small_disk)
    eventually(lambda: status_of(script.address) == 200 and not is_measured(), "series stop, and requests do not", 30)
    filled.unlink()
    eventually(is_measured, "series go on", 30)
    assert sum(one["total"]["requests"] for one in ask("from=-600&deployment=App")["series"]) > 0
    (log,) = small_disk.glob("**/logs/node.log")
    eventually(lambda: log.read_text(errors="replace").count("can be written again") == 1, "it says so, once")
