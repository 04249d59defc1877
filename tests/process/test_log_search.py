"""`GET /api/v1/logs`: what was logged is found, and followed, whatever becomes of those who wrote it."""

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from machine import PATIENCE, Answer, Machine, eventually, request

SPEAKS = """
import logging, os
from eagleray import serve

@serve.deployment(max_ongoing_requests=20)
class Speaks:
    def __call__(self, request):
        words = request.query_params.get("words", "")
        print("printed", words)
        logging.getLogger("ray.serve").warning("warned of %s", words)
        return os.getpid()

    def much(self, count, text):
        for number in range(count):
            print(number, text)

    def fails(self):
        raise ValueError("of the method")

@serve.deployment
class Other:
    def __call__(self, request):
        print("the other")
        return "other"

app = Speaks.bind()
"""


def control(machine: Machine) -> tuple[str, dict[str, str]]:
    """Address of the control port of the one node, and what a request to it needs."""
    (node,) = machine.nodes()
    (token,) = machine.runtime.glob(f"{node['name']}/token")
    return str(node["control_address"]), {"authorization": f"Bearer {token.read_text().strip()}"}


def ask(machine: Machine, **query: Any) -> Answer:
    address, headers = control(machine)
    return request("GET", f"{address}/api/v1/logs?{urlencode(query)}", headers=headers)


def find(machine: Machine, **query: Any) -> list[dict[str, Any]]:
    answer = ask(machine, **query)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.body.splitlines()]


def messages(machine: Machine, **query: Any) -> list[str]:
    return [line["message"] for line in find(machine, **query)]


class Follower:
    """Follows, on a thread of its own; and again from where it was when that ends, as a client does."""

    def __init__(self, machine: Machine, **query: Any) -> None:
        self.lines: list[dict[str, Any]] = []
        self.connected = 0
        self._machine, self._query = machine, query
        self._ended = False
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        seen: set[str] = set()
        while not self._ended:
            try:
                for line in self._read():
                    if line["id"] not in seen:
                        seen.add(line["id"])
                        self.lines.append(line)
            except (OSError, ValueError, http.client.HTTPException):
                continue

    def _read(self) -> Iterator[dict[str, Any]]:
        address, headers = control(self._machine)
        parts = urlsplit(address)
        since = {"since": self.lines[-1]["time_s"] - 1} if self.lines else {}
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        query = urlencode(self._query | since | {"follow": "true", "limit": 0})
        try:
            connection.request("GET", f"/api/v1/logs?{query}", headers=headers)
            self._socket = connection.sock
            # Closed on its own: an answer that breaks off keeps its socket.
            with connection.getresponse() as answer:
                if answer.status != 200:
                    return
                self.connected += 1
                while line := answer.readline():
                    yield json.loads(line)
        finally:
            connection.close()

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines]

    def end(self) -> None:
        self._ended = True
        with contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def follower(machine: Machine) -> Iterator[Any]:
    made: list[Follower] = []

    def follow(**query: Any) -> Follower:
        made.append(Follower(machine, **query))
        eventually(lambda: made[-1].connected, "it follows")
        return made[-1]

    yield follow
    for each in made:
        each.end()


@pytest.mark.parametrize("encoding", ["TEXT", "JSON"])
@pytest.mark.contract("10.3/traceparent")
def test_requests_are_found_by_application_and_deployment(machine: Machine, encoding: str) -> None:
    machine.environment["EAGLERAY_SERVE_LOG_ENCODING"] = encoding
    script = machine.serve(SPEAKS)
    script.do("serve.run(Other.bind(), name='b', route_prefix='/b') and None")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    script.get("/?words=one", headers={"x-request-id": "one", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    script.get("/b/", headers={"x-request-id": "other"})
    eventually(lambda: len(find(machine, source="access")) == 2, "the access lines are written")
    for query in ({"application": "default"}, {"application": "default", "deployment": "Speaks"}):
        (line,) = find(machine, source="access", **query)
        assert (line["request_id"], line["application"], line["deployment"]) == ("one", "default", "Speaks")
        assert line["message"].startswith("GET / 200 ")
    (line,) = find(machine, source="access", deployment="Other")
    assert line["request_id"] == "other"
    printed = machine.cli("logs", "b/Other").stdout
    assert "GET /b 200" in printed, printed
    if encoding == "JSON":
        (line,) = find(machine, source="access", request=trace)
        (said,) = find(machine, source="stdout", request="one")
        assert (line["trace_id"], line["revision"]) == (trace, said["revision"])


def test_lines_are_found_by_all_that_they_say(machine: Machine) -> None:
    script = machine.serve(SPEAKS)
    script.do("serve.run(Other.bind(), name='b', route_prefix='/b') and None")
    script.get("/?words=one", headers={"x-request-id": "id-one"})
    script.get("/?words=two", headers={"x-request-id": "id-two"})
    script.get("/b/", headers={"x-request-id": "id-other"})
    assert script.ask("handle.fails.remote().result()")["error"] == "ValueError"
    eventually(lambda: len(find(machine, request="id-one")) == 3, "the access line is written")

    one = {line["source"]: line for line in find(machine, request="id-one")}
    assert one["stdout"]["message"] == "printed one"
    assert one["user"]["message"] == "warned of one"
    assert one["access"]["message"].startswith("GET / 200 ")
    said = one["user"]
    assert (said["application"], said["deployment"], said["level"]) == ("default", "Speaks", "WARNING")
    assert (said["request_id"], said["component"]) == ("id-one", "replica")
    times = [line["time_s"] for line in find(machine)]
    assert times == sorted(times)

    assert messages(machine, source="stdout") == ["printed one", "printed two", "the other"]
    assert messages(machine, source="stdout,user", limit=2, level="info", application="default", grep="two") == [
        "printed two",
        "warned of two",
    ]
    assert messages(machine, application="b", source="stdout") == ["the other"]
    assert messages(machine, deployment="Other", source="stdout") == ["the other"]
    assert messages(machine, replica=said["replica"], source="stdout") == ["printed one", "printed two"]
    assert messages(machine, revision=said["revision"], source="stdout") == ["printed one", "printed two"]
    assert messages(machine, source="stdout", limit=1) == ["the other"]
    assert messages(machine, since=said["time_s"] + 3600) == []
    assert messages(machine, until=said["time_s"] - 3600) == []
    assert messages(machine, since="1h", grep="printed one") == ["printed one"]
    (failed,) = messages(machine, level="ERROR")
    assert failed.startswith("call failed: user code raised\nTraceback (most recent call last):\n")
    assert failed.endswith("ValueError: of the method")
    assert {line["component"] for line in find(machine, source="system")} >= {"node", "controller"}


def test_what_is_asked_wrongly_is_refused_with_the_parameter(machine: Machine) -> None:
    machine.serve(SPEAKS)
    for query, words in [
        ({"level": "loud"}, "level"),
        ({"since": "yesterday"}, "`5m`"),
        ({"source": "printer"}, "stderr"),
        ({"limit": "-1"}, "limit"),
        ({"nonsense": "1"}, "nonsense"),
    ]:
        answer = ask(machine, **query)
        assert answer.status == 400, query
        assert words in answer.text, (query, answer.text)
    answer = ask(machine, revision="r99", application="default")
    assert (answer.status, answer.json()["code"]) == (404, "not_found")
    address, _ = control(machine)
    assert request("GET", f"{address}/api/v1/logs").status == 401


def test_lines_of_the_dead_are_found_and_followed_over_every_restart(machine: Machine, follower: Any) -> None:
    script = machine.serve(SPEAKS)
    follows = follower(source="stdout")
    script.get("/?words=before")
    eventually(lambda: follows.messages() == ["printed before"], "it is told")
    (dead,) = {line["replica"] for line in follows.lines}

    for pid in machine.replicas():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: script.get("/?words=between").status == 200, "another replica serves")
    eventually(lambda: "printed between" in follows.messages(), "a new file is followed")

    os.kill(machine.one("eagleray: controller"), signal.SIGKILL)
    script.get("/?words=meanwhile")
    eventually(lambda: "printed meanwhile" in follows.messages(), "it goes on with the next controller")
    assert follows.connected > 1
    assert follows.messages() == ["printed before", "printed between", "printed meanwhile"]
    assert messages(machine, replica=dead, source="stdout") == ["printed before"]


def test_a_restarted_node_knows_what_the_one_before_logged(machine: Machine, follower: Any) -> None:
    machine.start_resident()
    script = machine.serve(SPEAKS)
    address = machine.address(name="default")
    request("GET", f"{address}/?words=before")
    follows = follower(source="stdout")
    eventually(lambda: follows.messages() == ["printed before"], "it is told")
    script.end()
    assert machine.cli("stop").returncode == 0
    address = machine.start_resident()
    eventually(lambda: request("GET", f"{address}/?words=after").status == 200, "it serves again")
    eventually(lambda: follows.messages() == ["printed before", "printed after"], "it is followed over the restart")


def resident_kib(pid: int) -> int:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


def test_who_follows_and_does_not_read_costs_little_and_holds_up_nobody(machine: Machine) -> None:
    script = machine.serve(SPEAKS)
    address, headers = control(machine)
    parts = urlsplit(address)
    controller = machine.one("eagleray: controller")
    before = resident_kib(controller)
    idle = [http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE) for _ in range(4)]
    try:
        for connection in idle:
            connection.request("GET", "/api/v1/logs?follow=true&limit=0", headers=headers)
        script.do("handle.much.remote(100_000, 300 * 'x').result()")
        assert script.do("handle.much.remote(1, 'last').result()") is None
        eventually(lambda: messages(machine, grep="0 last") == ["0 last"], "others search meanwhile")
        assert resident_kib(controller) - before < 64 * 1024
    finally:
        for connection in idle:
            connection.close()
    # The places of those that left are free again.
    for _ in range(20):
        assert ask(machine, limit=1).status == 200


def test_only_so_many_read_at_a_time(machine: Machine) -> None:
    machine.serve(SPEAKS)
    address, headers = control(machine)
    parts = urlsplit(address)
    readers = [http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE) for _ in range(16)]
    try:
        for reader in readers:
            reader.request("GET", "/api/v1/logs?follow=true", headers=headers)
            assert reader.getresponse().status == 200
        answer = ask(machine)
        assert (answer.status, answer.json()["code"]) == (503, "too_many_readers")
    finally:
        for reader in readers:
            if reader.sock is not None:
                reader.sock.shutdown(2)
            reader.close()
    eventually(lambda: ask(machine).status == 200, "they are gone")
