"""`/api/v1/series`: what a node has measured, who has to live for that, and what a damaged file costs."""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from control import Control
from machine import Machine, eventually, request

APP = """
import time
from eagleray import serve

@serve.deployment(num_replicas=2)
class Rank:
    def __call__(self, request):
        if request.url.path.endswith("/raise"):
            raise KeyError("no such thing")
        time.sleep(0.03)
        return "ranked"

app = Rank.bind()
"""
RUN = 'serve.run(app, name="shop", route_prefix="/shop")'
RING = "series.ring"


def ask(control: Control, query: str = "from=-60") -> dict[str, Any]:
    answer = control.get(f"/api/v1/series?{query}")
    assert answer.status == 200, answer.text
    return dict(answer.json())


def of(answer: dict[str, Any], deployment: str = "Rank", replica: str = "") -> dict[str, Any] | None:
    found = [one for one in answer["series"] if (one["deployment"], one["replica"]) == (deployment, replica)]
    return found[0] if found else None


def requests_of(control: Control, query: str = "from=-60", deployment: str = "Rank") -> int:
    one = of(ask(control, query), deployment)
    return one["total"]["requests"] if one else 0


def wait_for(control: Control, requests: int, query: str = "from=-60") -> None:
    eventually(lambda: requests_of(control, query) == requests, f"{requests} requests are in the series", 30)


@pytest.fixture
def resident(machine: Machine) -> Control:
    machine.start_resident()
    machine.serve(APP, run=RUN).end()
    return Control(machine)


def ring(machine: Machine) -> Path:
    (path,) = machine.runtime.rglob(RING)
    return path


def send(machine: Machine, count: int) -> None:
    address = machine.address(name="default")
    for _ in range(count):
        assert request("GET", address + "/shop").status == 200


def test_what_was_measured_is_there_for_application_deployment_and_replica(machine: Machine, resident: Control) -> None:
    send(machine, 20)
    assert request("GET", machine.address(name="default") + "/shop/raise").status == 500
    wait_for(resident, 21)
    answer = ask(resident, "from=-60&replicas=true")
    rank = of(answer)
    assert rank is not None
    assert rank["total"]["errors"] == 1
    assert 20 <= rank["total"]["p50_ms"] <= 200, "it sleeps for 30 ms"
    assert sum(rank["total"]["latency_buckets"]) == 21
    assert len(rank["total"]["latency_buckets"]) == len(answer["bounds_ms"]) + 1
    seen = [one for one in rank["replicas_running"] if one is not None]
    assert seen[-1] == 2
    assert [one for one in rank["replicas_wanted"] if one is not None][-1] == 2
    replicas = [one for one in answer["series"] if one["replica"]]
    assert sum(one["total"]["requests"] for one in replicas) == 21
    assert all(max(filter(None, one["memory_bytes"])) > 5_000_000 for one in replicas)
    shop = of(answer, deployment="")
    assert shop is not None
    assert (shop["total"]["requests"], shop["total"]["errors"]) == (21, 1), "as HTTP clients see it"
    lengths = {len(one) for each in answer["series"] for one in each.values() if isinstance(one, list)}
    assert lengths == {len(answer["covered_s"])}
    rates = [(rate or 0) * covered for rate, covered in zip(rank["requests_per_s"], answer["covered_s"], strict=True)]
    assert sum(rates) == pytest.approx(21, abs=0.2)


def test_a_question_that_cannot_be_answered_is_refused_in_words(machine: Machine) -> None:
    machine.start_resident()
    control = Control(machine)
    for query, word in [
        ("from=10&to=5", "before"),
        ("step=0", "above 0"),
        ("step=nan", "finite"),
        ("from=soon", "from"),
        ("color=red", "color"),
    ]:
        answer = control.get(f"/api/v1/series?{query}")
        assert answer.status == 400, (query, answer.text)
        assert word in answer.json()["message"], (query, answer.text)
    assert control.get("/api/v1/series?from=0&to=1e300&step=1e300").status == 200
    assert control.ask("POST", "/api/v1/series", {}).status == 405
    for headers in ({"Authorization": "Bearer wrong"}, {"Host": "shop.example"}, {"Origin": "http://shop.example"}):
        assert control.get("/api/v1/series", **headers).status in (401, 403), headers
    assert ask(control)["series"] == [], "nothing is deployed"


def test_a_stopped_or_killed_controller_costs_no_sample(machine: Machine, resident: Control) -> None:
    send(machine, 5)
    wait_for(resident, 5)
    controller = machine.one("eagleray: controller")
    os.kill(controller, signal.SIGSTOP)
    try:
        send(machine, 7)
        wait_for(resident, 12)
        rank = of(ask(resident))
        assert rank is not None
        assert [one for one in rank["replicas_wanted"] if one is not None][-1] == 2, "what it said last"
    finally:
        os.kill(controller, signal.SIGKILL)
    send(machine, 3)
    wait_for(resident, 15)


def test_the_requests_of_a_killed_replica_stay(machine: Machine, resident: Control) -> None:
    send(machine, 10)
    wait_for(resident, 10)
    send(machine, 6)
    for victim in machine.replicas("shop/Rank"):
        os.kill(victim, signal.SIGKILL)
    wait_for(resident, 16)


def test_what_happens_is_marked_once_and_survives_the_node(machine: Machine, resident: Control) -> None:
    (victim, _) = machine.replicas("shop/Rank")
    os.kill(victim, signal.SIGKILL)

    def marks(control: Control) -> list[tuple[int, str]]:
        return [(mark["number"], mark["kind"]) for mark in ask(control, "from=-600&application=shop")["marks"]]

    eventually(lambda: {"deploy", "replica"} <= {kind for _, kind in marks(resident)}, "both are marked", 30)
    before = marks(resident)
    assert len({number for number, _ in before}) == len(before)
    events = {event["number"]: event for event in resident.get("/api/v1/events").json()["events"]}
    for mark in ask(resident, "from=-600&deployment=Rank")["marks"]:
        event = events[mark["number"]]
        assert mark["time_s"] == pytest.approx(event["at_s"], abs=0.002)
        assert event["message"].startswith(mark["message"])
    kill_node(machine)
    machine.start_resident()
    again = Control(machine)
    assert set(before) <= set(marks(again)), "before the controller was asked"


def test_a_killed_node_goes_on_with_its_series(machine: Machine, resident: Control) -> None:
    send(machine, 8)
    wait_for(resident, 8, "from=-3600&step=300")
    kill_node(machine)
    machine.start_resident()
    eventually(lambda: len(machine.replicas("shop/Rank")) == 2, "the application is back")
    again = Control(machine)
    wait_for(again, 8, "from=-600&step=300")
    send(machine, 4)
    wait_for(again, 12, "from=-600&step=300")
    assert "start anew" not in machine.logs("node.log")


def test_a_damaged_file_and_one_of_another_release_are_no_trouble(machine: Machine, resident: Control) -> None:
    send(machine, 8)
    wait_for(resident, 8)
    kill_node(machine)
    path = ring(machine)
    content = bytearray(path.read_bytes())
    assert len(content) <= 32 * 1024 * 1024
    assert path.stat().st_blocks * 512 < 1024 * 1024, "what is not used takes no room"
    for place in range(4096, len(content), 1024):
        content[place] ^= 0xFF
    path.write_bytes(content)
    machine.start_resident()
    eventually(lambda: len(machine.replicas("shop/Rank")) == 2, "the application is back")
    again = Control(machine)
    assert requests_of(again) == 0
    send(machine, 2)
    wait_for(again, 2)
    kill_node(machine)
    path.write_bytes(b"eglser\0\xff" + bytes(100))
    machine.start_resident()
    assert ask(Control(machine))["series"] is not None
    assert "start anew" in machine.logs("node.log")


def test_a_file_that_cannot_be_had_costs_the_series_and_nothing_else(machine: Machine, resident: Control) -> None:
    machine.cli("stop")
    path = ring(machine)
    path.unlink()
    path.mkdir()
    machine.start_resident()
    eventually(lambda: len(machine.replicas("shop/Rank")) == 2, "the application is back")
    send(machine, 3)
    answer = Control(machine).get("/api/v1/series")
    assert answer.status == 503
    assert answer.json()["code"] == "no_series"
    assert machine.logs("node.log").count("keeps no series") == 1


def test_a_second_node_on_the_state_directory_leaves_the_series_to_the_first(
    machine: Machine, resident: Control
) -> None:
    send(machine, 3)
    wait_for(resident, 3)
    elsewhere = Path(tempfile.mkdtemp(prefix="er-", dir="/tmp"))
    try:
        second = machine.cli("start", "--http-port", "0", environment={"EAGLERAY_RUNTIME_DIR": str(elsewhere)})
        assert second.returncode != 0, "it cannot have the checkpoint either"
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)
    assert "another node writes it" in machine.logs("node.log")
    send(machine, 4)
    wait_for(resident, 7)


def kill_node(machine: Machine) -> None:
    os.kill(machine.one("eagleray: node$"), signal.SIGKILL)
    eventually(lambda: not machine.pids("eagleray: "), f"the reaper ends everything: {machine.left()}")
