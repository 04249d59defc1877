"""Deadlines and cancellation, from the client's header to user code and the calls that it makes."""

import http.client
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from machine import Answer, Machine, Script, eventually

APP = """
import asyncio, os, threading, time
from eagleray import serve
from eagleray.serve.context import get_request_context
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, StreamingResponse

NOTES = {notes!r}

def note(text):
    with open(NOTES, "a") as file:
        file.write(text + "\\n")

def until(path):
    while not os.path.exists(path):
        time.sleep(0.01)

@serve.deployment(max_ongoing_requests=1)
class Inner:
    async def __call__(self, path):
        note("inner began")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            note("inner cancelled")
            raise

    async def left(self):
        return get_request_context().remaining_s

@serve.deployment(max_ongoing_requests=1)
class Threads:
    def __call__(self, request):
        note("thread began")
        until(request.query_params["until"])
        note(f"thread ended, cancelled: {{get_request_context().cancelled}}")
        return "late"

@serve.deployment(max_ongoing_requests=1)
class Outer:
    def __init__(self, inner):
        self.inner = inner

    async def __call__(self, request):
        return await getattr(self, request.query_params.get("do", "answer"))(request)

    async def answer(self, request):
        return "ok"

    async def wait(self, request):
        note("began")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            note("cancelled")
            raise

    async def swallow(self, request):
        note("began")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            note("swallowed")
        return "nobody hears it"

    async def shield(self, request):
        note("began")
        await asyncio.shield(asyncio.sleep(3600))

    async def body(self, request):
        note("began")
        try:
            await request.body()
        except BaseException as error:
            note(type(error).__name__)
            raise

    async def call(self, request):
        note("began")
        return await self.inner.remote("x")

    async def left(self, request):
        here = get_request_context().remaining_s
        return [here, await self.inner.left.remote()]

    async def stream(self, request):
        async def chunks():
            note("began")
            try:
                while True:
                    yield "x" * 1000
                    await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                note("cancelled")
                raise
            except GeneratorExit:
                note("closed")
                raise
        return StreamingResponse(chunks())

    async def background(self, request):
        async def later():
            try:
                await asyncio.sleep(1.0)
                note(f"left in background: {{await self.inner.left.remote()}}")
            except BaseException as error:
                note(f"background: {{type(error).__name__}}")
        return JSONResponse("ok", background=BackgroundTask(later))

app = Outer.bind(Inner.bind())
"""


class Served:
    def __init__(self, machine: Machine) -> None:
        self.notes_path = machine.work / "notes"
        self.script: Script = machine.serve(
            APP.format(notes=str(self.notes_path)),
            run="(serve.run(Threads.bind(), name='threads', route_prefix='/threads'), serve.run(app))[1]",
        )

    def notes(self) -> list[str]:
        return self.notes_path.read_text().split("\n")[:-1] if self.notes_path.exists() else []

    def wait_for(self, *notes: str) -> None:
        eventually(lambda: self.notes() == list(notes), f"{notes}; there is {self.notes()}")

    def get(self, query: str, seconds: float | None = None, path: str = "/") -> Answer:
        headers = {} if seconds is None else {"x-request-timeout-seconds": str(seconds)}
        return self.script.get(f"{path}?{query}", headers=headers)

    def leave(self, query: str, after: str, *, upload: bool = False) -> None:
        """A client that leaves once `after` is among the notes, in the middle of its body if it has one."""
        parts = urlsplit(self.script.address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        connection.putrequest("POST" if upload else "GET", f"/?{query}")
        if upload:
            connection.putheader("content-length", "1000000")
        connection.endheaders(b"x" * 200_000 if upload else None)
        eventually(lambda: after in self.notes(), after)
        connection.close()

    def slot_is_free(self) -> None:
        """With one slot in all, an answer says that it is not taken."""
        assert self.get("do=answer").text == "ok"

    def status(self, application: str, deployment: str) -> Any:
        found = f"serve.status().applications[{application!r}].deployments[{deployment!r}]"
        return self.script.do(f"[{found}.status.value, {found}.abandoned_requests]")


@pytest.fixture
def served(machine: Machine) -> Served:
    return Served(machine)


@pytest.mark.contract("4.3/cancel-timeout")
def test_the_deadline_is_answered_with_408_and_async_code_is_cancelled(served: Served) -> None:
    began = time.monotonic()
    answer = served.get("do=wait", 0.3)
    assert answer.status == 408
    assert time.monotonic() - began < 10
    served.wait_for("began", "cancelled")
    served.slot_is_free()


def test_the_time_limit_of_the_node_holds_where_the_request_says_nothing(machine: Machine) -> None:
    script = machine.serve(
        """
        import asyncio
        from eagleray import serve
        from eagleray.serve.context import get_request_context

        @serve.deployment
        class App:
            async def __call__(self, request):
                await asyncio.sleep(float(request.query_params["s"]))
                return get_request_context().remaining_s

        serve.start(http_options={"port": 0, "request_timeout_s": 2})
        app = App.bind()
        """
    )
    assert 0 < script.get("/?s=0").json() <= 2
    assert script.get("/?s=60").status == 408
    longer = script.get("/?s=2.5", headers={"x-request-timeout-seconds": "30"})
    assert 20 < longer.json() <= 27.6


@pytest.mark.contract("4.3/cancel-disconnect")
def test_a_client_that_leaves_cancels_async_code(served: Served) -> None:
    served.leave("do=wait", "began")
    served.wait_for("began", "cancelled")
    served.slot_is_free()


@pytest.mark.parametrize(("do", "notes"), [("swallow", ["began", "swallowed"]), ("shield", ["began"])])
def test_code_that_resists_its_cancellation_leaks_no_slot(served: Served, do: str, notes: list[str]) -> None:
    for _ in range(5):
        assert served.get(f"do={do}", 0.1).status == 408
    served.wait_for(*notes * 5)
    served.slot_is_free()


def test_a_client_that_leaves_in_its_upload_ends_the_read(served: Served) -> None:
    served.leave("do=body", "began", upload=True)
    eventually(lambda: len(served.notes()) == 2, "the read ends")
    assert served.notes()[1] in ("CancelledError", "ClientDisconnect")
    served.slot_is_free()


@pytest.mark.contract("4.3/cancel-generator")
def test_a_client_that_leaves_a_stream_ends_the_generator(served: Served) -> None:
    served.leave("do=stream", "began")
    eventually(lambda: len(served.notes()) == 2, "the generator ends")
    assert served.notes()[1] in ("cancelled", "closed")
    served.slot_is_free()


def test_the_deadline_breaks_off_a_stream(served: Served) -> None:
    with pytest.raises(http.client.HTTPException):
        served.get("do=stream", 0.5)
    eventually(lambda: len(served.notes()) == 2, "the generator ends")
    served.slot_is_free()


@pytest.mark.contract("4.3/cancel-threads")
def test_sync_code_keeps_its_slot_and_is_counted_while_its_client_is_answered(served: Served, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    assert served.get(f"until={gate}", 0.3, "/threads").status == 408
    assert served.notes() == ["thread began"], "it runs on"
    eventually(lambda: served.status("threads", "Threads") == ["HEALTHY", 1], "it is counted")
    assert "abandoned_requests: 1" in served.script.machine.cli("status").stdout
    behind: list[Answer] = []
    waits = threading.Thread(target=lambda: behind.append(served.get(f"until={gate}", None, "/threads")))
    waits.start()
    assert served.get(f"until={gate}", 0.3, "/threads").status == 408, "the slot is not free"
    assert served.notes() == ["thread began"]
    gate.touch()
    waits.join(30)
    assert behind[0].text == "late"
    eventually(lambda: served.status("threads", "Threads") == ["HEALTHY", 0], "nothing is counted any more")
    assert "thread ended, cancelled: True" in served.notes()


@pytest.mark.contract("4.3/cancel-children", "3.3/cancel-children", "2/nested")
def test_calls_have_what_is_left_of_the_time_and_end_with_their_request(served: Served) -> None:
    assert served.get("do=left").json() == [None, None]
    outer, inner = served.get("do=left", 20).json()
    # Whole milliseconds travel, rounded up, so that nobody gives up early.
    assert 0 < inner <= outer + 0.001 <= 20.002
    assert served.get("do=call", 0.5).status == 408
    served.wait_for("began", "inner began", "inner cancelled")
    served.leave("do=call", "began")
    eventually(lambda: served.notes().count("inner cancelled") == served.notes().count("inner began"), "both ended")
    served.slot_is_free()
    assert served.get("do=left").json() == [None, None], "the inner slot is free too"


def test_background_tasks_are_not_part_of_the_request(served: Served) -> None:
    assert served.get("do=background", 0.5).text == '"ok"'
    served.wait_for("left in background: None")


@pytest.mark.contract("4.3/cancel-response", "3.3/result-timeout", "3.3/cancel", "1.5/get_deployment_handle")
def test_handles_time_out_and_cancel(served: Served) -> None:
    script = served.script
    script.do("globals().update(inner=serve.get_deployment_handle('Inner', 'default'))")
    script.do("globals().update(r=inner.remote('x'))")
    assert script.ask("r.result(timeout_s=0.2)")["error"] == "GetTimeoutError", (
        "a TimeoutError, by the name that Ray has for it"
    )
    served.wait_for("inner began")
    script.do("r.cancel()")
    served.wait_for("inner began", "inner cancelled")
    assert script.ask("r.result()")["error"] == "RequestCancelledError"
    assert script.do("inner.left.remote().result(timeout_s=20)") is None, "the slot is free"


@pytest.mark.contract("3.1/callers", "3.3/result-sync-method", "3.3/exception", "1.5/get_app_handle")
def test_a_deployment_calls_another_application_through_a_handle(machine: Machine) -> None:
    script = machine.serve(
        """
        from eagleray import serve

        @serve.deployment
        class Inner:
            async def __call__(self, number):
                return number + 1

            def fail(self):
                raise KeyError("no such thing")

        @serve.deployment
        class Outer:
            def __init__(self):
                self.inner = serve.get_app_handle("inner")
                self.again = serve.get_deployment_handle("Inner", "inner")

            async def __call__(self, request):
                first = await self.inner.remote(1)
                second = await self.again.remote(first)
                try:
                    await self.inner.fail.remote()
                except KeyError as error:
                    return [second, str(error)]

        @serve.deployment
        class InThread:
            def __call__(self, request):
                return serve.get_app_handle("inner").remote(41).result()

        serve.run(Inner.bind(), name="inner", route_prefix=None)
        serve.run(InThread.bind(), name="thread", route_prefix="/thread")
        app = Outer.bind()
        """
    )
    assert script.get("/").json() == [3, "'no such thing'"]
    assert script.get("/thread").json() == 42


def test_a_deadline_is_408_even_if_user_code_hears_of_it_first(machine: Machine) -> None:
    script = machine.serve(
        """
        from eagleray import serve
        from eagleray.serve.context import get_request_context

        @serve.deployment
        class App:
            async def __call__(self, request):
                # Blocks the loop, so that no cancellation comes before the error.
                while get_request_context().remaining_s > 0:
                    pass
                raise TimeoutError("as a call through a handle raises it")

        app = App.bind()
        """
    )
    statuses = {script.get("/", headers={"x-request-timeout-seconds": "0.05"}).status for _ in range(40)}
    assert statuses == {408}
