"""A deploy's receipt equals what a load generator counts, over kills, client aborts, HTTP/2 and WebSockets."""

import http.client
import json
import socket
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import http2
from machine import PATIENCE, Load, Machine, eventually, request
from websocket import WebSocket

APP = """
import asyncio, os, time
from pathlib import Path
from fastapi import FastAPI, WebSocket
from eagleray import serve

api = FastAPI()
HERE = Path({here!r})

async def until(name):
    while not (HERE / name).exists():
        await asyncio.sleep(0.005)

@serve.deployment(num_replicas=2)
@serve.ingress(api)
class App:
    def __init__(self, word):
        while word == "second" and not (HERE / "gate").exists():
            time.sleep(0.005)

    @api.get("/")
    async def get(self):
        return "hello"

    @api.get("/slow/{{name}}")
    async def slow(self, name: str):
        (HERE / (name + ".began")).touch()
        await until(name)
        return "late"

    @api.get("/raise")
    async def fail(self):
        raise ValueError("on purpose")

    @api.post("/die")
    async def die(self):
        os._exit(1)

    @api.websocket("/ws")
    async def talk(self, socket: WebSocket):
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

app = App.bind({word!r})
"""


def ask(machine: Machine, method: str, path: str) -> dict[str, Any]:
    """Of the control port."""
    (record,) = machine.runtime.glob("*/node.json")
    token = record.with_name("token").read_text().strip()
    address = json.loads(record.read_text())["control_address"]
    answer = request(method, address + path, headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 200, answer.text
    return dict(answer.json())


def newest(machine: Machine) -> dict[str, Any]:
    return dict(ask(machine, "GET", "/api/v1/applications/default/revisions")["revisions"][0])


def receipt(machine: Machine) -> dict[str, Any]:
    """That of the second deploy."""
    found = newest(machine)
    assert found["number"] == 2
    return dict(found["receipt"])


def counts(machine: Machine) -> dict[str, int]:
    found = receipt(machine)
    return {name: found[name] for name in ("answered", "failed", "left", "running")}


def is_counted(machine: Machine, address: str) -> bool:
    """Sends one request, and returns whether it counts for the deploy."""
    assert request("GET", address).status == 200
    end = time.monotonic() + 1
    while time.monotonic() < end:
        if counts(machine)["answered"] == 1:
            return True
        time.sleep(0.01)
    return False


def leave(address: str, path: str, machine: Machine, name: str) -> None:
    """Asks, and leaves when user code is at it."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or 80), PATIENCE) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
        eventually((machine.work / f"{name}.began").exists, "user code has it")


def test_the_receipt_is_what_clients_have_counted(machine: Machine) -> None:
    address = machine.start_resident()
    here = str(machine.work)
    assert machine.serve(APP.format(here=here, word="first")).end() == 0
    assert request("GET", address).status == 200
    second = machine.script(APP.format(here=here, word="second") + "\nserve.run(app)\n", name="second.py")
    eventually(lambda: newest(machine)["number"] == 2, "the deploy is under way")
    eventually(lambda: is_counted(machine, address), "requests count for the deploy")

    late: list[int] = []

    def ask_slowly() -> None:
        late.append(request("GET", f"{address}/slow/late").status)

    slow = threading.Thread(target=ask_slowly, daemon=True)
    slow.start()
    eventually((machine.work / "late.began").exists, "it runs")
    talks = [WebSocket(f"{address}/ws") for _ in range(3)]
    with Load(address, threads=4) as load, Load(address, threads=2, new=True) as fresh:
        load.wait_for_more(100)
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE)
        connection.request("POST", "/die")
        assert connection.getresponse().status == 502
        connection.close()
        load.wait_for_more(100)
        with http2.Connection(address) as client:
            assert [client.ask("/").status for _ in range(20)] == [200] * 20
        for name in ("one", "two", "three"):
            leave(address, f"/slow/{name}", machine, name)
        # A proxy may notice later than the client has gone: until then they count as running.
        eventually(lambda: counts(machine)["left"] == 3, "their leaving is noticed")
        assert [request("GET", f"{address}/raise").status for _ in range(3)] == [500] * 3
        load.wait_for_more(50)
    assert set(load.outcomes) == set(fresh.outcomes) == {"200"}, (load.outcomes, fresh.outcomes)
    # One of the two replicas has died, and the WebSockets that it had.
    alive = [talk for talk in talks if talks_still(talk)]
    for talk in talks:
        if talk not in alive:
            talk.socket.close()
    closed, stays = alive[1:], alive[:1]
    for talk in closed:
        talk.close()

    (machine.work / "gate").touch()
    assert second.wait() == 0, second.output
    answered = 1 + load.count() + fresh.count() + 20 + len(closed)
    failed = 1 + 3 + len(talks) - len(alive)
    running = (0 if late else 1) + len(stays)
    expected = {"answered": answered, "failed": failed, "left": 3, "running": running}
    eventually(lambda: receipt(machine)["ended_at_s"], "the deploy is over")
    assert counts(machine) == expected

    (machine.work / "late").touch()
    slow.join(PATIENCE)
    for talk in stays:
        talk.close()
    assert [request("GET", address).status for _ in range(10)] == [200] * 10
    ended = late.count(200) + len(stays)
    expected |= {"answered": answered + ended, "failed": failed + running - ended, "running": 0}
    eventually(lambda: counts(machine) == expected, f"what was late is added: {counts(machine)}, not {expected}")


def talks_still(talk: WebSocket) -> bool:
    try:
        talk.send("hello")
        return talk.receive() == "hello"
    except OSError:
        return False
