"""Applications and deployments that go while their callers still have requests."""

import threading
from typing import Any

import pytest

from machine import Machine, Script, eventually

# A request to the ingress is held by a file, and calls on when that is there.
APP = """
    import asyncio
    from pathlib import Path
    from eagleray import serve

    @serve.deployment
    class Leaf:
        def ask(self, word):
            return f"leaf {word}"

    @serve.deployment
    class Middle:
        def __init__(self, leaf):
            self.leaf = leaf

        async def ask(self, word):
            Path("middle").touch()
            while not Path("go-middle").exists():
                await asyncio.sleep(0.01)
            return "middle " + await self.leaf.ask.remote(word)

    @serve.deployment
    class Ingress:
        def __init__(self, middle):
            self.middle = middle

        async def __call__(self, request):
            Path("ingress").touch()
            while not Path("go-ingress").exists():
                await asyncio.sleep(0.01)
            return await self.middle.ask.remote("word")

    @serve.deployment
    class Alone:
        async def __call__(self, request):
            return "alone"

    app = Ingress.bind(Middle.bind(Leaf.bind()))
"""


class Request:
    """A request that is under way."""

    def __init__(self, script: Script):
        self.answer: Any = None
        self._script = script
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        self.answer = self._script.get("/")

    def ends(self) -> tuple[int, str]:
        eventually(lambda: self.answer is not None, "the request is answered")
        return self.answer.status, self.answer.text


def until_there(machine: Machine, name: str) -> None:
    eventually((machine.work / name).exists, f"{name} is there")


def let(machine: Machine, name: str) -> None:
    (machine.work / f"go-{name}").touch()


def in_background(script: Script, expression: str) -> threading.Thread:
    thread = threading.Thread(target=script.ask, args=(expression,), daemon=True)
    thread.start()
    return thread


@pytest.mark.contract(
    "1.5/delete-callers",
    better="callers drain before what they call is stopped, so the request is answered",
)
@pytest.mark.parametrize("held", ["ingress", "middle"])
def test_a_request_that_the_ingress_has_accepted_is_answered_when_its_application_is_deleted(
    machine: Machine, held: str
) -> None:
    script = machine.serve(APP)
    if held == "middle":
        let(machine, "ingress")
    request = Request(script)
    until_there(machine, held)
    deleting = in_background(script, 'serve.delete("default")')
    eventually(lambda: script.get("/-/routes").json() == {}, "nothing new comes in")
    assert deleting.is_alive()
    assert machine.replicas("default/Leaf")
    let(machine, "ingress")
    let(machine, "middle")
    assert request.ends() == (200, "middle leaf word")
    eventually(lambda: not machine.replicas(), "all are gone")
    eventually(lambda: not deleting.is_alive(), "delete returns")


def test_a_caller_that_does_not_end_holds_a_delete_up_for_its_grace_and_no_longer(machine: Machine) -> None:
    graceful = "Ingress.options(graceful_shutdown_timeout_s=0.5)"
    script = machine.serve(APP, run=f"serve.run({graceful}.bind(Middle.bind(Leaf.bind())))")
    request = Request(script)
    until_there(machine, "ingress")
    script.do('serve.delete("default")')
    assert not machine.replicas()
    assert request.ends()[0] >= 500


def test_a_deployment_that_a_redeploy_drops_waits_for_the_callers_of_before(machine: Machine) -> None:
    script = machine.serve(APP)
    request = Request(script)
    until_there(machine, "ingress")
    script.do("serve.run(Alone.bind()) and None")
    assert script.get("/").text == "alone", "the deploy does not wait for the request"
    assert machine.replicas("default/Leaf")
    let(machine, "ingress")
    let(machine, "middle")
    assert request.ends() == (200, "middle leaf word")
    eventually(lambda: len(machine.replicas()) == 1, "what is not called any more is gone")
