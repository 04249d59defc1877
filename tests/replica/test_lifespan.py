"""The lifespan of an ASGI application that breaks its protocol: what is a failed start, and what is none."""

from pathlib import Path

import pytest
from machine_of_one import Node, code, serving

APPS = """
import asyncio
from eagleray import serve

def note(word):
    print(word, file=__import__("sys").stderr, flush=True)

COMPLETE = {"type": "lifespan.startup.complete"}

def application(lifespan):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"served"})
    return serve.ingress(app)()

async def raises(receive, send):
    raise KeyError("lifespan is not known here")

async def returns(receive, send):
    pass

async def returns_when_asked(receive, send):
    await receive()

async def returns_after_startup(receive, send):
    await receive()
    await send(COMPLETE)

async def raises_after_startup(receive, send):
    await receive()
    await send(COMPLETE)
    raise ValueError("while it runs")

async def completes_unasked(receive, send):
    await send(COMPLETE)
    await receive()
    await receive()
    await send({"type": "lifespan.shutdown.complete"})

async def completes_twice(receive, send):
    await receive()
    await send(COMPLETE)
    await send(COMPLETE)

async def receives_on_and_on(receive, send):
    await receive()
    await send(COMPLETE)
    while True:
        await receive()

async def fails_at_the_end(receive, send):
    await receive()
    await send(COMPLETE)
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "the door is stuck"})

async def raises_at_the_end(receive, send):
    await receive()
    await send(COMPLETE)
    await receive()
    raise ValueError("the door is stuck")

async def exits_at_the_end(receive, send):
    await receive()
    await send(COMPLETE)
    await receive()
    raise SystemExit(3)

async def fails(receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed"})

async def answers_http(receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200})

async def sends_no_type(receive, send):
    await receive()
    await send({})

async def stops_first(receive, send):
    await receive()
    await send({"type": "lifespan.shutdown.complete"})

async def exits(receive, send):
    await receive()
    raise SystemExit(3)

async def cancels(receive, send):
    await receive()
    raise asyncio.CancelledError

async def hangs(receive, send):
    await receive()
    note("hangs")
    await asyncio.sleep(3600)

APPS = {name: application(value) for name, value in list(globals().items())
        if asyncio.iscoroutinefunction(value)}
"""

SERVES = ["raises", "returns", "returns_when_asked", "returns_after_startup", "raises_after_startup",
          "completes_unasked", "completes_twice"]  # fmt: skip
ENDS_BADLY = {
    "fails_at_the_end": "the door is stuck",
    "raises_at_the_end": "ValueError: the door is stuck",
    "exits_at_the_end": "SystemExit",
}
FAILS = {
    "fails": "it does not say why",
    "answers_http": "may not send 'http.response.start' now",
    "sends_no_type": "KeyError",
    "stops_first": "may not send 'lifespan.shutdown.complete' now",
    "exits": "SystemExit",
}


@pytest.mark.contract("1.2/lifespan")
@pytest.mark.parametrize("name", SERVES)
def test_an_application_serves_whose_lifespan_is_over_early(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, code(APPS)["APPS"][name]) as (node, router):
        assert router.get("/").body == b"served"
        assert node.stop() == 0
        if name == "raises_after_startup":
            assert "while it runs" in node.log


@pytest.mark.contract("1.2/lifespan")
@pytest.mark.parametrize("name", ENDS_BADLY)
def test_a_shutdown_that_fails_is_in_the_log_and_no_more(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, code(APPS)["APPS"][name]) as (node, router):
        assert router.get("/").body == b"served"
        assert node.stop() == 0
        assert ENDS_BADLY[name] in node.log


def test_a_shutdown_that_never_ends_has_its_time(tmp_path: Path) -> None:
    with serving(tmp_path, code(APPS)["APPS"]["receives_on_and_on"]) as (node, router):
        assert router.get("/").body == b"served"
        node.stop(grace_milliseconds=100)


@pytest.mark.contract("1.2/lifespan-failure")
@pytest.mark.parametrize("name", FAILS)
def test_a_startup_that_fails_says_why(tmp_path: Path, name: str) -> None:
    node = Node(tmp_path)
    try:
        node.start(code(APPS)["APPS"][name])
        tag, fields = node.event()
        assert tag == 2, fields
        assert FAILS[name] in fields[1].decode()
        node.process.wait(20)
    finally:
        node.close()


def test_a_startup_that_never_ends_can_be_stopped(tmp_path: Path) -> None:
    node = Node(tmp_path)
    try:
        node.start(code(APPS)["APPS"]["hangs"])
        while "hangs" not in node.log:
            assert node.process.poll() is None
        node.stop(grace_milliseconds=100)
    finally:
        node.close()
