"""Handles when something is full, gone or over: queues, replicas that die, deletes, shutdowns, clients that leave."""

import http.client
import os
import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from machine import Machine, Script, eventually

APP = """
import asyncio, os, signal
from eagleray import exceptions, serve
from eagleray.serve.handle import DeploymentHandle

NOTES = {notes!r}

def note(text):
    with open(NOTES, "a") as file:
        file.write(text + "\\n")

@serve.deployment(num_replicas=2, max_ongoing_requests=1, max_queued_requests=1)
class Pair:
    async def __call__(self, seconds=0):
        note("began")
        await asyncio.sleep(seconds)
        return os.getpid()

    def pid(self):
        return os.getpid()

@serve.deployment
class Inner:
    async def __call__(self):
        note("inner began")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            note("inner cancelled")
            raise

    async def items(self):
        try:
            for number in range(10):
                note(f"item {{number}}")
                yield number
                await asyncio.sleep(3600 if number else 0)
        except (asyncio.CancelledError, GeneratorExit):
            note("items closed")
            raise

@serve.deployment
class Middle:
    def __init__(self, inner):
        self.inner = inner

    async def __call__(self):
        return await self.inner.remote()

    async def items(self):
        async for item in self.inner.options(stream=True).items.remote():
            yield item

@serve.deployment
class Outer:
    def __init__(self, middle):
        self.middle = middle

    async def __call__(self, request):
        if request.query_params.get("items"):
            async for item in self.middle.options(stream=True).items.remote():
                return item
        return await self.middle.remote()

@serve.deployment
class Broken:
    def __init__(self):
        raise ValueError("cannot start")

app = Outer.bind(Middle.bind(Inner.bind()))

def deploy_broken():
    try:
        serve.run(Broken.bind(), name="broken", route_prefix=None)
    except RuntimeError:
        return True

async def gone(kill):
    async with pair.choose_replica() as selection:
        kill(selection.replica_id)
        while not selection._reservation._call.ready():
            await asyncio.sleep(0.01)
        try:
            pair.dispatch(selection)
        except exceptions.ActorDiedError as error:
            return type(error).__name__

async def reserved():
    # Both slots are kept, so a call waits until one is given back.
    async with pair.choose_replica() as first:
        async with pair.choose_replica() as second:
            waiting = pair.pid.remote()
            waited = not waiting._call.wait(0.3)
        return [first.replica_id != second.replica_id, waited, isinstance(await waiting, int)]

def kill(replica_id):
    for entry in os.scandir("/proc"):
        try:
            with open(f"/proc/{{int(entry.name)}}/cmdline") as file:
                if file.read().startswith(f"eagleray: replica pair/Pair {{replica_id}}"):
                    os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, ValueError):
            pass  # no process, or not any more
"""


class Served:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.notes_path = machine.work / "notes"
        self.script: Script = machine.serve(
            APP.format(notes=str(self.notes_path)),
            run="(serve.run(Pair.bind(), name='pair', route_prefix=None), "
            "serve.run(Pair.options(max_queued_requests=-1).bind(), name='patient', route_prefix=None), "
            "serve.run(app))[2]",
        )
        self.script.do("globals().update(pair=serve.get_app_handle('pair'), patient=serve.get_app_handle('patient'))")

    def notes(self) -> list[str]:
        return self.notes_path.read_text().split("\n")[:-1] if self.notes_path.exists() else []

    def forget(self) -> None:
        self.notes_path.unlink(missing_ok=True)

    def both_replicas(self) -> None:
        eventually(lambda: len(self.machine.replicas("pair/Pair")) == 2, "two replicas")
        eventually(lambda: len(self.script.do("pair.broadcast('pid').results(timeout_s=60)")) == 2, "both answer")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    machine = Machine(tmp_path_factory.mktemp("handles"))
    try:
        yield Served(machine)
    finally:
        print(machine.scripts[0].output[-8000:] if machine.scripts else "")
        assert not machine.close()


@pytest.mark.contract("3.1/backpressure", "3.6/BackPressureError")
def test_a_full_queue_refuses_from_the_response(served: Served) -> None:
    served.both_replicas()
    served.forget()
    served.script.do("globals().update(busy=[pair.remote(60) for _ in range(2)])")
    eventually(lambda: served.notes() == ["began"] * 2, "both replicas are busy")
    served.script.do("globals().update(waits=pair.remote(), refused=pair.remote())")
    asked = served.script.ask("refused.result(timeout_s=60)")
    assert asked["error"] == "BackPressureError"
    assert "1 requests wait in this process, max_queued_requests is 1" in asked["text"]
    served.script.do("[one.cancel() for one in busy]")
    assert isinstance(served.script.do("waits.result(timeout_s=60)"), int)


@pytest.mark.contract("3.1/broadcast", "3.5/results")
def test_a_broadcast_waits_for_slots_past_the_limit_of_the_queue(served: Served) -> None:
    served.both_replicas()
    served.forget()
    served.script.do("globals().update(busy=[pair.remote(60) for _ in range(2)])")
    eventually(lambda: served.notes() == ["began"] * 2, "both replicas are busy")
    served.script.do("globals().update(all=[pair.broadcast('pid') for _ in range(3)])")
    assert served.script.ask("all[0].results(timeout_s=0.2)")["error"] == "GetTimeoutError"
    served.script.do("[one.cancel() for one in busy]")
    for number in range(3):
        pids = served.script.do(f"all[{number}].results(timeout_s=60)")
        assert set(pids) == served.machine.replicas("pair/Pair")


@pytest.mark.contract("3.1/choose_replica")
def test_a_chosen_replica_keeps_the_slot_until_the_end_of_the_block(served: Served) -> None:
    served.both_replicas()
    assert served.script.do("asyncio.run(reserved())") == [True, True, True]


@pytest.mark.contract("3.1/dispatch-gone", "3.6/ReplicaUnavailableError")
def test_a_chosen_replica_that_dies_is_unavailable(served: Served) -> None:
    served.both_replicas()
    assert served.script.do("asyncio.run(gone(kill))") == "ReplicaUnavailableError"


@pytest.mark.contract("3.1/moved")
def test_calls_that_a_dead_replica_had_not_begun_go_to_another(served: Served) -> None:
    eventually(lambda: len(served.machine.replicas("patient/Pair")) == 2, "two replicas")
    victim = min(served.machine.replicas("patient/Pair"))
    os.kill(victim, signal.SIGSTOP)
    # One goes to the replica that stands still, since nobody knows yet, or waits for it; none of them begins there.
    served.script.do("globals().update(sent=[patient.pid.remote() for _ in range(3)])")
    os.kill(victim, signal.SIGKILL)
    pids = served.script.do("[one.result(timeout_s=60) for one in sent]")
    assert victim not in pids


@pytest.mark.contract("3.5/dead")
def test_a_broadcast_leaves_out_a_replica_that_is_dead(served: Served) -> None:
    served.both_replicas()
    victim = min(served.machine.replicas("pair/Pair"))
    os.kill(victim, signal.SIGKILL)
    pids = served.script.do("pair.broadcast('pid').results(timeout_s=60)")
    assert len(pids) in (1, 2)
    assert victim not in pids


@pytest.mark.contract("4.3/cancel-disconnect", "4.3/cancel-children")
@pytest.mark.parametrize("do", ["call", "leave"])
def test_the_end_of_a_request_reaches_three_levels_down(served: Served, do: str) -> None:
    served.forget()
    if do == "call":
        headers = {"x-request-timeout-seconds": "1"}
        assert served.script.get("/", headers=headers).status == 408
    else:
        parts = urlsplit(served.script.address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        connection.request("GET", "/")
        eventually(lambda: served.notes() == ["inner began"], "the call has arrived")
        connection.close()
    eventually(lambda: served.notes() == ["inner began", "inner cancelled"], f"cancelled; {served.notes()}")


@pytest.mark.contract("4.3/cancel-generator")
def test_a_generator_that_is_left_early_closes_those_below(served: Served) -> None:
    served.forget()
    assert served.script.get("/?items=1").json() == 0
    eventually(lambda: served.notes()[-1:] == ["items closed"], f"closed; {served.notes()}")


@pytest.mark.contract("3.1/unavailable", "3.6/DeploymentUnavailableError")
def test_a_deployment_that_failed_is_unavailable(served: Served) -> None:
    assert served.script.do("deploy_broken()") is True
    asked = served.script.ask("DeploymentHandle('Broken', 'broken').remote().result(timeout_s=60)")
    assert asked["error"] == "DeploymentUnavailableError"
    assert "broken/Broken failed to start" in asked["text"]


@pytest.mark.contract("3.1/after-shutdown")
def test_a_handle_outlives_deletes_and_shutdowns(served: Served) -> None:
    script = served.script
    run = "serve.run(Pair.options(num_replicas=1).bind(), name='short', route_prefix=None)"
    script.do(f"globals().update(short={run})")
    pid = script.do("short.pid.remote().result(timeout_s=60)")
    script.do("serve.delete('short')")
    assert script.ask("short.pid.remote().result(timeout_s=60)")["error"] == "DeploymentUnavailableError"
    script.do(f"({run}, None)[1]")
    assert script.do("short.pid.remote().result(timeout_s=60)") != pid
    script.do("globals().update(left=short.remote(3600))")
    script.do("serve.shutdown()")
    assert script.ask("left.result(timeout_s=60)")["error"] == "DeploymentUnavailableError"
    asked: dict[str, Any] = script.ask("short.remote()")
    assert asked["error"] == "RayServeException"
    assert "call serve.run again" in asked["text"]
    script.do(f"({run}, None)[1]")
    assert isinstance(script.do("short.pid.remote().result(timeout_s=60)"), int)
