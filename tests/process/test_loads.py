"""The controller knows what every process has to do of a deployment that follows its load."""

import os
import signal
import textwrap

from control import Control
from machine import Answer, Machine, Script, eventually
from under_way import Requests, load, wait_for

APP = """
import asyncio
from pathlib import Path
from eagleray import serve

@serve.deployment(
    max_ongoing_requests=2,
    autoscaling_config={"min_replicas": 1, "max_replicas": 1, "target_ongoing_requests": 1},
)
class Slow:
    async def __call__(self, request):
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        return "done"

calls = []
app = Slow.bind()
"""

CALLER = """
import time
from eagleray import serve
handle = serve.get_app_handle("default")
calls = [handle.remote(number) for number in range(3)]
print("CALLED", flush=True)
time.sleep(3600)
"""


def caller(machine: Machine) -> Script:
    """A process with handles that has made three calls."""
    script = machine.script(textwrap.dedent(CALLER), name="caller.py")
    script.wait_for_line("^CALLED")
    return script


def go(machine: Machine) -> None:
    (machine.work / "go").touch()


def test_every_process_says_what_it_has_and_in_the_end_there_is_nothing(machine: Machine) -> None:
    address = machine.start_resident()
    script = machine.serve(APP)
    control = Control(machine)
    assert wait_for(control, 0, 0)["routers"] == 0
    requests = Requests(address, 5)
    wait_for(control, 3, 2)
    other = caller(machine)
    now = wait_for(control, 6, 2)
    assert now["routers"] >= 2, "a thread of the proxy, and the process with handles"
    go(machine)
    assert [answer.status for answer in requests.join() if isinstance(answer, Answer)] == [200] * 5
    wait_for(control, 0, 0)
    eventually(lambda: load(control)["whole"], "everybody had the time to speak")
    other.process.kill()
    other.process.wait()
    script.end()


def test_a_proxy_that_dies_takes_its_counts_with_it(machine: Machine) -> None:
    script = machine.serve(APP)
    control = Control(machine, owner=script.pid)
    requests = Requests(script.address, 4)
    wait_for(control, 2, 2)
    os.kill(machine.one("eagleray: proxy"), signal.SIGKILL)
    requests.join()
    wait_for(control, 0, 0)
    again = Requests(script.address, 1)
    wait_for(control, 0, 1)
    go(machine)
    (answer,) = again.join()
    assert isinstance(answer, Answer)
    assert answer.status == 200
    wait_for(control, 0, 0)


def test_a_process_with_handles_counts_until_it_ends_even_while_it_is_stopped(machine: Machine) -> None:
    address = machine.start_resident()
    script = machine.serve(APP)
    control = Control(machine)
    other = caller(machine)
    wait_for(control, 1, 2)
    os.kill(other.pid, signal.SIGSTOP)
    requests = Requests(address, 1)
    wait_for(control, 2, 2)
    os.kill(other.pid, signal.SIGKILL)
    other.process.wait()
    wait_for(control, 0, 1)
    go(machine)
    requests.join()
    wait_for(control, 0, 0)
    script.end()


def test_a_controller_that_begins_anew_is_told_everything(machine: Machine) -> None:
    address = machine.start_resident()
    script = machine.serve(APP)
    control = Control(machine)
    requests = Requests(address, 3)
    wait_for(control, 1, 2)
    other = caller(machine)
    wait_for(control, 4, 2)
    before = machine.one("eagleray: controller")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: machine.pids("eagleray: controller") - {before}, "another controller")
    eventually(lambda: control.get("/api/v1/status").status == 200, "it answers")
    assert eventually(lambda: now if (now := load(control))["whole"] else {}, "all have spoken")["queued"] == 4
    wait_for(control, 4, 2)
    go(machine)
    requests.join()
    wait_for(control, 0, 0)
    other.process.kill()
    other.process.wait()
    script.end()


def test_a_controller_that_was_stopped_knows_all_again_when_it_goes_on(machine: Machine) -> None:
    script = machine.serve(APP)
    control = Control(machine, owner=script.pid)
    wait_for(control, 0, 0)
    controller = machine.one("eagleray: controller")
    os.kill(controller, signal.SIGSTOP)
    requests = Requests(script.address, 5)
    script.do("calls.extend(handle.remote(number) for number in range(2))")
    os.kill(controller, signal.SIGCONT)
    wait_for(control, 5, 2)
    assert machine.one("eagleray: controller") == controller, "it is the same one"
    go(machine)
    requests.join()
    wait_for(control, 0, 0)
