"""Sessions: requests with one session id find the same replica, from wherever they come."""

import os
import signal

import pytest

from machine import Machine, Script, eventually, request

APP = """
import os
from eagleray import serve
from eagleray.serve.context import get_request_context

@serve.deployment(num_replicas=3, max_ongoing_requests=20)
class Home:
    async def __call__(self, request):
        return {"session": get_request_context().session_id, "pid": os.getpid()}

    async def by_handle(self):
        return [get_request_context().session_id, os.getpid()]

@serve.deployment(num_replicas=2)
class Asks:
    def __init__(self, home):
        self.home = home

    async def __call__(self, session):
        return (await self.home.options(method_name="by_handle", session_id=session).remote())[1]

app = Home.bind()
"""
SESSIONS = [f"session-{number}" for number in range(40)]


def ask(address: str, session: str, header: str = "x-session-id") -> int:
    got = request("GET", address, headers={header: session})
    assert got.status == 200, got.text
    assert got.json()["session"] == session
    return int(got.json()["pid"])


def homes(script: Script) -> dict[str, int]:
    return {session: ask(script.address, session) for session in SESSIONS}


@pytest.mark.contract(
    "3.1/session",
    better="requests of one session go to one replica while that has room; Ray Serve asks for another router for that",
)
def test_a_session_goes_to_one_replica_from_anywhere(machine: Machine) -> None:
    script = machine.serve(APP)
    # Without a session requests go anywhere, as soon as the proxy is connected to all.
    eventually(lambda: len({script.get("/").json()["pid"] for _ in range(20)}) == 3, "three replicas answer")
    found = homes(script)
    assert len(set(found.values())) == 3, "sessions are spread over three replicas"
    assert homes(script) == found
    assert ask(script.address, SESSIONS[0], header="x_session_id") == found[SESSIONS[0]]
    # A handle in the driver, and handles in two other processes.
    script.do("serve.run(Asks.bind(serve.get_app_handle('default')), name='asks', route_prefix=None) and 1")
    for session in SESSIONS[:10]:
        call = f"handle.options(method_name='by_handle', session_id={session!r}).remote().result()"
        asked = f"serve.get_app_handle('asks').broadcast('__call__', {session!r}).results(timeout_s=30)"
        eventually(lambda call=call, home=[session, found[session]]: script.do(call) == home, "the driver finds it")
        eventually(lambda asked=asked, home=found[session]: script.do(asked) == [home] * 2, "and so do others")

    # One replica dies: the sessions of the others stay.
    gone = found[SESSIONS[0]]
    os.kill(gone, signal.SIGKILL)
    eventually(lambda: len(machine.replicas("default/Home") - {gone}) == 3, "another takes its place")
    eventually(lambda: len(set(homes(script).values())) == 3, "and gets sessions")
    after = homes(script)
    moved = [session for session in SESSIONS if after[session] != found[session] != gone]
    new = set(after.values()) - set(found.values())
    assert {after[session] for session in moved} <= new, "who moved from elsewhere moved to the new one"
