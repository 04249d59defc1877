"""The number of replicas follows the load: up, down, to none and back, over a controller's death and a redeploy."""

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from control import RAY, Control
from machine import Load, Machine, Script, eventually

APP = """
import asyncio, os
from eagleray import serve

@serve.deployment(autoscaling_config=%s, max_ongoing_requests=10)
class Slow:
    async def __call__(self, request):
        await asyncio.sleep(0.3)
        return str(os.getpid())

app = Slow.bind()
"""
DEPLOYMENT = "default/Slow"
# Of the guide's example, with shorter delays.
QUICK = {
    "min_replicas": 1,
    "max_replicas": 4,
    "target_ongoing_requests": 5,
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 1,
    "look_back_period_s": 0.5,
    "metrics_interval_s": 0.2,
}
PATH = "/api/v1/autoscaling/default/Slow"


def serving(machine: Machine, **changes: Any) -> Script:
    return machine.serve(APP % {**QUICK, **changes})


def come_to(machine: Machine, count: int) -> None:
    eventually(lambda: len(machine.replicas(DEPLOYMENT)) == count, f"{count} replicas; there are {machine.replicas()}")


def scaled(machine: Machine) -> list[str]:
    events = [json.loads(line) for line in machine.cli("events", "default", "--json").stdout.splitlines()]
    return [event["message"] for event in events if event["kind"] == "scale"]


@pytest.mark.contract("5/autoscaling-follows", "5/autoscaling-words")
def test_a_load_scales_up_and_its_end_scales_down(machine: Machine) -> None:
    script = serving(machine)
    assert len(machine.replicas(DEPLOYMENT)) == 1
    with Load(script.address, threads=18) as load:
        come_to(machine, 4)
        eventually(lambda: len({script.get().text for _ in range(4)}) > 1, "new replicas answer")
        state = script.do("str(serve.status().applications['default'].deployments['Slow'].status_trigger.value)")
        assert state in ("AUTOSCALING", "UPSCALE_COMPLETED")
        load.wait_for_more()
    come_to(machine, 1)
    assert set(load.outcomes) == {"200"}, load.outcomes
    eventually(lambda: any("to 1 replica(s) by its load" in one for one in scaled(machine)), "the last step is told of")
    assert any("from 1 to 4 replica(s) by its load" in one for one in scaled(machine)), scaled(machine)


@pytest.mark.contract("5/autoscaling-zero")
@pytest.mark.contract(
    "G/22", better="it has no effect: whoever sends requests says what it has within 50 ms of a change"
)
def test_the_last_replica_goes_and_a_request_brings_one_back(machine: Machine) -> None:
    script = serving(machine, min_replicas=0, downscale_to_zero_delay_s=0.2)
    assert not machine.replicas(DEPLOYMENT), "it begins with none"
    for _ in range(2):
        assert script.get().status == 200
        assert machine.replicas(DEPLOYMENT)
        come_to(machine, 0)
        assert script.do("serve.status().applications['default'].status.value") == "RUNNING"


@pytest.mark.contract("5/autoscaling-keeps")
def test_a_killed_controller_and_a_redeploy_keep_the_number(machine: Machine) -> None:
    script = serving(machine, downscale_delay_s=3, initial_replicas=1)
    with Load(script.address, threads=18) as load:
        come_to(machine, 4)
        before = machine.replicas(DEPLOYMENT)
        controller = machine.one("eagleray: controller$")
        os.kill(controller, signal.SIGKILL)
        eventually(lambda: machine.pids("eagleray: controller$") - {controller}, "a new controller runs")
        load.wait_for_more(200)
        assert machine.replicas(DEPLOYMENT) == before, "all of them are adopted"
        assert script.do("serve.run(Slow.options(graceful_shutdown_timeout_s=5).bind()) and None") is None
        assert len(machine.replicas(DEPLOYMENT)) == 4
        load.wait_for_more()
    assert set(load.outcomes) == {"200"}, load.outcomes
    come_to(machine, 1)


@pytest.mark.contract("7/autoscaling", "G/29")
def test_it_explains_itself(machine: Machine) -> None:
    script = serving(machine, upscale_delay_s=600)
    control = Control(machine, owner=script.pid)
    with Load(script.address, threads=18):
        eventually(lambda: control.get(PATH).json()["heard_all"], "every router has spoken")
        eventually(lambda: control.get(PATH).json()["asked_replicas"] == 4, "the load asks for four")
        now = control.get(PATH).json()
        assert now["hold"].startswith("held by upscale_delay_s"), now
        assert (now["replicas"], now["what_if"]) == (1, None)
        supposed = control.get(f"{PATH}?target=10").json()["what_if"]
        assert (supposed["replicas"], supposed["replicas_now"]) == (2, 1)
        whole = control.get("/api/serve/applications/").json()["applications"]["default"]["deployments"]["Slow"]
        detail = whole["autoscaling_detail"]
        assert detail["metrics"]["asked_num_replicas"] == 4
        assert (detail["scaling_status"], detail["metrics_health"]) == ("STABLE", "healthy")
        assert whole["deployment_config"]["autoscaling_config"]["max_replicas"] == 4
        (why,) = control.status("default")["deployments"][0]["why"]
        assert (why["code"], "asks for 4 replicas instead of 1" in why["sentence"]) == ("held_back", True)
        message = script.do("serve.status().applications['default'].deployments['Slow'].message")
        assert "held by upscale_delay_s" in message
        assert "held by upscale_delay_s" in machine.cli("status", "--output", "table").stdout
    for query, status in (("target=0", 400), ("max=0", 400), ("min=9", 400), ("target=NaN", 400), ("least=1", 400)):
        assert control.get(f"{PATH}?{query}").status == status, query
    assert control.get("/api/v1/autoscaling/default/Other").status == 404
    refused = control.ask("POST", "/api/v1/applications/default/deployments/Slow/scale", {"target_num_replicas": 3})
    assert (refused.status, "autoscaling_config" in refused.text) == (412, True)


RAYS_SCHEMA = """
import json, sys
from ray.serve.schema import ServeInstanceDetails

with open(sys.argv[1]) as file:
    details = ServeInstanceDetails(**json.load(file))
found = details.applications["default"].deployments["Slow"]
detail = found.autoscaling_detail
print(detail.scaling_status.value, detail.metrics_health.value, len(detail.decisions), detail.metrics["max_replicas"])
print(found.deployment_config.autoscaling_config["max_replicas"])
"""


@pytest.mark.skipif(not RAY, reason="EAGLERAY_TEST_RAY names no Python with Ray Serve")
@pytest.mark.contract("7/autoscaling")
def test_ray_serves_own_schema_reads_the_detail(machine: Machine) -> None:
    script = serving(machine, min_replicas=0)
    control = Control(machine, owner=script.pid)
    eventually(lambda: control.get(PATH).json()["heard_all"], "every router has spoken")
    with Load(script.address, threads=1):
        come_to(machine, 1)
        eventually(lambda: control.get(PATH).json()["ready_replicas"] == 1, "it serves")
        details = control.get("/api/serve/applications/").text
    (machine.work / "details.json").write_text(details)
    program = machine.write("schema.py", RAYS_SCHEMA)
    command = [RAY, str(program), str(machine.work / "details.json")]
    read = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert read.stdout.splitlines() == ["STABLE healthy 1 4", "4"], read.stderr
