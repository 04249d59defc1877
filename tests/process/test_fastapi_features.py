"""What FastAPI applications are made of, behind `@serve.ingress`: one application under a prefix and its clients."""

import gzip
import hashlib
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from features_program import APP

from machine import PATIENCE, Answer, Machine, Script, eventually, request
from websocket import Closed, Refused, WebSocket


class Served:
    def __init__(self, machine: Machine) -> None:
        files = machine.work / "files"
        files.mkdir()
        (files / "a.txt").write_text("text of a")
        (files / "index.html").write_text("<p>index</p>")
        (machine.work / "secret.txt").write_text("secret")
        (machine.work / "data.bin").write_bytes(DATA)
        self.machine = machine
        self.script: Script = machine.serve(
            APP, run='serve.run(Shop.bind(), name="shop", route_prefix="/shop")', name="shop.py"
        )
        self.address = self.script.address

    def ask(self, method: str, path: str, **options: object) -> Answer:
        return request(method, self.address + "/shop" + path, **options)  # type: ignore[arg-type]

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def events(self) -> list[str]:
        return self.get("/events").json()  # type: ignore[no-any-return]

    def events_of_one(self, count: int) -> list[str]:
        """So many events: some of a request happen after its answer."""
        seen: list[str] = []
        eventually(lambda: seen.extend(self.events()) or len(seen) >= count, f"{count} events happened")
        return seen

    def connect(self, path: str) -> WebSocket:
        return WebSocket(self.address + "/shop" + path)


DATA = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    machine = Machine(tmp_path_factory.mktemp("features"))
    try:
        yield Served(machine)
    finally:
        for script in machine.scripts:
            print(script.output)
        survivors = machine.close()
    assert not survivors


@pytest.mark.contract("1.2/fastapi")
def test_dependencies_are_classes_objects_and_generators(served: Served) -> None:
    assert served.get("/paging?offset=3&q=foobar").json() == [3, 10, True]
    assert served.get("/paging?limit=101").json() == {"invalid": ["query.limit"]}
    assert served.get("/settings", user_agent="test").json() == ["test", "/shop/settings"]
    assert served.get("/counted").json() == [0, 1], "once a request, unless it is not cached"
    served.events()
    assert served.get("/session").json() == [False, {"began": "in the middleware"}]
    assert served.events_of_one(5) == ["open", "open sync", "endpoint", "close sync", "close"]
    assert served.get("/session-fails").status == 409
    assert served.events_of_one(3) == ["open", "rolled back", "close"]
    assert served.get("/session-stream").text == "012"
    assert served.events_of_one(5) == ["open", "piece 0", "piece 1", "piece 2", "close"]
    assert served.get("/denied/never").json() == {"detail": "for nobody"}


def test_background_tasks_of_endpoints_and_dependencies_run_after_the_answer(served: Served) -> None:
    assert served.get("/tasks").json() == "now"
    seen: list[str] = []
    # What another test's request does after its answer may come here too.

    def both_ran() -> bool:
        seen.extend(event for event in served.events() if event.startswith("task"))
        return len(seen) >= 2

    eventually(both_ran, "both ran")
    assert sorted(seen) == ["task of a dependency", "task of the endpoint"]


def test_security_dependencies_ask_for_a_key(served: Served) -> None:
    assert served.get("/user").status in (401, 403)
    wrong = served.get("/user", authorization="Bearer shut")
    assert (wrong.status, wrong.headers["www-authenticate"]) == (401, "Bearer")
    assert served.get("/user", authorization="Bearer open").json() == "ann"


@pytest.mark.contract("4.4/fastapi-handlers")
def test_exception_handlers_of_the_application_answer(served: Served) -> None:
    sold_out = served.get("/sold-out/pears")
    assert (sold_out.status, sold_out.headers["x-handled"]) == (409, "yes")
    assert sold_out.json() == {"sold out": "pears", "path": "/shop/sold-out/pears"}
    assert served.get("/nowhere").json() == {"missing": "/shop/nowhere"}
    assert served.get("/divide").status == 500
    assert served.get("/divide").text == "Internal Server Error"
    # Starlette's `BaseHTTPMiddleware` ends the body before it raises what it caught.
    assert served.get("/stream-fails").text == "part"
    assert served.get("/paging").status == 200


def test_middleware_wraps_answers_and_streams(served: Served) -> None:
    answer = served.get("/paging", origin="https://shop.test")
    assert (answer.headers["x-marks"], answer.headers["x-times"]) == ("mine", "yes")
    assert answer.headers["access-control-allow-origin"] == "https://shop.test"
    preflight = served.ask(
        "OPTIONS", "/items/3", headers={"origin": "https://shop.test", "access-control-request-method": "PUT"}
    )
    assert (preflight.status, preflight.text) == (200, "OK")
    assert served.get("/paging?stop=1").status == 418
    zipped = served.get("/long", accept_encoding="gzip")
    assert zipped.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(zipped.body)) == {"text": "long " * 1000}


@pytest.mark.contract("4.4/streaming")
def test_a_stream_passes_middleware_piece_by_piece(served: Served) -> None:
    to = urlsplit(served.address)
    connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=PATIENCE)
    connection.request("GET", "/shop/gated")
    response = connection.getresponse()
    assert response.headers["x-times"] == "yes"
    assert response.read(5) == b"first"
    assert served.get("/go/gated").status == 200
    assert response.read() == b"second"
    # A client that leaves ends what is behind the middleware.
    served.events()
    connection.request("GET", "/shop/endless")
    response = connection.getresponse()
    assert response.read(10)
    response.close()
    connection.close()
    seen: list[str] = []
    eventually(lambda: seen.extend(served.events()) or "endless ended" in seen, "the generator is closed")


def test_streams_of_sync_generators_run_in_threads(served: Served) -> None:
    served.events()
    assert served.get("/sync-stream").text == "".join(f"{number} False\n" for number in range(1000))
    assert served.events_of_one(1) == ["sync stream ended"]


def test_parameters_models_and_answers_are_those_of_fastapi(served: Served) -> None:
    plain = {"content-type": "application/json"}
    put = served.ask("PUT", "/items/3?shout=true", body={"name": "pear", "price": 2, "kind": "b"}, headers=plain)
    assert (put.status, put.json()) == (201, {"name": "PEAR", "price": 2.0})
    wrong = served.ask("PUT", "/items/0", body={"price": -1, "kind": "c"}, headers=plain)
    assert wrong.json() == {"invalid": ["path.key", "body.name", "body.price", "body.kind"]}
    assert served.get("/items").json() == [
        {"name": "x", "price": 1.0, "labels": ["new"]},
        {"name": "y", "price": 2.0, "labels": []},
    ]
    assert served.get("/item").json() == {"name": "x", "price": 1.0, "kind": "a"}
    assert served.get("/unlike").status == 500, "it is not what the model says"
    form = served.ask(
        "POST", "/form", body=b"word=a+b&numbers=1&numbers=2",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    assert form.json() == ["a b", [1, 2]]
    gone = served.ask("DELETE", "/items/3")
    assert (gone.status, gone.body) == (204, b"")
    assert served.get("/html").headers["content-type"] == "text/html; charset=utf-8"
    assert served.get("/router/one").json() == ["/shop/router/one", "/shop/router/one", False]
    report = served.ask("REPORT", "/any")
    assert report.text == "REPORT"


def test_head_has_the_head_of_get(served: Served) -> None:
    head = served.ask("HEAD", "/any")
    assert (head.status, head.headers["x-method"], head.body) == (200, "HEAD", b"")
    assert served.ask("HEAD", "/paging").status == 405
    file = served.ask("HEAD", "/file")
    assert (file.headers["content-length"], file.body) == (str(len(DATA)), b"")
    static = served.ask("HEAD", "/static/a.txt")
    assert (static.status, static.headers["content-length"], static.body) == (200, "9", b"")


@pytest.mark.contract("4.4/root_path")
def test_urls_redirects_and_the_schema_know_the_prefix(served: Served) -> None:
    base = served.address
    assert served.get("/urls").json() == [
        f"{base}/shop/", f"{base}/shop/items/3", f"{base}/shop/static/a.txt", "/shop", "/shop/urls",
    ]  # fmt: skip
    moved = served.get("/moved")
    assert (moved.status, moved.headers["location"]) == (307, f"{base}/shop/html")
    slash = served.get("/paging/")
    assert (slash.status, slash.headers["location"]) == (307, f"{base}/shop/paging")
    schema = served.get("/openapi.json").json()
    assert (schema["info"]["title"], schema["servers"]) == ("features", [{"url": "/shop"}])
    assert schema["paths"]["/items/{key}"]["put"]["responses"].keys() == {"201", "422"}
    parameters = schema["paths"]["/paging"]["get"]["parameters"]
    assert sorted(one["name"] for one in parameters) == ["limit", "offset", "q"]
    assert schema["paths"]["/router/one"]["get"]["tags"] == ["items"]
    assert schema["paths"]["/user"]["get"]["security"] == [{"HTTPBearer": []}]
    for page in ("/docs", "/redoc"):
        assert "/shop/openapi.json" in served.get(page).text
    cookies = http.client.HTTPConnection(urlsplit(base).netloc, timeout=PATIENCE)
    cookies.request("GET", "/shop/cookies")
    assert [value.split("=")[0] for value in cookies.getresponse().headers.get_all("set-cookie") or []] == ["a", "b"]
    cookies.close()


@pytest.mark.contract("4.4/response")
def test_files_are_sent_in_ranges(served: Served) -> None:
    whole = served.get("/file")
    assert (whole.body, whole.headers["accept-ranges"]) == (DATA, "bytes")
    assert "filename*=utf-8''d%C3%A4ta.bin" in whole.headers["content-disposition"]
    size = len(DATA)
    for asked, start, end in (("0-9", 0, 10), (f"{size - 3}-", size - 3, size), ("-5", size - 5, size)):
        part = served.get("/file", range=f"bytes={asked}")
        assert (part.status, part.body) == (206, DATA[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    several = served.get("/file", range="bytes=0-1,100-102")
    assert several.status == 206
    assert several.headers["content-type"].startswith("multipart/byteranges")
    assert several.body.count(b"content-range: bytes ") + several.body.count(b"Content-Range: bytes ") == 2
    assert len(several.body) == int(several.headers["content-length"])
    beyond = served.get("/file", range=f"bytes={size}-")
    assert (beyond.status, beyond.headers["content-range"].replace("bytes ", "")) == (416, f"*/{size}")
    kept = served.get("/file", range="bytes=0-9", if_range=whole.headers["etag"])
    assert (kept.status, len(kept.body)) == (206, 10)
    changed = served.get("/file", range="bytes=0-9", if_range='"another"')
    assert (changed.status, len(changed.body)) == (200, size)


def test_static_files_are_mounted(served: Served) -> None:
    text = served.get("/static/a.txt")
    assert (text.text, text.headers["content-type"]) == ("text of a", "text/plain; charset=utf-8")
    same = served.get("/static/a.txt", if_none_match=text.headers["etag"])
    assert (same.status, same.body) == (304, b"")
    assert served.get("/static/a.txt", range="bytes=0-3").body == b"text"
    assert served.get("/static/").text == "<p>index</p>"
    assert served.get("/static/none.txt").status == 404
    for outside in ("/static/../secret.txt", "/static/%2e%2e/secret.txt", "/static/..%2fsecret.txt"):
        assert served.get(outside).status in (400, 404)
    assert served.ask("POST", "/static/a.txt").status == 405


# What a process may grow by while so much passes through it.
UPLOAD, BOUND_KIB = 100 << 20, 48 << 10
PIECE = bytes(range(256)) * 1024


@pytest.mark.parametrize("path", ["/upload", "/sync-upload"])
def test_a_file_of_100_mib_is_uploaded_in_bounded_memory(served: Served, path: str) -> None:
    proxy = served.machine.one("eagleray: proxy")
    before = served.get("/rss").json(), _highest_kib(proxy)
    first = (
        b'--border\r\ncontent-disposition: form-data; name="word"\r\n\r\nhello\r\n'
        b'--border\r\ncontent-disposition: form-data; name="file"; filename="big.bin"\r\n'
        b"content-type: application/octet-stream\r\n\r\n"
    )
    last = b"\r\n--border--\r\n"
    length = len(first) + UPLOAD + len(last)
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        yield first
        for _ in range(UPLOAD // len(PIECE)):
            digest.update(PIECE)
            yield PIECE
        yield last

    to = urlsplit(served.address)
    connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=PATIENCE)
    headers = {"content-type": "multipart/form-data; boundary=border", "content-length": str(length)}
    connection.request("POST", f"/shop{path}", pieces(), headers)
    found = json.loads(connection.getresponse().read())
    connection.close()
    assert (found["name"], found["size"], found["sha"]) == ("big.bin", UPLOAD, digest.hexdigest())
    assert found["rss"] < before[0] + BOUND_KIB
    assert _highest_kib(proxy) < before[1] + BOUND_KIB


def _highest_kib(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found.group(1))


@pytest.mark.contract("4.4/websocket")
def test_websockets_have_dependencies(served: Served) -> None:
    served.events()
    with served.connect("/talk/7?limit=5") as socket:
        assert json.loads(str(socket.receive())) == [7, 5, True, "session", True]
        socket.send("hello")
        assert socket.receive() == "hello"
        assert socket.receive() == Closed(1000, "")
    seen: list[str] = []
    eventually(lambda: seen.extend(served.events()) or len(seen) == 2, "the session is closed")
    assert seen == ["socket open", "socket close"]
    for path in ("/talk/x", "/talk/7?limit=500", "/router/guarded", "/router/guarded?key=shut"):
        with pytest.raises(Refused) as refused:
            served.connect(path)
        assert refused.value.status == 403, path
    with served.connect("/router/guarded?key=open") as socket:
        assert socket.receive() == "open"
    with served.connect("/late-error") as socket:
        assert socket.receive() == Closed(4003, "changed my mind")


@pytest.mark.contract("1.2/lifespan")
def test_the_lifespan_ends_with_the_replica(served: Served) -> None:
    assert served.script.end() == 0
    assert (served.machine.work / "closed").read_text() == "1"


def test_a_module_that_changes_the_application_of_another_changes_it_once(machine: Machine) -> None:
    machine.write("bare.py", "from fastapi import FastAPI\napp = FastAPI()\napp.state.times = 0\n")
    machine.write("dressed.py", "from bare import app\napp.state.times += 1\n")
    text = """
    import bare
    from dressed import app as fast
    from eagleray import serve

    @serve.deployment
    @serve.ingress(fast)
    class App:
        @fast.get("/")
        async def times(self):
            return {"times": fast.state.times, "is_one": bare.app is fast}

    app = App.bind()
    """
    script = machine.serve(text)
    assert script.get().text == '{"times":1,"is_one":true}'
