"""Limits of the proxy, as a user gives them, and the counters that show them."""

import contextlib
import re
import resource
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from machine import Machine, eventually, request

APP = """
from eagleray import serve

@serve.deployment
class Hello:
    async def __call__(self, request):
        return "hello"

app = Hello.bind()
"""
START = """
serve.start(http_options={
    "port": 0, "keep_alive_timeout_s": 0.2, "request_timeout_s": 30, "limits": {"header_count": 5, "uri_bytes": 20}
})
"""


def test_limits_of_a_script_reach_its_proxy_and_are_counted(machine: Machine) -> None:
    script = machine.serve(APP + START)
    assert script.get("/").status == 200
    assert script.get("/" + "a" * 20).status == 414
    assert script.get("/", headers={f"x-{number}": "1" for number in range(5)}).status == 431
    host = urlsplit(script.address)
    with socket.create_connection((host.hostname, host.port), timeout=30) as idle:
        assert idle.recv(1) == b"", "idle for longer than keep_alive_timeout_s"
    counted = script.counters
    assert (counted["uris_too_long"], counted["heads_too_large"], counted["connections_idle"]) == (1, 1, 1)
    assert (counted["connections_accepted"], counted["panics"]) == (4, 0)
    eventually(lambda: script.counters["connections_open"] == 0, "no connection is left open")


def test_limits_of_a_resident_node_come_from_the_command_line(machine: Machine) -> None:
    wrong = machine.cli("start", "--http-limit", "header_cuont=5", "--http-limit", "uri_bytes=0")
    assert wrong.returncode != 0
    for words in ("header_count", "uri_bytes must be", "from 1"):
        assert words in wrong.stderr, wrong.stderr
    assert not machine.left()
    started = machine.cli("start", "--http-port", "0", "--http-limit", "uri_bytes=20")
    assert started.returncode == 0, started.stderr
    machine.serve(APP).end()
    address = machine.address(name="default")
    assert (request("GET", address + "/").status, request("GET", address + "/" + "a" * 20).status) == (200, 414)
    shown = machine.cli("status", "--counters")
    assert "uris_too_long: 1" in shown.stdout, shown.stdout


HOSTS = """
serve.start(http_options={"port": 0, "allowed_hosts": ["localhost", "*.shop.test"]})
"""


def test_a_host_that_is_not_allowed_is_not_served(machine: Machine) -> None:
    script = machine.serve(APP + HOSTS)
    assert script.get("/", headers={"host": "localhost:1"}).status == 200
    assert script.get("/", headers={"host": "a.shop.test"}).status == 200
    refused = script.get("/", headers={"host": "evil.test"})
    assert (refused.status, "allowed_hosts" in refused.text) == (421, True)
    assert script.get("/-/healthz", headers={"host": "10.0.0.1"}).status == 200
    assert script.counters["hosts_refused"] == 1


def test_hosts_of_a_resident_node_come_from_the_command_line(machine: Machine) -> None:
    wrong = machine.cli("start", "--http-allowed-host", "a:80")
    assert wrong.returncode != 0
    assert "'a:80'" in wrong.stderr.replace('"', "'"), wrong.stderr
    started = machine.cli("start", "--http-port", "0", "--http-allowed-host", "shop.test")
    assert started.returncode == 0, started.stderr
    machine.serve(APP).end()
    address = machine.address(name="default")
    assert request("GET", address + "/").status == 421
    assert request("GET", address + "/", headers={"host": "SHOP.test:80"}).status == 200


EXPECT = """
from eagleray import serve

@serve.deployment
class Door:
    async def __call__(self, request):
        if request.headers.get("authorization") != "yes":
            return serve_403()
        return str(len(await request.body()))

def serve_403():
    from starlette.responses import PlainTextResponse
    return PlainTextResponse("no", 403, headers={"connection": "close"})

app = Door.bind()
"""


def heads(address: str, *requests: bytes) -> list[bytes]:
    """The status lines of what comes back, each request being sent when something came for the one before."""
    host = urlsplit(address)
    with socket.create_connection((host.hostname, host.port), timeout=30) as client:
        came = b""
        for request_bytes in requests:
            client.sendall(request_bytes)
            came += client.recv(65_536)
        return [line for line in came.split(b"\r\n") if line.startswith(b"HTTP/")]


def test_a_client_is_told_to_send_its_body_when_user_code_reads_it(machine: Machine) -> None:
    script = machine.serve(EXPECT)
    head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n"
    assert heads(script.address, head + b"\r\n") == [b"HTTP/1.1 403 Forbidden"]
    allowed = head + b"authorization: yes\r\n\r\n"
    assert heads(script.address, allowed, b"hello") == [b"HTTP/1.1 100 Continue", b"HTTP/1.1 200 OK"]


def test_an_application_that_says_close_ends_its_connection(machine: Machine) -> None:
    script = machine.serve(EXPECT)
    host = urlsplit(script.address)
    with socket.create_connection((host.hostname, host.port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        came = b""
        while part := client.recv(65_536):
            came += part
    assert b"\r\nconnection: close\r\n" in came.lower()
    assert came.endswith(b"no")


def own_memory(pid: int) -> int:
    """Resident bytes of a process that are its own, so without those of files."""
    found = re.search(r"^RssAnon:\s*(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def test_memory_of_connections_goes_back_to_the_system_when_they_have_left(machine: Machine) -> None:
    number = 3_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * number + 100:
        pytest.skip("a process of this machine may not open so many connections")
    # The proxy takes half of what it may open. Never lowered: others of this process may need it by now.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * number + 100), hard))
    script = machine.serve(APP + 'serve.start(http_options={"port": 0})')
    proxy = machine.one("eagleray: proxy$")
    assert script.get("/").status == 200
    before = own_memory(proxy)
    address = urlsplit(script.address)
    with contextlib.ExitStack() as clients:
        for _ in range(number):
            client = socket.create_connection((address.hostname, address.port), timeout=30)
            clients.enter_context(client)
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
        held = own_memory(proxy) - before
    assert held > 16 * 2**20, "less than a test could tell from what stays"
    eventually(lambda: own_memory(proxy) - before < held / 4, f"of {held} bytes less than a quarter stays")
    assert script.get("/").status == 200
