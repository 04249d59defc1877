"""A deployment without load has no replica; requests wait for the first one, and are told when it does not come."""

from control import Control
from machine import Machine, eventually, request
from under_way import Requests, wait_for

APP = """
import time
from pathlib import Path
from eagleray import serve

@serve.deployment(
    max_queued_requests=3,
    autoscaling_config={
        "min_replicas": 0,
        "max_replicas": 1,
        "upscale_delay_s": 0,
        "downscale_delay_s": 0.2,
        "look_back_period_s": 0.1,
    },
)
class FromZero:
    def __init__(self):
        if Path("broken").exists():
            raise RuntimeError("my password is 1234")
        while Path("held").exists():
            time.sleep(0.01)

    async def __call__(self, request):
        return "done"

app = FromZero.bind()
"""


def test_requests_wait_for_the_first_replica_and_are_told_when_it_does_not_come(machine: Machine) -> None:
    script = machine.serve(APP)
    control = Control(machine, owner=script.pid)
    eventually(lambda: not machine.replicas(), "nobody asks, so there is no replica", 60)
    held = machine.work / "held"
    held.touch()
    requests = Requests(script.address, 3)
    wait_for(control, 3, 0)
    answer = request("POST", script.address + "/", b"")
    assert (answer.status, "the queue of default/FromZero is full" in answer.text) == (503, True), answer
    held.unlink()
    assert [getattr(answer, "status", answer) for answer in requests.join()] == [200] * 3
    assert control.status("default")["status"] == "RUNNING"
    eventually(lambda: not machine.replicas(), "nobody asks any more", 60)
    assert script.do("handle.remote(None).result()") == "done", "a call waits as a request does"
    eventually(lambda: not machine.replicas(), "nobody asks any more", 60)

    broken = machine.work / "broken"
    broken.touch()
    answer = request("POST", script.address + "/", b"")
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert "default/FromZero is not available" in answer.text
    assert "the first one keeps failing to start" in answer.text
    assert "1234" not in answer.text, "what user code says is for its log"

    said = script.ask("handle.remote(None).result()")["text"]
    assert "the first one keeps failing to start" in said, said

    broken.unlink()
    eventually(lambda: request("POST", script.address + "/", b"").status == 200, "the next start goes well", 60)
