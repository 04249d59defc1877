"""What a replica is doing just now: its stacks, though nothing turns in it, and the reason that its status gives."""

import os
import signal
import threading
from typing import Any

import pytest
from test_receipts import ask

from machine import PATIENCE, Machine, eventually, request

APP = """
import ctypes, time
from fastapi import FastAPI
from eagleray import serve

api = FastAPI(docs_url="/pages")

@serve.deployment
@serve.ingress(api)
class App:
    @api.post("/{how}")
    async def post(self, how: str):
        if how == "lock":
            stand_with_the_lock()
        if how == "sleep":
            time.sleep(1e9)
        return how

def stand_with_the_lock():
    ctypes.PyDLL(None).sleep(1_000_000_000)

app = App.bind()
"""


def application(machine: Machine) -> dict[str, Any]:
    (found,) = ask(machine, "GET", "/api/v1/status")["applications"]
    return dict(found)


def deployment(machine: Machine) -> dict[str, Any]:
    (found,) = application(machine)["deployments"]
    return dict(found)


@pytest.mark.parametrize(("how", "line"), [("lock", "stand_with_the_lock"), ("sleep", "in post")])
def test_a_loop_that_does_not_turn_shows_its_stacks(machine: Machine, how: str, line: str) -> None:
    address = machine.start_resident()
    assert machine.serve(APP, run='serve.run(app, route_prefix="/a")').end() == 0
    (replica,) = deployment(machine)["replicas"]
    assert deployment(machine)["why"] == []
    assert application(machine)["docs_path"] == "/a/pages"
    path = f"/api/v1/replicas/{replica['replica_id']}/stack"
    assert "most recent call first" in ask(machine, "POST", path)["stacks"]

    # What is repeated when its replica dies would stand there again.
    asking = threading.Thread(target=lambda: request("POST", f"{address}/a/{how}"), daemon=True)
    asking.start()
    eventually(lambda: line in ask(machine, "POST", path)["stacks"], "it stands there")
    reasons = eventually(lambda: deployment(machine)["why"], "its status says why")
    assert reasons is not None
    (reason,) = reasons
    assert (reason["code"], reason["replica_id"]) == ("loop_hung", replica["replica_id"])
    assert "app.py:" in reason["sentence"], reason
    os.kill(replica["pid"], signal.SIGKILL)
    asking.join(PATIENCE)
    eventually(lambda: not deployment(machine)["why"], "its successor is well")
    (dead,) = deployment(machine)["dead_replicas"]
    assert dead["replica_id"] == replica["replica_id"]
    assert "SIGKILL" in dead["message"]
