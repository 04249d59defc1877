"""What an application's history knows and brings back, with real processes, over kills of the controller."""

import os
import signal
from typing import Any

import pytest

from eagleray import _core
from machine import Machine, eventually, request

MAIN = """
import helper
from eagleray import serve

@serve.deployment(num_replicas={replicas})
def model(request):
    return {{"text": helper.text(), "word": "{word}"}}

app = model.bind()
"""


def deploy(machine: Machine, text: str, word: str = "w", replicas: int = 1) -> None:
    machine.write("helper.py", f"def text():\n    return {text!r}\n")
    assert machine.serve(MAIN.format(word=word, replicas=replicas)).end() == 0


def controller(machine: Machine) -> _core.Client:
    (node,) = machine.runtime.glob("*/node.json")
    return _core.Client(str(node.with_name("controller.sock")))


def results(records: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(one["number"], one["result"]) for one in records]


def settled(machine: Machine, number: int) -> list[dict[str, Any]]:
    """The history, once what came of its newest deploy, which has this number, is known."""

    def look() -> list[dict[str, Any]] | None:
        records = controller(machine).history("default")
        newest = records[0]
        return records if newest["number"] == number and newest["result"] != "deploying" else None

    found = eventually(look, f"r{number} is settled")
    assert found is not None
    return found


def kill_controller(machine: Machine) -> None:
    before = machine.one("eagleray: controller")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: machine.pids("eagleray: controller") - {before}, "another controller is there")
    eventually(lambda: is_up(machine), "it answers")


def is_up(machine: Machine) -> bool:
    try:
        controller(machine).status()
    except OSError:
        return False
    return True


def test_every_deploy_is_recorded_and_a_rollback_to_a_number_really_goes_back(machine: Machine) -> None:
    address = machine.start_resident()
    deploy(machine, "one")
    deploy(machine, "two")
    deploy(machine, "two")
    records = settled(machine, 2)
    assert results(records) == [(2, "running"), (1, "running")], "what is unchanged makes no record"
    assert records[0]["changed"] == ["changed code: helper.py"]
    assert [one["current"] for one in records] == [True, False]
    assert records[0]["author"]
    assert records[0]["source"] == "imperative"
    kill_controller(machine)
    assert settled(machine, 2) == records
    deploy(machine, "three")
    (machine.work / "helper.py").write_text("this is not Python\n")
    answer = controller(machine).rollback("default", "r1")
    assert (answer["number"], answer["rollback_of"]) == (4, 1)
    eventually(lambda: request("GET", address + "/").json()["text"] == "one", "the first code serves again")
    kill_controller(machine)
    assert results(settled(machine, 4)) == [(4, "running"), (3, "running"), (2, "running"), (1, "running")]
    assert request("GET", address + "/").json()["text"] == "one"


def test_a_deleted_application_comes_back_with_its_code(machine: Machine) -> None:
    address = machine.start_resident()
    deploy(machine, "kept")
    client = controller(machine)
    client.delete("default")
    assert client.status() == []
    assert results(client.history("default")) == [(1, "deleted")]
    assert machine.cli("stop").returncode == 0
    eventually(lambda: not machine.left(), "everything ended")
    (machine.work / "helper.py").write_text("this is not Python\n")
    address = machine.start_resident()
    answer = controller(machine).rollback("default", "")
    assert answer["number"] == 2
    eventually(lambda: request("GET", address + "/").status == 200, "it serves again")
    assert request("GET", address + "/").json()["text"] == "kept"


def test_a_number_that_was_asked_for_outlives_the_controller_and_a_deploy_of_new_code(machine: Machine) -> None:
    machine.start_resident()
    deploy(machine, "one")
    controller(machine).scale("default", "model", 3)
    eventually(lambda: len(machine.replicas()) == 3, "three replicas run")
    kill_controller(machine)
    before = machine.replicas()
    deploy(machine, "two")
    settled(machine, 2)
    eventually(lambda: len(machine.replicas()) == 3 and not machine.replicas() & before, "three of the new code")
    deploy(machine, "two", replicas=2)
    settled(machine, 3)
    eventually(lambda: len(machine.replicas()) == 2, "another number is stated, and wins")
    with pytest.raises(Exception, match="no deployment 'nobody'"):
        controller(machine).scale("default", "nobody", 2)


def test_events_go_on_over_controllers_and_nodes(machine: Machine) -> None:
    machine.start_resident()
    deploy(machine, "one")
    settled(machine, 1)
    client = controller(machine)
    before = client.events(0)
    told = [(one["kind"], one["message"]) for one in before]
    assert ("deploy", "r1: model starts with 1 replica(s)") in told
    assert any(kind == "replica" and message.startswith("ready after") for kind, message in told)
    kill_controller(machine)
    (victim,) = machine.replicas()
    os.kill(victim, signal.SIGKILL)
    died = eventually(
        lambda: [one for one in controller(machine).events(before[-1]["number"]) if "died" in one["message"]],
        "the death is told",
    )
    assert (died[0]["kind"], died[0]["level"], died[0]["deployment"]) == ("replica", "warning", "model")
    assert machine.cli("stop").returncode == 0
    eventually(lambda: not machine.left(), "everything ended")
    machine.start_resident()
    after = controller(machine).events(0)
    assert after[: len(before)] == before
    numbers = [one["number"] for one in after]
    assert numbers == sorted(set(numbers))


CONFIG = """
applications:
- name: shop
  import_path: shop:app
  route_prefix: /
  deployments:
  - name: rank
    num_replicas: {replicas}
"""

SHOP = """
from eagleray import serve

@serve.deployment
def rank(request):
    return "{text}"

app = rank.bind()
"""


def test_a_rollback_brings_back_the_code_and_what_was_declared_with_it(machine: Machine) -> None:
    address = machine.start_resident()
    for replicas, text in ((1, "one"), (2, "two")):
        machine.write("shop.yaml", CONFIG.format(replicas=replicas))
        machine.write("shop.py", SHOP.format(text=text))
        deployed = machine.cli("deploy", "shop.yaml", "--message", f"the {text}")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    assert "num_replicas: 2" in machine.cli("config").stdout
    differs = machine.cli("diff", "shop", "--from", "r1", "--to", "r2")
    assert "changed code: shop.py" in differs.stdout
    assert "num_replicas 1 -> 2" in differs.stdout
    kill_controller(machine)
    (machine.work / "shop.py").write_text("this is not Python\n")
    back = machine.cli("rollback", "shop", "--yes", "--message", "two is slow")
    assert back.returncode == 0, back.stdout + back.stderr
    assert request("GET", address + "/").text == "one"
    assert "num_replicas: 1" in machine.cli("config").stdout
    newest, second, first = controller(machine).history("shop")
    assert (newest["rollback_of"], newest["message"]) == (1, "two is slow")
    assert (second["message"], second["source"], first["message"]) == ("the two", "declarative", "the one")
    assert "they are the same" in machine.cli("diff", "shop", "--from", "r1", "--to", "r3").stdout
