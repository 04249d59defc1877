"""A deploy, a rollback and a delete while an update is under way, under load: no request fails."""

import json
from typing import Any

from machine import Load, Machine, Script, eventually, request

APP = """
from eagleray import serve

@serve.deployment(num_replicas=2, min_ready_s={min_ready_s}, health_check_period_s=0.5)
class Word:
    async def __call__(self, request):
        return {word!r}

serve.run(Word.bind())
"""
DEPLOYMENT = "default/Word"


def deploy(machine: Machine, word: str, min_ready_s: float = 0) -> Script:
    return machine.script(APP.format(word=word, min_ready_s=min_ready_s), name=f"{word}.py")


def application(machine: Machine) -> dict[str, Any]:
    shown = machine.cli("status", "--output", "json").stdout
    (found,) = json.loads(shown)["applications"]
    return dict(found)


def is_tried(machine: Machine) -> bool:
    """A replica of the newest revision is ready and not counted on yet."""
    (deployment,) = application(machine)["deployments"]
    return any(one["code"] == "on_trial" for one in deployment["why"])


def results(machine: Machine) -> list[str]:
    shown = machine.cli("history", "--json").stdout
    return [one["result"] for one in json.loads(shown)["revisions"]]


def test_an_update_that_is_under_way_is_overtaken_taken_back_and_deleted(machine: Machine) -> None:
    address = machine.start_resident()
    assert deploy(machine, "first").wait() == 0
    old = machine.replicas(DEPLOYMENT)
    with Load(address, threads=2) as load:
        load.wait_for_more(50)
        deploy(machine, "second", min_ready_s=3600)
        eventually(lambda: is_tried(machine), "the second version is on trial")
        assert machine.replicas(DEPLOYMENT) > old, "what ran before is there, and one more"
        third = deploy(machine, "third")
        assert third.wait() == 0, third.output
        assert [request("GET", address).text for _ in range(20)] == ["third"] * 20

        deploy(machine, "fourth", min_ready_s=3600)
        eventually(lambda: is_tried(machine), "the fourth version is on trial")
        running = machine.replicas(DEPLOYMENT)
        back = machine.cli("rollback", "default", "r3", "--yes")
        assert back.returncode == 0, back.stderr
        eventually(lambda: len(machine.replicas(DEPLOYMENT)) == 2, "only what ran before runs")
        assert machine.replicas(DEPLOYMENT) < running
        assert [request("GET", address).text for _ in range(20)] == ["third"] * 20
        load.wait_for_more(50)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert results(machine)[:4] == ["running", "superseded", "running", "superseded"]

    deploy(machine, "fifth", min_ready_s=3600)
    eventually(lambda: is_tried(machine), "the fifth version is on trial")
    gone = machine.script("from eagleray import serve; serve.delete('default')", name="gone.py")
    assert gone.wait() == 0, gone.output
    eventually(lambda: not machine.replicas(DEPLOYMENT), "nothing of it is left")
    assert request("GET", address).status == 404
