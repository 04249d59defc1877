"""A replica that is told to stop finishes what it has, lets go of what it took, and leaves nothing behind."""

import http.client
from contextlib import closing
from urllib.parse import urlsplit

from machine import Machine, eventually, request
from websocket import Closed, WebSocket

APP = """
import asyncio, atexit, contextlib, os, subprocess, sys
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from eagleray import serve

NOTES, GO_ON = {notes!r}, {go_on!r}

def note(word):
    with open(NOTES, "a") as file:
        file.write(word + "\\n")

@contextlib.asynccontextmanager
async def lifespan(app):
    yield
    note("lifespan")

fast = FastAPI(lifespan=lifespan)

@serve.deployment(graceful_shutdown_timeout_s=25)
@serve.ingress(fast)
class Patient:
    def __init__(self):
        atexit.register(note, "atexit")
        self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", "child-of-patient"])

    async def __del__(self):
        note("destructor")

    @fast.get("/stream")
    async def stream(self):
        async def parts():
            while not os.path.exists(GO_ON):
                yield "part\\n"
                await asyncio.sleep(0.02)
            yield "end\\n"
        return StreamingResponse(parts())

    @fast.websocket("/echo")
    async def echo(self, socket: WebSocket):
        await socket.accept()
        while (text := await socket.receive_text()) != "bye":
            await socket.send_text(text)
        await socket.close(1000)

app = Patient.bind()
"""
CHILD = ".*child-of-patient"


def test_a_busy_replica_finishes_streams_and_websockets_and_then_lets_go_of_everything(machine: Machine) -> None:
    notes, go_on = machine.work / "notes", machine.work / "go-on"
    script = machine.serve(
        APP.format(notes=str(notes), go_on=str(go_on)), run='serve.run(app, name="patient", route_prefix="/patient")'
    )
    parts = urlsplit(script.address)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as connection:
        connection.request("GET", "/patient/stream")
        answer = connection.getresponse()
        assert answer.readline() == b"part\n"
        with WebSocket(script.address.rstrip("/") + "/patient/echo") as socket:
            socket.send("before")
            assert socket.receive() == "before"
            script.do('serve.delete("patient", _blocking=False)')
            # 405 as long as it does; a GET would be one more stream.
            asked = script.address.rstrip("/") + "/patient/stream"
            eventually(lambda: request("HEAD", asked).status == 404, "it takes nothing new")
            for _ in range(20):
                assert answer.readline() == b"part\n", "the stream goes on"
            socket.send("after")
            assert socket.receive() == "after"
            assert len(machine.pids(CHILD)) == 1
            assert not notes.exists(), "nothing is let go of while requests run"
            socket.send("bye")
            assert socket.receive() == Closed(1000, "")
        assert machine.replicas("patient/Patient")
        go_on.touch()
        assert answer.read().endswith(b"end\n")
    eventually(
        lambda: not machine.replicas("patient/Patient"), "it has ended, long before its time was over", seconds=15
    )
    assert sorted(notes.read_text().split()) == ["atexit", "destructor", "lifespan"]
    assert notes.read_text().split()[-1] == "atexit"
    eventually(lambda: not machine.pids(CHILD), "what it had started has ended with it")
