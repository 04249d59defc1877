"""A replica that is stopped because there is less to do takes no request with it."""

from control import Control
from machine import Load, Machine, eventually
from under_way import load

APP = """
import asyncio, os
from eagleray import serve

@serve.deployment(
    max_ongoing_requests=2,
    autoscaling_config={
        "min_replicas": 1,
        "max_replicas": 3,
        "target_ongoing_requests": 2,
        "upscale_delay_s": 0,
        "downscale_delay_s": 0.3,
        "look_back_period_s": 0.1,
    },
)
class Slow:
    async def __call__(self, request):
        await asyncio.sleep(0.1)
        return str(os.getpid())

app = Slow.bind()
"""


def test_fewer_replicas_under_load_cost_no_request(machine: Machine) -> None:
    script = machine.serve(APP)
    control = Control(machine, owner=script.pid)
    with Load(script.address, threads=1, method="POST") as little:
        little.wait_for_more(5)
        for _ in range(2):
            with Load(script.address, threads=8, method="POST") as much:
                eventually(lambda: len(machine.replicas("default/Slow")) == 3, "three replicas for nine at a time")
                much.wait_for_more(20)
            little.wait_for_more(3)
            eventually(lambda: len(machine.replicas("default/Slow")) == 1, "one replica for one at a time")
            assert set(much.outcomes) == {"200"}, much.outcomes
        little.wait_for_more(5)
    assert set(little.outcomes) == {"200"}, little.outcomes
    eventually(lambda: load(control)["running"] == 0, "nothing runs any more")
