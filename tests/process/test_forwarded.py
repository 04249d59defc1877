"""What proxies in front say of their clients reaches the scope if the proxy is trusted, and else nothing of it."""

import json
import socket

import pytest

import http2
from machine import Machine, request
from websocket import WebSocket

SERVICE = """
from fastapi import FastAPI, Request, WebSocket
from eagleray import serve

fast = FastAPI()

def seen(scope, url):
    told = [name.decode() for name, _ in scope["headers"] if b"forwarded" in name]
    return {"client": scope["client"], "scheme": scope["scheme"], "url": url, "told": told}

@serve.deployment(max_ongoing_requests=20)
@serve.ingress(fast)
class Service:
    @fast.get("/who")
    async def who(self, request: Request):
        return seen(request.scope, str(request.url_for("who")))

    @fast.websocket("/socket")
    async def socket(self, socket: WebSocket):
        await socket.accept()
        await socket.send_json(seen(socket.scope, str(socket.url)))

@serve.deployment
class Plain:
    def __call__(self, request):
        return seen(request.scope, str(request.url))

serve.run(Plain.bind(), name="plain", route_prefix="/plain")
app = Service.bind()
"""
PROXIED = {"host": "shop.example", "x-forwarded-proto": "https", "x-forwarded-for": "6.6.6.6, 203.0.113.9"}
CLIENT = ["203.0.113.9", 0]


@pytest.mark.contract("4.4/forwarded")
def test_a_proxy_on_this_machine_says_who_the_client_is(machine: Machine) -> None:
    script = machine.serve(SERVICE)
    for path in ("/who", "/plain"):
        answer = script.get(path, headers=PROXIED).json()
        assert (answer["client"], answer["scheme"]) == (CLIENT, "https")
        assert answer["url"] == f"https://shop.example{path}"
        assert set(answer["told"]) == {"x-forwarded-proto", "x-forwarded-for"}
        standard = script.get(path, headers={"forwarded": 'for="[2001:db8::7]:4711";proto=https'}).json()
        assert (standard["client"], standard["scheme"]) == (["2001:db8::7", 4711], "https")
        own = script.get(path).json()
        assert (own["client"][0], own["scheme"], own["told"]) == ("127.0.0.1", "http", [])
        assert own["client"][1] > 0
    redirect = script.get("/who/", headers=PROXIED)
    assert (redirect.status, redirect.headers["location"]) == (307, "https://shop.example/who")

    with WebSocket(f"{script.address}/socket", headers={**PROXIED, "x-forwarded-proto": "wss"}) as opened:
        answer = json.loads(opened.receive())
        assert (answer["client"], answer["scheme"]) == (CLIENT, "wss")
        assert answer["url"] == "wss://shop.example/socket"
    with http2.Connection(script.address) as connection:
        fields = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
        assert b'"client":["203.0.113.9",0],"scheme":"https"' in connection.ask("/who", fields=fields).body


def test_what_a_proxy_says_wrongly_changes_nothing_and_fails_nothing(machine: Machine) -> None:
    script = machine.serve(SERVICE)
    for name, value in {
        "x-forwarded-for": "unknown, " * 3000,
        "x-forwarded-proto": "javascript",
        "forwarded": 'for="_secret;proto;=',
        "x-forwarded-host": "evil.example",
        "x-forwarded-port": "1",
    }.items():
        answer = script.get("/who", headers={name: value}).json()
        assert (answer["client"][0], answer["scheme"]) == ("127.0.0.1", "http"), name
        assert answer["url"].startswith("http://127.0.0.1:"), name
    # A claim of the client's before what the proxy adds, in lines of their own and in one.
    answer = script.get("/who", headers={"x-forwarded-for": "<script>,, 1.2.3.4:99999,203.0.113.9,127.0.0.1"}).json()
    assert answer["client"] == CLIENT


def outside() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = probe.getsockname()[0]
        return address


@pytest.mark.parametrize(
    ("options", "variable", "trusted"),
    [
        ("", "", False),
        ("ADDRESS", "", True),
        ("", "nginx,ADDRESS", True),
        ("", "*", True),
        ("10.255.0.0/16", "*", False),
    ],
)
def test_others_are_believed_only_where_an_option_or_the_environment_names_them(
    machine: Machine, options: str, variable: str, trusted: bool
) -> None:
    address = outside()
    proxies = [options.replace("ADDRESS", address)] if options else []
    start = f'serve.start(http_options={{"host": "0.0.0.0", "trusted_proxies": {proxies!r}}})\n'
    script = machine.serve(
        SERVICE.replace("fast = FastAPI()", start + "fast = FastAPI()"),
        environment={"FORWARDED_ALLOW_IPS": variable.replace("ADDRESS", address)},
    )
    port = script.address.rsplit(":", 1)[1]
    answer = request("GET", f"http://{address}:{port}/who", headers=PROXIED).json()
    if trusted:
        # Where all are trusted the first entry is the client.
        expected = ["6.6.6.6", 0] if variable == "*" else CLIENT
        assert (answer["client"], answer["scheme"]) == (expected, "https")
    else:
        assert (answer["client"][0], answer["scheme"], answer["told"]) == (address, "http", [])
