"""Bodies of any length and streams in both directions, through FastAPI and plain callables of one served script."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from machine import PATIENCE, Answer, Machine, Script, eventually, request

APP = """
import asyncio, hashlib, json, threading, time
from pathlib import Path
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.background import BackgroundTask
from eagleray import serve

NOTES = Path("notes")
BIG = 300 << 20
PIECE = bytes(range(256)) * 1024  # 256 KiB
app = FastAPI()
gates = {}

def note(word):
    with NOTES.open("a") as file:
        file.write(word + "\\n")

def gate(name):
    return gates.setdefault(name, asyncio.Event())

def rss():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0])  # KiB, the highest so far

async def measured(request):
    digest, size = hashlib.sha256(), 0
    async for piece in request.stream():
        size += len(piece)
        if size <= 1 << 20:
            digest.update(piece)
    return {"size": size, "sha256": digest.hexdigest(), "rss": rss()}

async def big():
    for _ in range(BIG // len(PIECE)):
        yield PIECE

def sync_big():
    for _ in range(BIG // len(PIECE)):
        yield PIECE

class Endless:
    pass

async def endless():
    note("endless began")
    try:
        while True:
            yield "more\\n"
            await asyncio.sleep(0.001)
    finally:
        note("endless ended")

def endless_sync():
    note("endless sync began")
    try:
        while True:
            yield b"x" * 1000
            time.sleep(0.001)
    finally:
        note("endless sync ended")

async def gated(name):
    yield "first"
    await gate(name).wait()
    yield "second"

async def breaks():
    yield "part"
    await asyncio.sleep(0.01)
    raise ValueError("a secret")

def breaks_sync():
    yield "part"
    raise ValueError("a secret")

@serve.deployment(max_ongoing_requests=20)
@serve.ingress(app)
class Api:
    @app.post("/upload")
    async def upload(self, request: Request):
        return await measured(request)

    @app.get("/big")
    async def big(self):
        return StreamingResponse(big(), headers={"content-length": str(BIG)})

    @app.get("/rss")
    async def rss(self):
        return rss()

    @app.get("/gated/{name}")
    async def gated(self, name: str):
        return StreamingResponse(gated(name), media_type="text/plain")

    @app.get("/events")
    async def events(self):
        async def events():
            for number in range(3):
                yield f"event: tick\\ndata: {number}\\n\\n"
        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/go/{name}")
    async def go(self, name: str):
        gate(name).set()

    @app.get("/breaks")
    async def breaks(self):
        return StreamingResponse(breaks())

    @app.get("/endless")
    async def endless(self):
        return StreamingResponse(endless())

    @app.get("/waits")
    async def waits(self):
        note("waits began")
        began = time.monotonic()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            note("waits cancelled")
            raise

    @app.get("/background")
    async def background(self):
        async def later():
            await gate("background").wait()
            note("background ended")
        return JSONResponse("answered", background=BackgroundTask(later))

    @app.post("/form")
    async def form(self, word: str = Form(), files: list[UploadFile] = File()):
        return [word, [[file.filename, file.content_type, len(await file.read())] for file in files]]

    @app.post("/sync-form")
    def sync_form(self, word: str = Form(), file: UploadFile = File()):
        return [word, file.filename, len(file.file.read())]

    @app.get("/file")
    async def file(self):
        return FileResponse("data.bin", filename="data.bin")

    @app.get("/context")
    def context(self):
        return [serve.context.get_request_context().request_id, threading.current_thread() is threading.main_thread()]

@serve.deployment(max_ongoing_requests=20)
class Plain:
    async def __call__(self, request):
        what = request.url.path.rsplit("/", 1)[-1]
        if what == "upload":
            return await measured(request)
        if what == "form":
            form = await request.form()
            return [form["word"], len(await form["file"].read())]
        if what == "go":
            gate("plain").set()
            return None
        if what == "gated":
            return gated("plain")
        return {
            "big": big, "sync-big": sync_big, "breaks": breaks, "breaks-sync": breaks_sync, "endless": endless,
            "endless-sync": endless_sync, "lines": lambda: ({"n": n} for n in range(2)),
            "strings": lambda: (word for word in ({}, "s")), "nothing": lambda: (word for word in ()),
            "mixed": lambda: (word for word in ("a", {})), "rss": rss,
        }[what]()

@serve.deployment(max_ongoing_requests=5, max_body_bytes=4 << 20)
class Sync:
    def __call__(self, request):
        what = request.url.path.rsplit("/", 1)[-1]
        if what == "form":
            form = request.form()
            return [form["word"], form["file"].filename, len(form["file"].file.read())]
        if what == "async":
            return breaks()
        return {"big": sync_big, "breaks": breaks_sync, "endless": endless_sync, "rss": rss}[what]()

Path("data.bin").write_bytes(PIECE * 4)
serve.run(Api.bind(), name="api", route_prefix="/api")
serve.run(Sync.bind(), name="sync", route_prefix="/sync")
application = Plain.bind()
"""

PIECE = bytes(range(256)) * 1024
BIG = 300 << 20
# What a process may grow by while so much passes through it.
BOUND_KIB = 48 << 10


class Served:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.script: Script = machine.serve(APP, run='serve.run(application, name="plain", route_prefix="/plain")')
        self.address = self.script.address
        self.host, self.port = urlsplit(self.address).hostname or "", urlsplit(self.address).port

    def get(self, path: str, **options: object) -> Answer:
        return request("GET", self.address + path, **options)  # type: ignore[arg-type]

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)

    def notes(self) -> list[str]:
        path = self.machine.work / "notes"
        return path.read_text().split("\n") if path.exists() else []

    def raw(self, head: str) -> socket.socket:
        made = socket.create_connection((self.host, self.port), timeout=PATIENCE)
        made.sendall(head.encode())
        return made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    machine = Machine(tmp_path_factory.mktemp("streams"))
    try:
        yield Served(machine)
    finally:
        for script in machine.scripts:
            print(script.output)
        assert not machine.close()


def highest_kib(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0])


@pytest.mark.parametrize("path", ["/api", "/plain"])
def test_an_upload_of_any_length_takes_bounded_memory_everywhere(served: Served, path: str) -> None:
    proxy = served.machine.one("eagleray: proxy")
    before = served.get(f"{path}/rss").json(), highest_kib(proxy)
    connection = served.connect()
    pieces = (PIECE for _ in range(BIG // len(PIECE)))
    connection.request("POST", f"{path}/upload", pieces, {"content-length": str(BIG)})
    found = json.loads(connection.getresponse().read())
    connection.close()
    assert found["size"] == BIG
    assert found["rss"] < before[0] + BOUND_KIB
    assert highest_kib(proxy) < before[1] + BOUND_KIB


@pytest.mark.parametrize("path", ["/api/big", "/plain/big", "/plain/sync-big", "/sync/big"])
def test_a_download_of_any_length_takes_bounded_memory_everywhere(served: Served, path: str) -> None:
    proxy = served.machine.one("eagleray: proxy")
    rss = path.rsplit("/", 1)[0] + "/rss"
    before = served.get(rss).json(), highest_kib(proxy)
    connection = served.connect()
    connection.request("GET", path)
    response = connection.getresponse()
    size = 0
    while piece := response.read(1 << 20):
        size += len(piece)
    connection.close()
    assert size == BIG
    assert served.get(rss).json() < before[0] + BOUND_KIB
    assert highest_kib(proxy) < before[1] + BOUND_KIB


@pytest.mark.contract("4.4/streaming")
@pytest.mark.contract("4.4/generator", better="streamed: the first item is at the client before the second exists")
@pytest.mark.contract("G/17", better="streamed: the first item is at the client before the second exists")
@pytest.mark.parametrize(("path", "go"), [("/api/gated/one", "/api/go/one"), ("/plain/gated", "/plain/go")])
def test_the_first_piece_arrives_before_the_second_is_made(served: Served, path: str, go: str) -> None:
    connection = served.connect()
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.read(5) == b"first"
    assert served.get(go).status == 200
    assert response.read() == b"second"
    connection.close()


def test_server_sent_events_arrive_whole(served: Served) -> None:
    answer = served.get("/api/events")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.text == "".join(f"event: tick\ndata: {number}\n\n" for number in range(3))


@pytest.mark.contract("4.4/generator", better="text and bytes are sent as they are, other items as lines of JSON")
def test_the_first_item_of_a_generator_says_what_the_answer_is(served: Served) -> None:
    expected = {
        "lines": ("application/x-ndjson", b'{"n":0}\n{"n":1}\n'),
        "strings": ("application/x-ndjson", b'{}\n"s"\n'),
        "nothing": ("text/plain", b""),
    }
    for what, (content_type, body) in expected.items():
        answer = served.get(f"/plain/{what}")
        assert (answer.status, answer.headers["content-type"], answer.body) == (200, content_type, body)
    with pytest.raises(http.client.HTTPException):
        served.get("/plain/mixed")


BREAKS = ["/api/breaks", "/plain/breaks", "/plain/breaks-sync", "/sync/breaks", "/sync/async"]


@pytest.mark.parametrize("path", BREAKS)
def test_a_stream_that_raises_never_ends_cleanly(served: Served, path: str) -> None:
    for _ in range(20):
        # What it yielded before comes, however close behind it raises.
        with pytest.raises(http.client.IncompleteRead) as error:
            served.get(path)
        assert error.value.partial == b"part"
    assert served.get("/api/go/nothing").status == 200


@pytest.mark.parametrize("path", ["/plain/endless", "/plain/endless-sync", "/sync/endless"])
def test_head_of_a_stream_is_its_head_alone(served: Served, path: str) -> None:
    with served.raw(f"HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n") as connection:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: text/plain" in head.lower()
    assert rest == b""


@pytest.mark.contract("4.3/cancel-generator")
@pytest.mark.contract("4.3/sync-generators")
@pytest.mark.parametrize(
    ("path", "what"),
    [("/api/endless", "endless"), ("/plain/endless", "endless"), ("/plain/endless-sync", "endless sync"),
     ("/sync/endless", "endless sync")],
)  # fmt: skip
def test_a_client_that_leaves_closes_the_generator(served: Served, path: str, what: str) -> None:
    before = served.notes().count(f"{what} ended")
    with served.raw(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n") as connection:
        assert connection.recv(10)
    eventually(lambda: served.notes().count(f"{what} ended") == before + 1, "the generator is closed")


@pytest.mark.contract("4.3/cancel-disconnect")
def test_a_client_that_leaves_cancels_an_endpoint_of_fastapi(served: Served) -> None:
    with served.raw("GET /api/waits HTTP/1.1\r\nhost: x\r\n\r\n"):
        eventually(lambda: "waits began" in served.notes(), "it runs")
    eventually(lambda: "waits cancelled" in served.notes(), "it is cancelled", 10)


def test_a_deadline_ends_an_endpoint_with_408_and_breaks_off_a_stream(served: Served) -> None:
    limit = {"x-request-timeout-seconds": "0.3"}
    assert served.get("/api/waits", headers=limit).status == 408
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        served.get("/api/endless", headers=limit)


def test_a_client_that_leaves_after_its_answer_stops_no_background_task(served: Served) -> None:
    assert served.get("/api/background").json() == "answered"
    served.get("/api/go/background")
    eventually(lambda: "background ended" in served.notes(), "it ran to its end")


def multipart(word: str, files: dict[str, bytes], name: str = "file") -> tuple[bytes, dict[str, str]]:
    parts = [f'--border\r\ncontent-disposition: form-data; name="word"\r\n\r\n{word}\r\n'.encode()]
    for filename, content in files.items():
        head = (
            f'--border\r\ncontent-disposition: form-data; name="{name}"; filename="{filename}"\r\n'
            "content-type: application/x-some\r\n\r\n"
        )
        parts.append(head.encode() + content + b"\r\n")
    return b"".join([*parts, b"--border--\r\n"]), {"content-type": "multipart/form-data; boundary=border"}


def test_forms_and_files_reach_sync_and_async_code(served: Served) -> None:
    big = PIECE * 12  # 3 MiB: more than is kept in memory, more than the first credit
    body, headers = multipart("w", {"one": big, "two": b"\r\n--bord"}, "files")
    answer = request("POST", served.address + "/api/form", body, headers).json()
    assert answer == ["w", [["one", "application/x-some", len(big)], ["two", "application/x-some", 8]]]
    body, headers = multipart("w", {"one": big})
    expected = {
        "/api/sync-form": ["w", "one", len(big)], "/plain/form": ["w", len(big)], "/sync/form": ["w", "one", len(big)]
    }  # fmt: skip
    for path, value in expected.items():
        assert request("POST", served.address + path, body, headers).json() == value, path


def test_a_sync_deployment_says_how_long_a_body_may_be(served: Served) -> None:
    for sizes, status in ((12, 200), (17, 413)):
        body, headers = multipart("w", {"one": PIECE * sizes})
        assert request("POST", served.address + "/sync/form", body, headers).status == status


@pytest.mark.contract("4.4/response")
def test_a_file_is_sent_whole_and_in_ranges(served: Served) -> None:
    whole = served.get("/api/file")
    assert (whole.body, whole.headers["content-length"]) == (PIECE * 4, str(4 * len(PIECE)))
    part = served.get("/api/file", headers={"range": "bytes=256-511"})
    assert (part.status, part.body) == (206, bytes(range(256)))
    again = served.get("/api/file", headers={"if-none-match": whole.headers["etag"]})
    assert again.status in (200, 304)


@pytest.mark.contract("4.3/contextvars")
@pytest.mark.contract("4.4/request-id")
def test_a_sync_endpoint_runs_in_a_thread_and_knows_its_request(served: Served) -> None:
    answer = served.get("/api/context", headers={"x-request-id": "mine"})
    assert answer.json() == ["mine", False]
    assert answer.headers["x-request-id"] == "mine"


def test_many_streams_of_sync_generators_run_at_a_time(served: Served) -> None:
    # More than the loop's default executor has threads on a small machine.
    before = served.notes().count("endless sync ended")
    streams = [served.raw("GET /plain/endless-sync HTTP/1.1\r\nhost: x\r\n\r\n") for _ in range(12)]
    for stream in streams:
        assert stream.recv(10), "each has begun while the others run"
    done = threading.Thread(target=lambda: [stream.close() for stream in streams])
    done.start()
    done.join()
    eventually(lambda: served.notes().count("endless sync ended") == before + 12, "all are closed")
