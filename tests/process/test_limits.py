"""Limits of the proxy, as a user gives them, and the counters that show them."""

import socket
from urllib.parse import urlsplit

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
