"""Replicas get what they ask for of the node, each device once, and what does not fit waits and says why."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from control import Control
from machine import Machine, eventually, request

pytestmark = pytest.mark.skipif(
    Path("/proc/driver/nvidia/gpus").exists(), reason="the GPUs of these tests are declared, and here are real ones"
)

CODE = """
import os
from eagleray import serve

class Model:
    def __init__(self):
        if os.environ.get("BROKEN"):
            raise RuntimeError("broken on purpose")

    def __call__(self, request):
        return os.environ.get("CUDA_VISIBLE_DEVICES", "not set")

D = serve.deployment(Model)
E = serve.deployment(Model, name="E")
app = D.bind()
other = E.bind()
"""


class Node:
    """A resident node with so many declared GPUs, to which configs are applied."""

    def __init__(self, machine: Machine, gpus: int, *more: str, **environment: str):
        self.machine = machine
        machine.write("model.py", CODE)
        arguments = ("start", "--http-port", "0", "--num-gpus", str(gpus), *more)
        started = machine.cli(*arguments, environment=environment)
        assert started.returncode == 0, started.stdout + started.stderr
        self.address = machine.address(name="default")
        self.control = Control(machine)

    def apply(self, **applications: dict[str, Any]) -> None:
        """Each application by its name: options of its one deployment."""
        entries = []
        for name, options in applications.items():
            variable, deployment = ("other", "E") if name == "other" else ("app", "Model")
            entries.append(
                {
                    "name": name,
                    "route_prefix": f"/{name}",
                    "import_path": f"model:{variable}",
                    "deployments": [{"name": deployment, **options}],
                }
            )
        (self.machine.work / "config.json").write_text(json.dumps({"applications": entries}))
        deployed = self.machine.cli("deploy", "config.json", "--no-wait", "--yes")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr

    def deployment(self, application: str) -> dict[str, Any]:
        (found,) = self.control.status(application)["deployments"]
        return dict(found)

    def running(self, application: str, count: int) -> list[dict[str, Any]]:
        """Waits until so many replicas run."""

        def look() -> list[dict[str, Any]]:
            answer = self.control.get(f"/api/v1/status?application={application}").json()
            deployments = answer.get("applications", [{}])[0].get("deployments", [])
            replicas = [one for found in deployments for one in found["replicas"] if one["state"] == "RUNNING"]
            return replicas if len(replicas) == count else []

        return eventually(look, f"{count} replicas of {application} run: {self.control.status(application)}")

    def message(self, application: str, *parts: str) -> str:
        """Waits until the status of the deployment says all of this."""
        said: list[str] = []

        def look() -> bool:
            found = self.control.get(f"/api/v1/status?application={application}").json()
            deployments = found.get("applications", [{}])[0].get("deployments", [])
            said[:] = [one["message"] for one in deployments]
            return bool(said) and all(part in said[0] for part in parts)

        eventually(look, f"{parts} in the status of {application}: {said}")
        return said[0]

    def resources(self) -> dict[str, Any]:
        (node,) = self.control.get("/api/v1/resources").json()["nodes"]
        return dict(node)

    def devices(self, application: str) -> list[str]:
        """What the processes of its replicas see."""
        seen = []
        for replica in self.control.status(application)["deployments"][0]["replicas"]:
            variables = Path(f"/proc/{replica['pid']}/environ").read_bytes().split(b"\0")
            found = [one.decode() for one in variables if one.startswith(b"CUDA_VISIBLE_DEVICES=")]
            seen += [one.partition("=")[2] for one in found]
        return sorted(seen)


def gpus(count: float, replicas: int = 1, **environment: str) -> dict[str, Any]:
    actor: dict[str, Any] = {"num_gpus": count}
    if environment:
        actor["runtime_env"] = {"env_vars": environment}
    return {"num_replicas": replicas, "ray_actor_options": actor}


@pytest.mark.contract("1.1/ray_actor_options-reserved")
def test_two_replicas_have_two_devices_and_a_third_waits_for_one(machine: Machine) -> None:
    node = Node(machine, 2)
    node.apply(app=gpus(1, replicas=3))
    two = node.running("app", 2)
    message = node.message("app", "1 replica waits for num_gpus 1", "the node has 2, and 0 of it is free")
    assert all(one["replica_id"] in message for one in two), message
    assert node.devices("app") == ["0", "1"]
    assert request("GET", node.address + "/app").text in ("0", "1")

    shown = machine.cli("status", "--resources")
    assert shown.returncode == 0, shown.stderr
    assert all(part in shown.stdout for part in ("num_gpus", "app/Model", "PENDING")), shown.stdout
    (pending,) = node.resources()["pending"]
    assert (pending["missing"], pending["replicas"], pending["resources"]) == ("num_gpus", 1, {"num_gpus": 1.0})

    # What a dead one held goes to its successor, and to nobody twice.
    os.kill(two[0]["pid"], signal.SIGKILL)
    eventually(lambda: two[0]["pid"] not in [one["pid"] for one in node.running("app", 2)], "another has its place")
    assert node.devices("app") == ["0", "1"]
    assert [device["used"] for device in node.resources()["devices"]] == [1.0, 1.0]

    # It starts by itself when there is room: here, when less is asked for.
    node.apply(app=gpus(0.5, replicas=3))
    node.running("app", 3)
    eventually(lambda: node.control.status("app")["status"] == "RUNNING", "all run")
    assert node.devices("app") in (["0", "0", "1"], ["0", "1", "1"])
    assert node.resources()["pending"] == []


def test_of_two_applications_that_want_all_the_second_waits_for_the_first_to_go(machine: Machine) -> None:
    node = Node(machine, 2)
    node.apply(app=gpus(2), other=gpus(2))
    first, second = "app", "other"

    def who_waits() -> str:
        return "".join(one["application"] for one in node.resources()["pending"])

    if eventually(who_waits, "one of them waits") == first:
        first, second = second, first
    node.running(first, 1)
    message = node.message(second, "num_gpus 2", f"{first}/")
    assert "the node has 2, and 0" in message
    node.apply(**{second: gpus(2)})
    node.running(second, 1)
    assert node.devices(second) == ["0,1"]


@pytest.mark.contract("1.1/ray_actor_options-devices")
@pytest.mark.contract("1.1/ray_actor_options-no-devices", better="it sees none, where the node has any")
def test_halves_share_a_device_and_who_asks_for_none_sees_none(machine: Machine) -> None:
    node = Node(machine, 1)
    node.apply(app=gpus(0.5, replicas=2), other={"num_replicas": 1})
    node.running("app", 2)
    node.running("other", 1)
    assert node.devices("app") == ["0", "0"]
    assert node.devices("other") == [""]


def test_a_node_without_gpus_tells_replicas_nothing_of_them(machine: Machine) -> None:
    node = Node(machine, 0, CUDA_VISIBLE_DEVICES="3,4")
    node.apply(app={"num_replicas": 1})
    node.running("app", 1)
    assert node.devices("app") == ["3,4"]
    node.apply(app=gpus(1))
    message = node.message("app", "of which the node has none")
    assert "num_gpus 1" in message
    (why,) = [one for one in node.deployment("app")["why"] if one["code"] == "pending_resources"]
    assert all(part in why["help"] for part in ("never fits", "--num-gpus")), why


def test_a_controller_that_dies_forgets_nothing_of_who_holds_what(machine: Machine) -> None:
    node = Node(machine, 2)
    node.apply(app=gpus(1, replicas=2))
    before = {one["pid"] for one in node.running("app", 2)}
    os.kill(machine.one("eagleray: controller"), signal.SIGKILL)
    eventually(lambda: node.control.get("/api/v1/status").status == 200, "another controller answers")
    node.apply(app=gpus(1, replicas=2), other=gpus(1))
    node.message("other", "num_gpus 1", "app/Model")
    assert {one["pid"] for one in node.running("app", 2)} == before
    assert node.devices("app") == ["0", "1"]
    assert len(node.resources()["holders"]) == 2


def test_an_update_on_the_only_device_ends_the_old_one_first_and_goes_back_if_the_new_one_fails(
    machine: Machine,
) -> None:
    node = Node(machine, 1)
    node.apply(app=gpus(1))
    (old,) = node.running("app", 1)
    node.apply(app=gpus(1, STEP="2"))
    eventually(lambda: node.running("app", 1)[0]["pid"] != old["pid"], "the new one runs")
    eventually(lambda: node.control.status("app")["status"] == "RUNNING", "the update is done")
    assert node.devices("app") == ["0"]

    (good,) = node.running("app", 1)
    node.apply(app=gpus(1, BROKEN="1"))
    eventually(lambda: node.control.status("app")["deploy"]["state"] == "rolled_back", "it is given up")
    eventually(lambda: node.running("app", 1)[0]["pid"] != good["pid"], "what ran before runs again")
    assert request("GET", node.address + "/app").text == "0"
    assert [device["used"] for device in node.resources()["devices"]] == [1.0]


def test_cpus_and_custom_resources_count_where_they_are_stated(machine: Machine) -> None:
    node = Node(machine, 0, "--num-cpus", "2", "--resources", '{"lidar": 1}')
    node.apply(
        app={"num_replicas": 3, "ray_actor_options": {"num_cpus": 1}},
        other={"num_replicas": 2, "ray_actor_options": {"resources": {"lidar": 0.5}}},
    )
    node.running("app", 2)
    node.running("other", 2)
    node.message("app", "num_cpus 1", "the node has 2")
    resources = node.resources()["resources"]
    assert resources["lidar"] == {"total": 1.0, "used": 1.0}
    assert resources["num_cpus"] == {"total": 2.0, "used": 2.0}
    # What states none of them holds none of them.
    node.apply(app={"num_replicas": 3}, other={"num_replicas": 2})
    node.running("app", 3)
    eventually(lambda: node.resources()["holders"] == [], "nothing is held")


def test_a_replica_that_has_far_more_memory_than_it_states_is_named(machine: Machine) -> None:
    node = Node(machine, 0)
    held = f"held = bytearray(b'x' * {200 * 2**20})"
    machine.write("model.py", CODE.replace("app = D.bind()", f"{held}\napp = D.bind()"))
    node.apply(
        app={"ray_actor_options": {"memory": 64 * 2**20}},
        other={"ray_actor_options": {"memory": 2**30}},
    )
    node.running("app", 1)
    node.running("other", 1)

    def reasons(application: str) -> list[str]:
        return [why["code"] for why in node.deployment(application)["why"]]

    eventually(lambda: "memory_over" in reasons("app"), "it is said")
    assert "memory_over" not in reasons("other"), "it states enough"
    (replica,) = node.running("app", 1)
    assert replica["memory_bytes"] > 200 * 2**20
    assert node.resources()["resources"]["memory"]["used"] == 64 * 2**20 + 2**30


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (("--num-gpus=-1",), {}, "--num-gpus"),
        (("--num-gpus", "9999999"), {}, "at most"),
        (("--num-gpus", "3"), {"CUDA_VISIBLE_DEVICES": "0,1"}, "--num-gpus is 3"),
        (("--num-cpus", "nan"), {}, "--num-cpus"),
        (("--memory=-5",), {}, "--memory"),
        (("--resources", "{"), {}, "--resources"),
        (("--resources", '{"GPU": 1}'), {}, "--num-gpus"),
        ((), {"EAGLERAY_NUM_GPUS": "many"}, "EAGLERAY_NUM_GPUS"),
    ],
)
def test_a_node_says_what_is_wrong_with_what_it_is_said_to_have(
    machine: Machine, arguments: tuple[str, ...], environment: dict[str, str], named: str
) -> None:
    started = machine.cli("start", "--http-port", "0", *arguments, environment=environment)
    assert started.returncode != 0
    assert named in started.stderr, started.stderr
    assert machine.nodes() == []


@pytest.mark.parametrize(
    ("actor", "named"),
    [
        ({"num_gpus": -1}, "num_gpus"),
        ({"num_gpus": 1.5}, "whole"),
        ({"memory": 1e300}, "memory"),
        ({"num_cpus": "many"}, "num_cpus"),
        ({"num_gpus": 1, "runtime_env": {"env_vars": {"CUDA_VISIBLE_DEVICES": "7"}}}, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_amounts_that_cannot_be_meant_are_refused_before_anything_starts(
    machine: Machine, actor: dict[str, Any], named: str
) -> None:
    machine.write("model.py", CODE)
    config = {"applications": [{"import_path": "model:app", "deployments": [{"name": "Model"}]}]}
    config["applications"][0]["deployments"][0]["ray_actor_options"] = actor  # type: ignore[index]
    (machine.work / "config.json").write_text(json.dumps(config))
    machine.start_resident()
    deployed = machine.cli("deploy", "config.json", "--yes")
    assert deployed.returncode != 0
    assert named in deployed.stderr, deployed.stderr
    assert machine.replicas() == set()
