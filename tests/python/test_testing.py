"""`eagleray.testing`: HTTP requests to an application in this process, without a port."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

from eagleray import serve, testing
from eagleray.serve.context import get_request_context
from eagleray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from eagleray.serve.handle import DeploymentHandle

NOTES: list[str] = []


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    NOTES.clear()
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("eagleray local ")]
    assert serve.status().applications == {}


async def endless() -> AsyncIterator[str]:
    try:
        number = 0
        while True:
            yield f"{number}\n"
            number += 1
    finally:
        NOTES.append("closed")


@serve.deployment
class Plain:
    async def __call__(self, request: Request) -> Any:
        return await getattr(self, request.scope["path"].rpartition("/")[2])(request)

    async def echo(self, request: Request) -> Any:
        body = (await request.body()).decode()
        return [request.method, request.scope["root_path"], str(request.url.query), body, request.headers.get("x-a")]

    async def model(self, request: Request) -> Any:
        context = get_request_context()
        assert context is not None
        return [context.multiplexed_model_id, context.request_id]

    async def number(self, request: Request) -> int:
        return 7

    async def raises(self, request: Request) -> None:
        raise ValueError("a secret")

    async def busy(self, request: Request) -> None:
        raise BackPressureError(3, 2, 429, 1.5)

    async def unavailable(self, request: Request) -> None:
        raise DeploymentUnavailableError("x")

    async def endless(self, request: Request) -> Any:
        return endless()

    async def breaks(self, request: Request) -> Any:
        def chunks() -> Iterator[str]:
            yield "first"
            raise ValueError("midway")

        return StreamingResponse(chunks())

    async def waits(self, request: Request) -> None:
        NOTES.append("began")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            NOTES.append("cancelled")
            raise

    async def background(self, request: Request) -> JSONResponse:
        return JSONResponse("now", background=BackgroundTask(lambda: NOTES.append("later")))


@serve.deployment
class Threads:
    def __init__(self, plain: DeploymentHandle) -> None:
        self.plain = plain

    def __call__(self, request: Any) -> Any:
        if request.scope["path"] == "/stream":
            return (f"{number} " for number in range(100))
        return {"got": request.json(), "app": serve.get_replica_context().deployment}


@serve.deployment
def function() -> str:
    return "no arguments"


def eventually(notes: list[str]) -> None:
    for _ in range(1000):
        if notes == NOTES:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{notes} expected, there is {NOTES}")


def test_requests_and_answers_are_those_of_production() -> None:
    with testing.client(Plain.bind(), route_prefix="/app") as client:
        answer = client.post("/app/echo?a=1", params={"b": ["x", "y"]}, content="body", headers={"X-A": "mine"})
        assert answer.json() == ["POST", "/app", "a=1&b=x&b=y", "body", "mine"]
        assert client.put("/app/echo", json={"k": 1}).json()[3] == '{"k": 1}'
        assert client.patch("/app/echo", data={"k": "1 2"}).json()[3] == "k=1+2"
        number = client.get("/app/number")
        assert (number.status_code, number.text, number.headers["content-type"]) == (200, "7", "application/json")
        assert client.head("/app/number").content == b""
        assert client.get("/other").status_code == 404
        assert client.get("/apple").status_code == 404
        with pytest.raises(TypeError, match="one body"):
            client.post("/app/echo", json={}, content="x")


def test_headers_that_eagleray_knows_have_their_effect() -> None:
    with testing.client(Plain.bind()) as client:
        answer = client.get("/model", headers={"serve-multiplexed-model-id": "m1", "x-request-id": "mine"})
        assert answer.json() == ["m1", "mine"]
        assert answer.headers["x-request-id"] == "mine"
        assert client.get("/model", headers={"x-request-id": "with space"}).json()[1] != "with space"
        assert client.get("/waits", headers={"x-request-timeout-seconds": "0.1"}).status_code == 408
        eventually(["began", "cancelled"])


def test_errors_have_their_status_and_no_details() -> None:
    with testing.client(Plain.bind()) as client:
        raised = client.get("/raises")
        assert (raised.status_code, raised.text) == (500, "Internal Server Error")
        busy = client.get("/busy")
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "2")
        assert client.get("/unavailable").status_code == 503
        with pytest.raises(ConnectionError, match="broke off"):
            client.get("/breaks")


def test_a_stream_is_taken_while_it_is_made_and_left_before_its_end() -> None:
    with testing.client(Plain.bind()) as client:
        with client.stream("GET", "/endless") as response:
            lines = response.iter_lines()
            assert [next(lines) for _ in range(100)] == [str(number) for number in range(100)]
        eventually(["closed"])


def test_background_tasks_run_after_the_answer() -> None:
    with testing.client(Plain.bind()) as client:
        assert client.get("/background").json() == "now"
    assert NOTES == ["later"], "the end waits for them"


def test_sync_handlers_and_functions_and_handles() -> None:
    with testing.client(Threads.bind(Plain.bind())) as client:
        assert client.post("/", json=[1]).json() == {"got": [1], "app": "Threads"}
        assert client.get("/stream").text == "".join(f"{number} " for number in range(100))
        assert client.get("/").status_code == 500, "no JSON"
        assert client.handle.deployment_name == "Threads"
        with testing.client(function.bind()) as other:
            assert other.get("/anything").text == "no arguments"
    with testing.local(function.bind()) as handle:
        assert handle.remote().result() == "no arguments"


app = FastAPI()


@serve.deployment
@serve.ingress(app)
class Views:
    def __init__(self, plain: DeploymentHandle) -> None:
        self.start, self.plain = 40, plain

    @app.get("/add/{number}")
    async def add(self, number: int) -> int:
        return self.start + number

    @app.get("/sync")
    def sync(self) -> str:
        return serve.get_replica_context().deployment

    @app.get("/missing")
    async def missing(self) -> None:
        raise HTTPException(404, "not here")

    @app.get("/model")
    async def model(self) -> Any:
        return await self.plain.options(method_name="number").remote(None)


def test_fastapi_answers_as_it_does_when_served() -> None:
    with testing.client(Views.bind(Plain.bind()), route_prefix="/api") as client:
        assert client.get("/api/add/2").json() == 42
        assert client.get("/api/add/x").status_code == 422
        assert client.get("/api/sync").json() == "Views"
        assert client.get("/api/missing").json() == {"detail": "not here"}
        assert client.get("/api/model").json() == 7
        assert client.get("/api/openapi.json").json()["servers"] == [{"url": "/api"}]
        assert client.get("/api/nothing").status_code == 404


@pytest.mark.contract("1.2/constructor-changes")
def test_what_a_constructor_changes_of_the_application_is_served_here_too() -> None:
    shared = FastAPI()

    @serve.deployment
    @serve.ingress(shared)
    class Changes:
        def __init__(self, word: str) -> None:
            shared.state.word = word
            shared.get("/late")(lambda: word)

        @shared.get("/early")
        async def early(self, request: Request) -> Any:
            return request.app.state.word

    empty = serve.deployment(serve.ingress(shared)())
    before = list(shared.routes)
    for word in ("first", "second"):
        with testing.client(Changes.bind(word)) as client:
            assert (client.get("/early").json(), client.get("/late").json()) == (word, word)
    assert list(shared.routes) == before, "the module's application is again what it was"
    assert not hasattr(shared.state, "word")
    with testing.client(Changes.bind("one")) as client, testing.client(Views.bind(Plain.bind())) as other:
        assert (client.get("/early").json(), other.get("/add/2").json()) == ("one", 42)
        with testing.client(empty.bind()) as third:
            assert third.get("/early").status_code == 404, "a copy, while the first is served"
        assert client.get("/early").json() == "one"


def test_the_call_of_an_ingress_is_for_http_only() -> None:
    with testing.client(Views.bind(None)) as client:
        with pytest.raises(RayServeException, match="no method '__call__'; available methods: add"):
            client.handle.remote(1).result()


@pytest.mark.contract("1.5/local-context", better="the request's context, models and batches are as in production")
def test_batches_fill() -> None:
    @serve.deployment
    class Batches:
        @serve.batch(max_batch_size=4, batch_wait_timeout_s=10)
        async def double(self, numbers: list[int]) -> list[list[int]]:
            return [[2 * number, len(numbers)] for number in numbers]

        async def __call__(self, number: int) -> list[int]:
            return await self.double(number)  # type: ignore[call-arg, arg-type, return-value]

    with testing.local(Batches.bind()) as handle:
        responses = [handle.remote(number) for number in range(4)]
        assert [response.result() for response in responses] == [[0, 4], [2, 4], [4, 4], [6, 4]]


@pytest.mark.contract("1.5/local-context", better="the request's context, models and batches are as in production")
def test_models_are_loaded_by_the_id_of_the_request_and_unloaded_at_the_end() -> None:
    class Model:
        def __init__(self, model_id: str) -> None:
            self.model_id = model_id

        def __del__(self) -> None:
            NOTES.append(f"{self.model_id} unloaded")

    @serve.deployment
    class Models:
        @serve.multiplexed(max_num_models_per_replica=2)
        async def load(self, model_id: str) -> Model:
            NOTES.append(f"{model_id} loaded")
            return Model(model_id)

        async def __call__(self, request: Any) -> str:
            model: Model = await self.load(serve.get_multiplexed_model_id())
            return model.model_id

    with testing.client(Models.bind()) as client:
        for model_id in ("a", "b", "a", "c"):
            assert client.get("/", headers={"serve_multiplexed_model_id": model_id}).text == model_id
        assert client.handle.options(multiplexed_model_id="a").remote(None).result() == "a"
        assert NOTES == ["a loaded", "b loaded", "b unloaded", "c loaded"]
    assert sorted(NOTES[4:]) == ["a unloaded", "c unloaded"]


@pytest.mark.contract("1.5/local-context")
def test_a_request_has_the_session_that_its_header_names() -> None:
    @serve.deployment
    class Sessions:
        async def __call__(self, request: Any) -> str:
            context = get_request_context()
            assert context is not None
            return context.session_id

    with testing.client(Sessions.bind()) as client:
        for header in ("x-session-id", "X_Session_Id"):
            assert client.get("/", headers={header: "s"}).text == "s"
        assert client.get("/").text == ""
