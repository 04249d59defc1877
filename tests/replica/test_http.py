"""HTTP requests to user code of every kind, and what comes back."""

import json
from pathlib import Path

import frames
import pytest
from machine_of_one import Node, as_json, code, serving

ECHO = """
class Echo:
    async def __call__(self, request):
        return {
            "method": request.method, "path": request.url.path, "query": dict(request.query_params),
            "header": request.headers.get("x-some"), "body": (await request.body()).decode(),
            "client": request.client.host,
        }
"""

KINDS = """
import asyncio
class Async:
    async def __call__(self, request):
        await asyncio.sleep(0)
        return "async " + request.method

class Sync:
    def __call__(self, request):
        return "sync " + request.method

async def async_function(request):
    return "async function " + request.method

def function(request):
    return "function " + request.method

async def nothing_async():
    return "none"

def nothing():
    return "none"

class AsyncGenerator:
    async def __call__(self, request):
        yield "a"
        yield b"b"

class Generator:
    def __call__(self, request):
        yield "a"
        yield b"b"

class ReturnsGenerator:
    async def __call__(self, request):
        return (piece for piece in "ab")
"""


@pytest.mark.contract("4.4/request", "4.4/no-parameters")
@pytest.mark.contract("4.4/generator", better="a bare generator is streamed")
@pytest.mark.parametrize(
    ("name", "expected", "sync"),
    [
        ("Async", "async GET", False),
        ("Sync", "sync GET", True),
        ("async_function", "async function GET", False),
        ("function", "function GET", True),
        ("nothing_async", "none", False),
        ("nothing", "none", True),
        ("AsyncGenerator", "ab", False),
        ("Generator", "ab", True),
        ("ReturnsGenerator", "ab", False),
    ],
)
def test_every_kind_of_callable_answers(tmp_path: Path, name: str, expected: str, sync: bool) -> None:
    node = Node(tmp_path)
    try:
        node.start(code(KINDS)[name])
        assert bool(node.ready().get(1)) == sync
        router = node.router()
        assert (router.replica_id, router.limit) == ("abc12345", 100)
        for _ in range(3):
            answer = router.get("/")
            assert (answer.status, answer.body.decode()) == (200, expected)
        assert node.stop() == 0
    finally:
        node.close()


def test_the_request_is_what_was_sent(tmp_path: Path) -> None:
    with serving(tmp_path, code(ECHO)["Echo"]) as (_, router):
        answer = router.get("/a%20b/%ff?c=d", method="POST", body=b"body", headers=(("x-some", "thing"),))
        assert as_json(answer) == {
            "method": "POST", "path": "/a b/\ufffd", "query": {"c": "d"}, "header": "thing", "body": "body",
            "client": "127.0.0.1",
        }  # fmt: skip


def test_a_body_larger_than_the_credit_is_read_as_it_comes(tmp_path: Path) -> None:
    async_length = "async def length(request):\n    return len(await request.body())"
    sync_length = "def length(request):\n    return len(request.body())"
    for number, source in enumerate((async_length, sync_length)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with serving(folder, code(source)["length"]) as (_, router):
            assert as_json(router.get("/", method="POST", body=b"x" * 1_000_000)) == 1_000_000


def test_a_sync_body_beyond_the_limit_is_413(tmp_path: Path) -> None:
    with serving(tmp_path, code("def length(request):\n    return len(request.body())")["length"]) as (_, router):
        assert router.get("/", method="POST", body=b"x" * (2 << 20)).status == 413
        assert router.get("/").status == 200


def test_a_sync_request_has_values(tmp_path: Path) -> None:
    source = """
    def handler(request):
        return [request.json()["a"], len(request.body()), b"".join(request.stream()).decode()]
    """
    with serving(tmp_path, code(source)["handler"]) as (_, router):
        assert as_json(router.get("/", method="POST", body=b'{"a":1}')) == [1, 7, '{"a":1}']
        assert router.get("/", method="POST", body=b"no json").status == 500


def test_a_sync_request_has_its_form(tmp_path: Path) -> None:
    pytest.importorskip("python_multipart", reason="forms need python-multipart, as in starlette")
    with serving(tmp_path, code("def handler(request):\n    return dict(request.form())")["handler"]) as (_, router):
        form = (("content-type", "application/x-www-form-urlencoded"),)
        assert as_json(router.get("/", method="POST", body=b"a=1&b=two", headers=form)) == {"a": "1", "b": "two"}


KEPT = """
kept = []

def first_of(request):
    kept.append(request)
    first = kept[0]
    if request is not first:
        return [first.scope is first.scope, first.url.path, first.headers["x-mine"], first.method]

class Async:
    async def __call__(self, request):
        return first_of(request)

class Sync:
    def __call__(self, request):
        return first_of(request)
"""


@pytest.mark.parametrize("name", ["Async", "Sync"])
def test_a_request_can_be_looked_at_after_its_answer(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, code(KEPT)[name]) as (_, router):
        router.get("/first", method="PUT", body=b"b", headers=(("x-mine", "1"),))
        answer = router.get("/second", headers=(("x-mine", "2"),))
        assert as_json(answer) == [True, "/first", "1", "PUT"]


RETURNS = """
import dataclasses, datetime, enum, uuid
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

@dataclasses.dataclass
class Point:
    x: int
    y: float

class Colour(enum.Enum):
    RED = "red"

class Text(enum.StrEnum):
    ONE = "one"

def value(kind):
    if kind == "numpy":
        import numpy
        return {"array": numpy.arange(3), "scalar": numpy.float32(1.5)}
    if kind == "pandas":
        import pandas
        frame = pandas.DataFrame({"name": ["a", "b"], "n": [1, 2], "x": [0.5, 1.5]})
        frame["when"] = pandas.to_datetime(["2024-01-02", "2024-01-03"])
        return {"frame": frame, "column": frame["n"], "row": frame.iloc[1][["name", "n"]], "empty": frame[:0]}
    if kind == "stream":
        return StreamingResponse(iter(["0", "1"]), media_type="text/x-some")
    if kind == "file":
        return FileResponse(__import__("os").__file__)
    return {
        "none": None, "bytes": b"\\x00raw", "text": "gr\\u00fc\\u00dfe", "dict": {"a": [1, 2.5, None, True]},
        "int": 7, "set": {3}, "dataclass": Point(1, 2.0), "date": datetime.date(2024, 1, 2), "enum": Colour.RED,
        "strenum": Text.ONE, "error": ValueError("its text"), "uuid": uuid.UUID(int=1), "object": object(),
        "response": JSONResponse({"made": "by hand"}, 201, {"x-mine": "yes"}),
        "empty": Response(status_code=204), "header": Response("x", headers={"x-bad": "a\\nb"}),
        "status": Response("x", status_code=42),
    }[kind]

class Async:
    async def __call__(self, request):
        return value(request.query_params["kind"])

class Sync:
    def __call__(self, request):
        return value(request.query_params["kind"])
"""


@pytest.mark.contract(
    "4.4/response",
    "4.4/none",
    "4.4/bytes",
    "4.4/str",
    "4.4/json",
    "4.4/json-encoders",
    "4.4/json-exception",
    "4.4/unencodable",
)
@pytest.mark.parametrize("name", ["Async", "Sync"])
def test_return_types(tmp_path: Path, name: str) -> None:
    plain, text, json_type = "text/plain", "text/plain; charset=utf-8", "application/json"
    expected = {
        "none": (b"", plain),
        "bytes": (b"\x00raw", plain),
        "text": ("grüße".encode(), text),
        "dict": (b'{"a":[1,2.5,null,true]}', json_type),
        "int": (b"7", json_type),
        "set": (b"[3]", json_type),
        "dataclass": (b'{"x":1,"y":2.0}', json_type),
        "date": (b'"2024-01-02"', json_type),
        "enum": (b'"red"', json_type),
        "strenum": (b'"one"', json_type),
        "error": (b'"its text"', json_type),
        "uuid": (b'"00000000-0000-0000-0000-000000000001"', json_type),
        "stream": (b"01", "text/x-some; charset=utf-8"),
    }
    with serving(tmp_path, code(RETURNS)[name]) as (node, router):
        for kind, (body, content_type) in expected.items():
            answer = router.get(f"/?kind={kind}")
            assert (answer.status, answer.body, answer.headers["content-type"]) == (200, body, content_type), kind
        made = router.get("/?kind=response")
        assert (made.status, made.headers["x-mine"], as_json(made)) == (201, "yes", {"made": "by hand"})
        assert router.get("/?kind=empty").status == 204
        assert router.get("/?kind=file").body.startswith(b'r"""OS routines')
        for kind in ("object", "header", "status"):
            answer = router.get(f"/?kind={kind}")
            assert (answer.status, answer.body) == (500, b"Internal Server Error"), kind
        assert "cannot be encoded as JSON" in node.log
        head = router.get("/?kind=text", method="HEAD")
        assert (head.status, head.body) == (200, b"")


@pytest.mark.contract("4.4/json-numpy")
def test_numpy_without_importing_it_first(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    with serving(tmp_path, code(RETURNS)["Async"]) as (_, router):
        assert as_json(router.get("/?kind=numpy")) == {"array": [0, 1, 2], "scalar": 1.5}


@pytest.mark.contract("4.4/json-pandas")
def test_a_frame_becomes_a_list_of_records(tmp_path: Path) -> None:
    with serving(tmp_path, code(RETURNS)["Async"]) as (_, router):
        assert as_json(router.get("/?kind=pandas")) == {
            "frame": [
                {"name": "a", "n": 1, "x": 0.5, "when": "2024-01-02T00:00:00"},
                {"name": "b", "n": 2, "x": 1.5, "when": "2024-01-03T00:00:00"},
            ],
            "column": [1, 2],
            "row": ["b", 2],
            "empty": [],
        }


ERRORS = """
import sys
def fail(kind):
    if kind == "raise": raise ValueError("a secret")
    if kind == "exit": sys.exit(3)
    if kind == "interrupt": raise KeyboardInterrupt
    if kind == "base": raise BaseException("odd")
    if kind == "closed": raise GeneratorExit
    if kind == "recursion": fail(kind)
    if kind == "stop": raise StopIteration
    if kind == "text":
        class Odd(Exception):
            def __str__(self): raise ValueError
        raise Odd
    return "fine"

class Async:
    async def __call__(self, request):
        kind = request.query_params["kind"]
        if kind == "cancelled":
            import asyncio
            raise asyncio.CancelledError
        return fail(kind)

class Sync:
    def __call__(self, request):
        return fail(request.query_params["kind"])
"""


@pytest.mark.contract("4.4/user-exception")
@pytest.mark.parametrize("name", ["Async", "Sync"])
def test_an_error_of_user_code_is_one_500_and_nothing_else_suffers(tmp_path: Path, name: str) -> None:
    kinds = ["raise", "exit", "interrupt", "base", "closed", "recursion", "stop", "text"]
    if name == "Async":
        kinds.append("cancelled")
    with serving(tmp_path, code(ERRORS)[name]) as (node, router):
        for kind in kinds:
            answer = router.get(f"/?kind={kind}", request_id=f"id-of-{kind}")
            assert (answer.status, answer.body) == (500, b"Internal Server Error"), kind
            assert router.get("/?kind=none").body == b"fine"
        assert "ValueError: a secret" in node.log
        assert "app/Deployment abc12345 r1 id-of-raise -- request failed" in node.log
        assert node.process.poll() is None


def test_a_stream_that_breaks_off_says_so(tmp_path: Path) -> None:
    source = """
    class Breaks:
        async def __call__(self, request):
            yield "first"
            raise ValueError("in the middle")
    """
    with serving(tmp_path, code(source)["Breaks"]) as (node, router):
        answer = router.get("/")
        assert (answer.status, answer.body, answer.error) == (200, b"first", True)
        assert "in the middle" in node.log


def test_an_answer_longer_than_the_credit_waits_for_the_client(tmp_path: Path) -> None:
    source = """
    class Long:
        async def __call__(self, request):
            if request.url.path == "/stream":
                return (b"x" * 100_000 for _ in range(30))
            return b"x" * 3_000_000
    """
    with serving(tmp_path, code(source)["Long"]) as (_, router):
        for path in ("/", "/stream"):
            answer = router.get(path)
            assert len(answer.body) == 3_000_000
            assert not answer.error
            assert len(answer.frames) > 3
        sent = router.request(frames.http_head(path="/"))
        # Without credit only so much comes, and short requests pass it.
        first = router.read()
        while len(first.payload) == 0 or not first.flags & frames.HEAD:
            first = router.read()
        assert router.answer(sent).status == 200


def test_background_tasks_run_before_the_slot_is_free(tmp_path: Path) -> None:
    source = """
    from starlette.background import BackgroundTask
    from starlette.responses import JSONResponse
    ran = []
    class Back:
        async def __call__(self, request):
            return JSONResponse(len(ran), background=BackgroundTask(ran.append, 1))
    """
    with serving(tmp_path, code(source)["Back"]) as (_, router):
        first = router.get("/")
        assert [bool(frame.flags & frames.DONE) for frame in first.frames] == [False, True]
        assert as_json(router.get("/")) == 1


@pytest.mark.contract("4.4/json")
def test_json_is_compact(tmp_path: Path) -> None:
    with serving(tmp_path, code("def f(request):\n    return {'a': [1, 2], 'b': {}}")["f"]) as (_, router):
        assert router.get("/").body == json.dumps({"a": [1, 2], "b": {}}, separators=(",", ":")).encode()


DOWNSTREAM = """
from eagleray.serve.exceptions import BackPressureError, DeploymentUnavailableError

def fail(path):
    if path == "/full":
        raise BackPressureError(3, 2, 429, 1.5)
    if path == "/gone":
        raise DeploymentUnavailableError("x")
    return path

class Async:
    async def __call__(self, request):
        return fail(request.url.path)

    async def method(self, request):
        return "not this one"

class Sync:
    def __call__(self, request):
        return fail(request.url.path)
"""


@pytest.mark.contract("4.4/downstream")
@pytest.mark.contract("4.4/call")
@pytest.mark.parametrize("name", ["Async", "Sync"])
def test_full_queues_and_missing_deployments_downstream_keep_their_status(tmp_path: Path, name: str) -> None:
    with serving(tmp_path, code(DOWNSTREAM)[name]) as (_, router):
        full = router.get("/full")
        assert (full.status, full.headers["retry-after"]) == (429, "2")
        assert router.get("/gone").status == 503
        assert router.get("/method").body == b"/method", "the path names no method"


@pytest.mark.contract("4.3/own-loop")
def test_all_async_code_runs_on_one_loop(tmp_path: Path) -> None:
    source = """
    import asyncio
    class Loops:
        async def __init__(self):
            self.loops = {id(asyncio.get_running_loop())}
        async def check_health(self):
            self.loops.add(id(asyncio.get_running_loop()))
        async def __call__(self, request):
            self.loops.add(id(asyncio.get_running_loop()))
            return len(self.loops)
    """
    with serving(tmp_path, code(source)["Loops"]) as (_, router):
        assert as_json(router.get("/")) == 1
