"""Autoscaling policies of users: what they are asked with, what their answers do, and what their faults do not."""

import json
import os
import signal
from typing import Any

import pytest

from control import Control
from machine import Machine, eventually

#: A policy that does what a file says, so that a test can have it do another thing at any time.
SHOP = """
import asyncio, json, os, time
from pathlib import Path
from eagleray import serve
from eagleray.serve.config import AutoscalingContext, AutoscalingPolicy

SAID = Path(__file__ if "__file__" in globals() else ".").resolve().parent / "said"
SEEN = SAID.with_name("seen")


def policy(ctx: AutoscalingContext):
    seen = {key: repr(getattr(ctx, key)) for key in (
        "deployment_id", "deployment_name", "app_name", "current_num_replicas", "target_num_replicas",
        "running_replicas", "total_num_requests", "total_queued_requests", "total_running_requests",
        "aggregated_metrics", "raw_metrics", "capacity_adjusted_min_replicas", "capacity_adjusted_max_replicas",
        "policy_state", "last_scale_up_time", "last_scale_down_time", "current_time")}
    seen["config"] = ctx.config.max_replicas
    temporary = SEEN.with_suffix(".new")
    temporary.write_text(json.dumps(seen))
    temporary.rename(SEEN)
    said = eval(SAID.read_text(), {"time": time, "os": os, "ctx": ctx})
    return said, {"count": ctx.policy_state.get("count", 0) + 1}


class Steps:
    def __init__(self, first):
        self.first = first

    def __call__(self, ctx):
        return self.first, {}


def for_all(contexts):
    return {key: 3 for key in contexts if key.name == "Other"}, {key: {"seen": 1} for key in contexts}


OWN = {"min_replicas": 1, "max_replicas": 4, "upscale_delay_s": 0, "downscale_delay_s": 600}


@serve.deployment(autoscaling_config={**OWN, "policy": POLICY})
class Model:
    def __call__(self, request):
        return "model"


@serve.deployment(autoscaling_config=OWN)
class Other:
    def __init__(self, model):
        pass

    def __call__(self, request):
        return "other"


app = APP
"""
PATH = "/api/v1/autoscaling/shop/Model"


def shop(machine: Machine, policy: str = "AutoscalingPolicy(policy_function=policy)", **more: Any) -> Control:
    machine.write("said", "2")
    app = more.pop("app", "Model.bind()")
    machine.write("shop.py", SHOP.replace("POLICY}", f"{policy}}}").replace("APP\n", f"{app}\n"))
    machine.environment["PYTHONPATH"] = str(machine.work)
    machine.start_resident()
    control = Control(machine)
    body = {"applications": [{"name": "shop", "import_path": "shop:app", **more}]}
    answer = control.ask("PUT", "/api/serve/applications/", body)
    assert answer.status == 200, answer.text
    eventually(lambda: control.status("shop")["status"] == "RUNNING", "it runs")
    return control


def come_to(machine: Machine, count: int, deployment: str = "Model") -> None:
    def there() -> bool:
        return len(machine.replicas(f"shop/{deployment}")) == count

    eventually(there, f"{count} replicas; there are {machine.replicas()}")


def error_of(control: Control) -> str:
    return str(control.get(PATH).json()["policy_error"] or "")


@pytest.mark.contract("5/policy", "G/31")
def test_a_policy_decides_and_its_faults_keep_the_number(machine: Machine) -> None:
    control = shop(machine)
    come_to(machine, 2)
    eventually(lambda: json.loads((machine.work / "seen").read_text())["current_num_replicas"] == "2", "it is seen")
    seen = json.loads((machine.work / "seen").read_text())
    assert seen["deployment_id"] == "DeploymentID(name='Model', app_name='shop')"
    assert (seen["app_name"], seen["config"], seen["capacity_adjusted_max_replicas"]) == ("'shop'", 4, "4")
    assert seen["running_replicas"].count("ReplicaID(") == 2
    assert (seen["total_num_requests"], seen["total_running_requests"]) == ("0.0", "0.0")
    assert float(seen["last_scale_up_time"]) > 1e9
    (machine.work / "said").write_text("ctx.policy_state['count'] and 3.0")
    come_to(machine, 3)
    for said, words in (
        ("float('nan')", "it returned nan"),
        ("-1", "it returned -1"),
        ("10**9", "it returned 1000000000.0"),
        ("'four'", "it returned 'four'"),
        ("True", "it returned True"),
        ("1 / 0", "it raised ZeroDivisionError"),
        ("os._exit(3)", "its process has ended: exit status 3"),
    ):
        (machine.work / "said").write_text(said)
        eventually(lambda: words in error_of(control), words)  # noqa: B023
        assert len(machine.replicas("shop/Model")) == 3
    detail = control.get("/api/serve/applications/").json()["applications"]["shop"]["deployments"]["Model"]
    assert "its process has ended" in detail["autoscaling_detail"]["errors"][0]
    assert "policy_failed" in [why["code"] for why in control.status("shop")["deployments"][0]["why"]]
    assert "so the number of replicas stays at 3" in machine.cli("status", "--output", "table").stdout
    (machine.work / "said").write_text("4")
    come_to(machine, 4)
    eventually(lambda: not error_of(control), "it is well again")
    assert control.get(PATH).json()["decisions"][0]["reason"] == "its policy asks for 4"


def test_one_that_hangs_is_ended_and_delays_nobody(machine: Machine) -> None:
    control = shop(machine)
    come_to(machine, 2)
    (machine.work / "said").write_text("time.sleep(3600)")
    (host,) = machine.pids("eagleray: policies shop")
    eventually(lambda: "has not answered within 5 s" in error_of(control), "its time is over")
    eventually(lambda: host not in machine.pids("eagleray: policies shop"), "it is ended")
    assert control.status("shop")["status"] == "RUNNING"
    (machine.work / "said").write_text("3")
    come_to(machine, 3)


def test_hosts_end_with_the_controller_and_the_application(machine: Machine) -> None:
    control = shop(machine)
    come_to(machine, 2)
    (host,) = machine.pids("eagleray: policies shop")
    os.kill(machine.one("eagleray: controller$"), signal.SIGKILL)
    eventually(lambda: machine.pids("eagleray: policies shop") - {host}, "another host")
    (machine.work / "said").write_text("3")
    come_to(machine, 3)
    eventually(lambda: len(machine.pids("eagleray: policies shop")) == 1, "the first has ended")
    assert control.ask("DELETE", "/api/serve/applications/").status == 200
    eventually(lambda: not machine.pids("eagleray: policies shop"), "none is left")


@pytest.mark.contract("5/policy-class")
def test_a_class_is_made_with_its_arguments(machine: Machine) -> None:
    shop(machine, '{"policy_function": "shop:Steps", "policy_kwargs": {"first": 3}}')
    come_to(machine, 3)


@pytest.mark.contract("5/policy-application")
def test_a_policy_of_the_application_leaves_out_what_it_likes(machine: Machine) -> None:
    policy = {"policy_function": "shop:for_all"}
    control = shop(machine, app="Other.bind(Model.bind())", autoscaling_policy=policy)
    come_to(machine, 3, "Other")
    assert len(machine.replicas("shop/Model")) == 1
    assert control.get("/api/v1/autoscaling/shop/Other").json()["policy"] == "shop:for_all"


SCRIPT = """
from eagleray import serve
from eagleray.serve.config import AutoscalingConfig, AutoscalingPolicy

WANTED = 3


def policy(ctx):
    return WANTED, {}


def deployed(function):
    policy = AutoscalingPolicy(policy_function=function)
    config = AutoscalingConfig(min_replicas=1, max_replicas=4, upscale_delay_s=0, policy=policy)

    @serve.deployment(autoscaling_config=config)
    class Model:
        def __call__(self, request):
            return "model"

    return Model.bind()


app = deployed(policy)
"""


def test_a_function_of_a_script_goes_by_value_and_a_name_must_lead_somewhere(machine: Machine) -> None:
    script = machine.serve(SCRIPT)
    eventually(lambda: len(machine.replicas("default/Model")) == 3, "its policy asks for three")
    for path, words in (
        ("shop_that_is_not:policy", "No module named 'shop_that_is_not'"),
        ("json:dump_nothing", "has no attribute 'dump_nothing'"),
        ("json:__name__", "which cannot be called"),
    ):
        error = script.ask(f"serve.run(deployed({path!r}))")
        assert words in json.dumps(error), error
    assert len(machine.replicas("default/Model")) == 3


@pytest.mark.contract("1.5/run-external_scaler_enabled", "5/external-scaler")
def test_an_external_scaler_sets_the_number_over_rest(machine: Machine) -> None:
    text = """
from eagleray import serve

@serve.deployment
class Fixed:
    def __call__(self, request):
        return "fixed"

app = Fixed.bind()
"""
    script = machine.serve(text, run="serve.run(app, external_scaler_enabled=True)")
    control = Control(machine, owner=script.pid)
    path = "/api/v1/applications/default/deployments/Fixed/scale"
    assert control.ask("POST", path, {"target_num_replicas": 3}).status == 200
    eventually(lambda: len(machine.replicas("default/Fixed")) == 3, "three were asked for")
    details = control.get("/api/serve/applications/").json()["applications"]["default"]
    assert details["external_scaler_enabled"] is True
    both = "serve.run(Fixed.options(num_replicas='auto').bind(), external_scaler_enabled=True)"
    assert "exclude each other" in json.dumps(script.ask(both))
