"""What goes in and what comes out: requests, return values, routes, headers, streams."""

import http.client
import json
import threading
from urllib.parse import urlsplit

import pytest

from machine import Machine, eventually, request

RETURNS = """
import dataclasses, datetime, enum, uuid
from eagleray import serve
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

@dataclasses.dataclass
class Point:
    x: int
    y: float

VALUES = {
    "none": None, "bytes": b"\\x00raw", "text": "grüße", "dict": {"a": [1, 2.5, None, True]}, "list": [1, "x"],
    "int": 7, "bool": False, "tuple": (1, 2), "set": {3}, "dataclass": Point(1, 2.0),
    "date": datetime.date(2024, 1, 2), "uuid": uuid.UUID(int=1),
    "response": JSONResponse({"made": "by hand"}, status_code=201, headers={"x-mine": "yes"}),
}

@serve.deployment
class Returns:
    async def __call__(self, request):
        kind = request.query_params["kind"]
        if kind == "numpy":
            import numpy
            return {"array": numpy.arange(3), "scalar": numpy.float32(1.5)}
        if kind == "stream":
            async def chunks():
                for number in range(3):
                    yield f"{number}\\n"
            return StreamingResponse(chunks(), media_type="text/plain")
        return VALUES[kind]

app = Returns.bind()
"""


@pytest.mark.contract(
    "4.4/none",
    "4.4/bytes",
    "4.4/str",
    "4.4/json",
    "4.4/json-encoders",
    "4.4/json-numpy",
    "4.4/status",
    "4.4/response",
    "4.4/request",
)
def test_every_plain_return_type_has_its_body_and_content_type(machine: Machine) -> None:
    script = machine.serve(RETURNS)
    text, json_type = "text/plain; charset=utf-8", "application/json"
    expected = {
        "none": (b"", "text/plain"),
        "bytes": (b"\x00raw", "text/plain"),
        "text": ("grüße".encode(), text),
        "dict": (b'{"a":[1,2.5,null,true]}', json_type),
        "list": (b'[1,"x"]', json_type),
        "int": (b"7", json_type),
        "bool": (b"false", json_type),
        "tuple": (b"[1,2]", json_type),
        "set": (b"[3]", json_type),
        "dataclass": (b'{"x":1,"y":2.0}', json_type),
        "date": (b'"2024-01-02"', json_type),
        "uuid": (b'"00000000-0000-0000-0000-000000000001"', json_type),
        "numpy": (b'{"array":[0,1,2],"scalar":1.5}', json_type),
    }
    for kind, (body, content_type) in expected.items():
        answer = script.get(f"/?kind={kind}")
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, body, content_type), kind

    made = script.get("/?kind=response")
    assert (made.status, made.headers["x-mine"], made.json()) == (201, "yes", {"made": "by hand"})
    streamed = script.get("/?kind=stream")
    assert (streamed.status, streamed.text) == (200, "0\n1\n2\n")


@pytest.mark.contract("4.4/request", "4.4/no-parameters", "2/main")
def test_functions_and_sync_methods_and_no_arguments(machine: Machine) -> None:
    script = machine.serve(
        """
        from eagleray import serve

        @serve.deployment
        def double(request):
            return {"double": request.json()["number"] * 2}

        @serve.deployment
        async def silent():
            return "no arguments"

        @serve.deployment(max_ongoing_requests=3)
        class Sync:
            def __call__(self, request):
                payload = request.json()
                return {"got": payload, "body": len(request.body()), "query": dict(request.query_params)}

        app = double.bind()
        serve.run(silent.bind(), name="silent", route_prefix="/silent")
        serve.run(Sync.bind(), name="sync", route_prefix="/sync")
        """
    )
    assert script.post("/", {"number": 21}).json() == {"double": 42}
    assert script.get("/silent").text == "no arguments"
    body = {"a": "b" * 100_000}
    answer = script.post("/sync?q=1", body)
    assert answer.json() == {"got": body, "body": len(json.dumps(body)), "query": {"q": "1"}}


@pytest.mark.contract(
    "4.4/request-sync", better="sync code has values at once; async code behind a plain decorator works"
)
def test_async_code_behind_plain_functions_is_awaited_and_reads_its_request_as_starlette_has_it(
    machine: Machine,
) -> None:
    script = machine.serve(
        """
        import asyncio
        import functools

        from eagleray import serve

        def timed(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs)
            return wrapper

        async def whole(request):
            pieces = [piece async for piece in request.stream()]
            return [await request.json(), len(await request.body()), len(b"".join(pieces))]

        @serve.deployment
        class Decorated:
            @timed
            async def __call__(self, request):
                return await whole(request)

            @timed
            async def add(self, number):
                await asyncio.sleep(0)
                return number + 1

            @timed
            async def count(self, number):
                for index in range(number):
                    yield index

        @serve.deployment
        class RunsHelper:
            def __call__(self, request):
                return asyncio.run(whole(request)) + [request.json()]

        @serve.deployment
        class Streams:
            @timed
            async def __call__(self, request):
                number = await request.json()
                yield f"{number}\\n"
                yield "end"

        @serve.deployment
        class Form:
            def __call__(self, request):
                return request.form()["name"] + asyncio.run(self.again(request))

            async def again(self, request):
                async with request.form() as form:
                    return form["name"]

        app = Decorated.bind()
        serve.run(RunsHelper.bind(), name="helper", route_prefix="/helper")
        serve.run(Streams.bind(), name="streams", route_prefix="/streams")
        serve.run(Form.bind(), name="form", route_prefix="/form")
        """,
        run="""serve.run(app)
local = serve.run(Decorated.bind(), name="local", local_testing_mode=True)""",
    )
    for name in ("handle", "local"):
        assert script.do(f"{name}.add.remote(1).result()") == 2
        assert script.do(f"list({name}.options(method_name='count', stream=True).remote(3))") == [0, 1, 2]
    assert script.post("/", "null").json() == [None, 4, 4]
    assert script.post("/", "3").json() == [3, 1, 1]
    assert script.post("/helper", {"a": 1}).json() == [{"a": 1}, 8, 8, {"a": 1}]
    assert script.post("/streams", "7").text == "7\nend"
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert script.post("/form", "name=Ann", headers=form).text == "AnnAnn"


@pytest.mark.contract("4.4/root_path", "1.5/delete", "1.5/run")
@pytest.mark.contract("10.2/prefix", "10.2/healthz")
def test_applications_are_found_by_their_longest_route_prefix(machine: Machine) -> None:
    script = machine.serve(
        """
        from eagleray import serve

        @serve.deployment
        class Where:
            def __init__(self, name):
                self.name = name

            async def __call__(self, request):
                return [self.name, request.url.path, request.scope["root_path"]]

        serve.run(Where.bind("a"), name="a", route_prefix="/a")
        serve.run(Where.bind("ab"), name="ab", route_prefix="/a/b")
        app = Where.bind("c")
        """,
        run='serve.run(app, name="c", route_prefix="/c")',
    )
    expected = {"/a": "a", "/a/": "a", "/a/x": "a", "/a/bc": "a", "/a/b": "ab", "/a/b/c": "ab", "/c/a/b": "c"}
    for path, name in expected.items():
        prefix = {"a": "/a", "ab": "/a/b", "c": "/c"}[name]
        assert script.get(path).json() == [name, path, prefix], path
    for path in ("/", "/ab", "/b"):
        missing = script.get(path)
        assert missing.status == 404
        assert "/-/routes" in missing.text, "the answer says where to look"

    assert script.get("/-/routes").json() == {"/a": "a", "/a/b": "ab", "/c": "c"}
    health = script.get("/-/healthz")
    assert (health.status, health.text) == (200, "success")

    script.do('serve.delete("a")')
    assert script.get("/a/x").status == 404
    assert script.get("/a/b").json()[0] == "ab"
    assert script.get("/-/routes").json() == {"/a/b": "ab", "/c": "c"}


@pytest.mark.contract("1.5/run-prefix-taken")
def test_a_prefix_of_another_application_is_refused(machine: Machine) -> None:
    script = machine.serve(RETURNS, run='serve.run(app, name="first", route_prefix="/x")')
    refused = script.ask('serve.run(app, name="second", route_prefix="/x")')
    assert "first" in refused["text"]
    assert "/x" in refused["text"]
    assert script.get("/x?kind=int").status == 200


@pytest.mark.contract("4.4/request-id")
def test_the_request_id_comes_back(machine: Machine) -> None:
    script = machine.serve(RETURNS)
    assert script.get("/?kind=int", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    made = {script.get("/?kind=int").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3, "each request has an id of its own"
    hostile = script.get("/?kind=int", headers={"x-request-id": "with space"})
    assert hostile.headers["x-request-id"] != "with space"
    assert script.get("/nobody", headers={"x-request-id": "mine-2"}).headers["x-request-id"] == "mine-2"


def test_the_request_arrives_as_it_was_sent(machine: Machine) -> None:
    script = machine.serve(
        """
        from eagleray import serve

        @serve.deployment
        class Echo:
            async def __call__(self, request):
                return {
                    "method": request.method, "path": request.url.path, "query": str(request.url.query),
                    "headers": [[k, v] for k, v in request.headers.items() if k.startswith("x-")],
                    "client": request.client.host, "body": (await request.body()).decode(),
                }

        app = Echo.bind()
        """
    )
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        answer = request(
            method, script.address + "/a%20b?c=d&c=e", body="körper".encode(), headers={"X-Mine": "1", "x-other": "2"}
        ).json()
        assert answer["method"] == method
        assert answer["query"] == "c=d&c=e"
        assert answer["body"] == "körper"
        assert answer["client"] == "127.0.0.1"
        assert ["x-mine", "1"] in answer["headers"]
        assert ["x-other", "2"] in answer["headers"]
    assert request("HEAD", script.address + "/").status == 200


@pytest.mark.contract("4.4/generator", "G/17", better="a bare generator is streamed")
def test_a_stream_arrives_while_it_is_made(machine: Machine) -> None:
    script = machine.serve(
        """
        import asyncio
        from eagleray import serve

        go = {}

        @serve.deployment
        class Clock:
            def __init__(self):
                self.next = asyncio.Event()

            async def __call__(self, request):
                if request.url.path == "/next":
                    self.next.set()
                    return "ok"
                if request.url.path == "/sync":
                    return (f"{n}" for n in range(4))
                return self.ticks()

            async def ticks(self):
                yield "first"
                await self.next.wait()
                yield "second"

        app = Clock.bind()
        """
    )
    parts = urlsplit(script.address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.read(5) == b"first", "the first part comes before the second exists"
    script.get("/next")
    assert response.read() == b"second"
    connection.close()
    assert script.get("/sync").text == "0123"


UPLOAD = """
import hashlib
from eagleray import serve

@serve.deployment
class Upload:
    async def __call__(self, request):
        digest, size = hashlib.sha256(), 0
        async for chunk in request.stream():
            digest.update(chunk)
            size += len(chunk)
            if request.url.path == "/early":
                return "enough"
        return {"size": size, "sha256": digest.hexdigest()}

@serve.deployment
class Download:
    async def __call__(self, request):
        return bytes(range(256)) * 4096 * int(request.query_params["mib"])

serve.run(Download.bind(), name="down", route_prefix="/down")
app = Upload.bind()
"""


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 20_000_000])
def test_a_body_of_any_length_arrives_whole(machine: Machine, size: int) -> None:
    import hashlib

    script = machine.serve(UPLOAD)
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    expected = {"size": size, "sha256": hashlib.sha256(body).hexdigest()}
    assert script.post("/", body).json() == expected
    chunks = (body[start : start + 70_000] for start in range(0, size, 70_000))
    assert script.post("/", chunks).json() == expected


def test_large_answers_and_an_early_answer(machine: Machine) -> None:
    script = machine.serve(UPLOAD)
    big = script.get("/down?mib=30").body
    assert len(big) == 30 * 2**20
    assert big[-256:] == bytes(range(256))
    assert script.post("/early", b"x" * 100_000).text == "enough"
    assert script.post("/", b"after").json()["size"] == 5


@pytest.mark.contract("4.3/cancel-disconnect", "4.3/disconnect-disabled")
def test_a_client_that_leaves_cancels_its_request_and_no_other(machine: Machine) -> None:
    script = machine.serve(
        """
        import asyncio
        from eagleray import serve

        @serve.deployment(max_ongoing_requests=10)
        class Slow:
            def __init__(self):
                self.state = {"started": 0, "cancelled": 0, "ended": 0}
                self.go = asyncio.Event()

            async def __call__(self, request):
                if request.url.path == "/state":
                    return self.state
                if request.url.path == "/go":
                    self.go.set()
                    return "ok"
                self.state["started"] += 1
                try:
                    await self.go.wait()
                except asyncio.CancelledError:
                    self.state["cancelled"] += 1
                    raise
                self.state["ended"] += 1
                return "done"

        app = Slow.bind()
        """
    )
    parts = urlsplit(script.address)
    leaver = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    leaver.request("GET", "/wait")
    unmoved = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    unmoved.request("GET", "/wait", headers={"x-request-disconnect-disabled": "?1"})
    answers: list[str] = []
    stayer = threading.Thread(target=lambda: answers.append(script.get("/wait").text))
    stayer.start()
    eventually(lambda: script.get("/state").json()["started"] == 3, "all requests run")
    unmoved.close()
    eventually(lambda: script.counters["requests_abandoned_open"] == 1, "its request goes on")
    leaver.close()
    eventually(lambda: script.get("/state").json()["cancelled"] == 1, "the leaver's request is cancelled")
    script.get("/go")
    stayer.join(20)
    assert answers == ["done"]
    eventually(lambda: script.get("/state").json() == {"started": 3, "cancelled": 1, "ended": 2}, "no other was")
    eventually(lambda: script.counters["requests_abandoned_open"] == 0, "nothing is kept of it")


@pytest.mark.contract(
    "1.5/run",
    "1.5/run-route_prefix",
    "1.5/get_app_handle",
    "3.1/attributes-unknown",
    "3.3/result",
    "3.3/await",
    "3.3/exception",
    "G/14",
)
def test_handles_answer_from_the_driver(machine: Machine) -> None:
    script = machine.serve(
        """
        import asyncio
        from eagleray import serve

        @serve.deployment(max_ongoing_requests=20)
        class Calculator:
            def __init__(self, base=0):
                self.base = base

            async def __call__(self, number):
                return self.base + number

            def sync(self, number, *, factor=1):
                return number * factor

            async def fails(self):
                raise ValueError("wrong number")

            async def slow(self):
                await asyncio.sleep(3600)

        async def gather(handle, count):
            return await asyncio.gather(*(handle.remote(n) for n in range(count)))

        app = Calculator.bind(base=100)
        """,
        run='serve.run(app, name="calc", route_prefix=None)',
    )
    assert script.do("handle.remote(1).result()") == 101
    assert script.do("handle.sync.remote(4, factor=3).result()") == 12
    assert script.do('serve.get_app_handle("calc").remote(2).result(timeout_s=10)') == 102
    assert script.do("asyncio.run(gather(handle, 50))") == [100 + n for n in range(50)]
    failed = script.ask("handle.fails.remote().result()")
    assert "ValueError" in failed["error"]
    assert "wrong number" in failed["text"]
    assert script.ask("handle.slow.remote().result(timeout_s=0.2)")["error"] in ("TimeoutError", "GetTimeoutError")
    unknown = script.ask("handle.nothing.remote().result()")
    assert "nothing" in unknown["text"]
    assert "sync" in unknown["text"], "the available methods are listed"
    assert script.get("/").status == 404, "an application without a prefix is not reachable over HTTP"


@pytest.mark.contract("1.5/status", "1.5/delete", "1.5/shutdown")
def test_status_delete_and_shutdown(machine: Machine) -> None:
    script = machine.serve(RETURNS, run='serve.run(app, name="one")')
    assert script.do('serve.status().applications["one"].status') == "RUNNING"
    assert script.do('serve.status().applications["one"].deployments["Returns"].status') == "HEALTHY"
    script.do('serve.delete("one")')
    assert script.do('"one" in serve.status().applications') is False
    eventually(lambda: not machine.replicas(), "the replica is gone")
    script.do("serve.shutdown()")
    eventually(lambda: not machine.pids("eagleray: "), "shutdown ends the script's own node")
    script.do("serve.shutdown()")


def test_output_of_user_code_reaches_the_terminal(machine: Machine) -> None:
    script = machine.serve(
        """
        import logging, sys
        from eagleray import serve

        @serve.deployment
        class Talks:
            def __init__(self):
                print("constructed now")

            async def __call__(self, request):
                print("printed now")
                print("complained now", file=sys.stderr)
                logging.getLogger("ray.serve").info("logged now")
                return "ok"

        app = Talks.bind()
        """
    )
    script.get("/")
    for words in ("constructed now", "printed now", "complained now"):
        eventually(lambda words=words: words in script.output, f"{words!r} reaches the terminal")
        # A thread of its own writes the log.
        eventually(lambda words=words: words in machine.logs("replica_*.log"), f"{words!r} is in the log")
    line = next(line for line in script.output.splitlines() if "printed now" in line)
    assert "Talks" in line, "the line says who wrote it"
