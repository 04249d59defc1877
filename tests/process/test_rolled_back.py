"""One deployment of a new revision fails: all of them go back, under load, and no client notices."""

import json
import os
import signal
from typing import Any

from machine import Load, Machine, eventually, request

SHOP = """
import os
from eagleray import serve

@serve.deployment(num_replicas=2)
class Model:
    def __init__(self, word):
        if word == {bad!r}:
            raise ValueError("no weights for " + word)
        self.word = word

    def __call__(self):
        return self.word

@serve.deployment(num_replicas=2)
class Front:
    def __init__(self, word, model):
        self.word, self.model = word, model

    async def __call__(self, request):
        return [self.word, await self.model.remote()]

app = Front.bind({word!r}, Model.bind({word!r}))
serve.run(app)
"""


def program(word: str, bad: str = "second") -> str:
    return SHOP.format(word=word, bad=bad)


def answer(address: str) -> Any:
    got = request("GET", address)
    return got.status, json.loads(got.text) if got.status == 200 else got.text


def application(machine: Machine) -> dict[str, Any]:
    shown = machine.cli("status", "--output", "json").stdout
    (found,) = json.loads(shown)["applications"]
    return dict(found)


def words(machine: Machine) -> dict[str, str]:
    return {one["name"]: one["status"] for one in application(machine)["deployments"]}


def test_all_deployments_go_back_and_no_request_fails(machine: Machine) -> None:
    address = machine.start_resident()
    assert machine.script(program("first")).wait() == 0
    assert answer(address) == (200, ["first", "first"])
    with Load(address, threads=2) as load:
        load.wait_for_more(50)
        second = machine.script(program("second"), name="second.py")
        assert second.wait() != 0
        assert "no weights for second" in second.output
        eventually(lambda: answer(address) == (200, ["first", "first"]), "both are back")
        load.wait_for_more(50)
    assert set(load.outcomes) == {"200"}, load.outcomes
    states = {"Front": "HEALTHY", "Model": "DEPLOY_FAILED"}
    eventually(lambda: words(machine) == states, "the way back is over")
    failed = application(machine)
    assert failed["status"] == "DEPLOY_FAILED"
    assert "r1 serves: 4 of 4 replicas run" in failed["message"], failed["message"]

    # Whoever decides next neither tries it again nor forgets that it failed.
    before = machine.replicas()
    os.kill(machine.one("eagleray: controller$"), signal.SIGKILL)
    eventually(lambda: "r2 did not come up" in application(machine)["message"], "the next controller has it")
    assert machine.replicas() == before
    assert [answer(address) for _ in range(20)] == [(200, ["first", "first"])] * 20

    # What serves is what is wanted: nothing restarts, and there is nothing more to say so of.
    settled = machine.cli("rollback", "--ack")
    assert settled.returncode == 0, settled.stderr
    assert application(machine)["status"] == "RUNNING"
    assert machine.replicas() == before
    again = machine.cli("rollback", "--ack")
    assert again.returncode != 0
    assert "no deploy of default was taken back" in again.stderr

    # The same, corrected.
    third = machine.script(program("second", bad="none"), name="third.py")
    assert third.wait() == 0, third.output
    assert [answer(address) for _ in range(20)] == [(200, ["second", "second"])] * 20
