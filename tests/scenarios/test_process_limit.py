"""Scenario 35, the part of process ids: none is left, so nothing can be started; what runs serves, and says why."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from record import record

from machine import Load, Machine, eventually

APP = """
import os
from eagleray import serve

@serve.deployment(num_replicas=2)
class App:
    async def __call__(self, request):
        return str(os.getpid())

app = App.bind()
"""


class ControlGroup:
    """A control group of the test's own that limits processes and threads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, pids: set[int]) -> None:
        for pid in pids:
            (self.path / "cgroup.procs").write_text(str(pid))

    def limit(self, most: str) -> None:
        (self.path / "pids.max").write_text(most)


@pytest.fixture
def group() -> Iterator[ControlGroup]:
    for root in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        path = root / f"eagleray-test-{os.getpid()}"
        try:
            path.mkdir()
        except OSError:
            continue
        if (path / "pids.max").exists():
            break
        path.rmdir()
    else:
        pytest.skip("no control group that limits processes can be made here (it takes root and cgroups)")
    yield ControlGroup(path)
    # The test's processes are gone, which the kernel may notice a moment later.
    eventually(lambda: not (path / "cgroup.procs").read_text(), "the group is empty")
    path.rmdir()


def test_with_no_process_left_the_rest_serves_and_it_recovers_by_itself(group: ControlGroup, machine: Machine) -> None:
    script = machine.serve(APP)
    before = machine.replicas()
    victim = min(before)
    group.take(machine.pids("eagleray: "))
    status = 'serve.status().applications["default"].deployments["App"]'
    with Load(script.address, threads=2) as load:
        load.wait_for_more()
        group.limit("0")
        os.kill(victim, signal.SIGKILL)
        message = eventually(
            lambda: said if "limit of processes" in (said := script.do(f"{status}.message")) else "",
            f"the status says why: {script.do(f'{status}.message')}",
        )
        assert "pids.max" in message, message
        assert "tried again" in message, message
        assert machine.replicas() == before - {victim}
        load.wait_for_more()
        controller = machine.one("eagleray: controller$")
        # No thread can be made either: what needs one has it already.
        more = "serve.run(App.options(num_replicas=3).bind())"
        script.do(f'__import__("threading").Thread(target=lambda: {more}, daemon=True).start()')
        eventually(lambda: script.do(f"{status}.status") != "HEALTHY", "the deploy is taken and stored")
        group.limit("max")
        eventually(lambda: len(machine.replicas()) == 3, "it recovers")
        eventually(lambda: script.do(f"{status}.status") == "HEALTHY", "and says so")
        load.wait_for_more()
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert machine.one("eagleray: controller$") == controller, "nothing of ours died of it"
    assert before - {victim} <= machine.replicas(), "the old one is there all the while"
    record(
        35, "no process id left while a replica dies", {"requests": load.count(), "failed": 0, "recovered": "by itself"}
    )
