"""Over REST alone: declare, look, change, take back, delete."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from control import RAY, Control
from machine import Answer, Machine, eventually, request

MODULE = """
from eagleray import serve

@serve.deployment
class Front:
    def __init__(self, word):
        self.word = word

    async def __call__(self, request):
        return self.word

def build(args):
    return Front.bind(args["word"])
"""
PATH = "/api/serve/applications/"


def shop(word: str = "hello", **more: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "route_prefix": "/shop",
        "import_path": "shop:build",
        "args": {"word": word},
        "runtime_env": {"env_vars": {"PASSWORD": "hunter2"}},
    } | more


@pytest.fixture
def control(machine: Machine) -> Control:
    """A node that finds `shop.py`."""
    machine.write("shop.py", MODULE)
    machine.environment["PYTHONPATH"] = str(machine.work)
    machine.start_resident()
    return Control(machine)


def put(control: Control, *applications: dict[str, Any]) -> None:
    answer = control.ask("PUT", PATH, {"applications": list(applications)})
    assert (answer.status, answer.body) == (200, b""), answer.text


def is_up(control: Control, machine: Machine, word: str = "hello") -> None:
    address = machine.address(name="default")
    eventually(lambda: request("GET", address + "/shop").body == word.encode(), f"it says {word}")
    eventually(lambda: control.status("shop")["status"] == "RUNNING", f"{control.get('/api/v1/status').text}")


@pytest.mark.contract("7/put", "7/details", "5/deploy")
def test_a_put_declares_everything(machine: Machine, control: Control) -> None:
    put(control, shop(), shop(name="other", route_prefix="/other"))
    is_up(control, machine)
    details = control.get(PATH + "?api_type=declarative").json()
    eventually(
        lambda: control.get(PATH).json()["applications"]["other"]["status"] == "RUNNING", "the other is up as well"
    )
    application = details["applications"]["shop"]
    assert application["source"] == "declarative"
    assert application["deployed_app_config"]["args"] == {"word": "hello"}
    assert application["deployed_app_config"]["runtime_env"] == {"env_vars": {"PASSWORD": "****"}}
    put(control, shop("again"))
    is_up(control, machine, "again")
    eventually(lambda: control.get(PATH).json()["applications"].keys() == {"shop"}, "what is not named is deleted")
    put(control)
    eventually(lambda: control.get(PATH).json()["applications"] == {}, "an empty config declares nothing")
    eventually(lambda: not machine.replicas(), "no replica is left")


@pytest.mark.contract("7/operator")
def test_the_two_calls_of_rays_operator(machine: Machine, control: Control) -> None:
    """What its client for Kubernetes sends and reads. Ready: at least one application, and all of them RUNNING."""
    headers = {"x-ray-authorization": f"Bearer {control.token}", "Content-Type": "application/json"}

    def ask(method: str, path: str, body: Any = None) -> Answer:
        return request(method, control.address + path, body, headers)

    def statuses() -> set[str]:
        details = ask("GET", PATH + "?api_type=declarative").json()
        for application in details["applications"].values():
            for deployment in application["deployments"].values():
                assert deployment["status"]
                assert isinstance(deployment["message"], str)
        return {application["status"] for application in details["applications"].values()}

    assert statuses() == set()
    assert ask("PUT", PATH, {"applications": [shop()]}).status == 200
    eventually(lambda: statuses() == {"RUNNING"}, "all are running")


def test_what_cannot_be_imported_is_said_and_the_old_serves_on(machine: Machine, control: Control) -> None:
    put(control, shop())
    is_up(control, machine)
    put(control, shop(import_path="shop:no_such_thing"))
    eventually(lambda: control.status("shop")["deploy"]["state"] == "failed", "the build fails")
    found = control.status("shop")
    assert found["status"] == "DEPLOY_FAILED"
    assert "no_such_thing" in found["message"]
    assert found["deploy"]["failure"]["help"]
    assert request("GET", machine.address(name="default") + "/shop").text == "hello"


@pytest.mark.contract("7/secrets", better="masked for everybody")
def test_what_a_node_has_printed_is_not_deployed_without_its_secrets(machine: Machine, control: Control) -> None:
    put(control, shop())
    is_up(control, machine)
    printed = control.status("shop")["config"]
    answer = control.ask("PUT", PATH, {"applications": [printed]})
    assert answer.status == 400
    assert "shows no secrets" in answer.text
    assert control.status("shop")["status"] == "RUNNING"


@pytest.mark.contract("7/scale")
def test_scaling(machine: Machine, control: Control) -> None:
    put(control, shop())
    is_up(control, machine)
    path = "/api/v1/applications/shop/deployments/Front/scale"
    answer = control.ask("POST", path, {"target_num_replicas": 3})
    assert answer.status == 200, answer.text
    assert list(answer.json()) == ["message"]
    eventually(lambda: len(machine.replicas("shop/Front")) == 3, "three replicas run")
    for wrong, status in (
        (path.replace("Front", "Back"), 404),
        (path.replace("shop", "none"), 404),
    ):
        refused = control.ask("POST", wrong, {"target_num_replicas": 3})
        assert (refused.status, list(refused.json())) == (status, ["error"]), refused.text
    for body in (b"", b"{", {"target_num_replicas": -1}, {"target_num_replicas": "3"}, {"target_num_replicas": None}):
        refused = control.ask("POST", path, body)
        assert (refused.status, list(refused.json())) == (400, ["error"]), refused.text


def test_a_rollback_and_its_history(machine: Machine, control: Control) -> None:
    deploy = {"config": {"applications": [shop()]}, "author": "ann", "message": "first"}
    first = control.ask("POST", "/api/v1/deploys", deploy)
    assert first.status == 202, first.text
    assert first.json()["building"] == ["shop"]
    is_up(control, machine)
    eventually(lambda: control.status("shop")["deploy"]["state"] == "done", "the deploy is done")
    assert control.status("shop")["deploy"]["deploy"] == first.json()["deploy"]
    put(control, shop("second"))
    is_up(control, machine, "second")
    answer = control.ask("POST", "/api/v1/applications/shop/rollback", {"revision": "r1", "author": "bob"})
    assert answer.status == 202, answer.text
    assert answer.json()["rollback_of"] == 1
    is_up(control, machine)
    history = control.get("/api/v1/applications/shop/revisions").json()["revisions"]
    assert [one["number"] for one in history] == [3, 2, 1]
    assert (history[2]["author"], history[2]["message"]) == ("ann", "first")
    assert (history[0]["source"], history[0]["current"]) == ("rollback", True)
    assert "hunter2" not in json.dumps(history)
    one = control.get("/api/v1/applications/shop/revisions/r2").json()
    assert one["config"]["args"] == {"word": "second"}


def test_events_say_what_has_happened(machine: Machine, control: Control) -> None:
    put(control, shop())
    is_up(control, machine)
    page = control.get("/api/v1/events").json()
    assert any(event["application"] == "shop" for event in page["events"]), page
    assert page["next"] == page["events"][-1]["number"]
    assert control.get(f"/api/v1/events?since={page['next']}").json()["events"] == []


@pytest.mark.skipif(not RAY, reason="EAGLERAY_TEST_RAY names no Python with Ray Serve")
@pytest.mark.contract("7/client", "7/version")
def test_the_command_of_ray_serve_deploys(machine: Machine, control: Control) -> None:
    # JSON is YAML.
    machine.write("shop.yaml", json.dumps({"applications": [shop()]}))
    environment = machine.environment | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(control.directory / "token"),
    }

    def serve(*arguments: str) -> str:
        done = subprocess.run(
            [str(Path(RAY).parent / "serve"), *arguments, "-a", control.address],
            cwd=machine.work,
            env={name: value for name, value in environment.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    serve("deploy", "shop.yaml")
    is_up(control, machine)
    assert "status: HEALTHY" in serve("status")
    assert "import_path: shop:build" in serve("config")
    serve("shutdown", "-y")
    eventually(lambda: control.get(PATH).json()["applications"] == {}, "all is gone")
