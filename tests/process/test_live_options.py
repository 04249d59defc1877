"""`http_options` of a config over a node that runs: limits and certificates, without a restart or a lost request."""

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from control import Control
from machine import Load, Machine, eventually, request

SHOP = """
import asyncio

from eagleray import serve


@serve.deployment
class Front:
    async def __call__(self, request):
        if request.query_params.get("long"):
            async def parts():
                for _ in range(512):
                    yield b"x" * 65536
            from starlette.responses import StreamingResponse
            return StreamingResponse(parts())
        return "hello"


app = Front.bind()
"""


def config(**options: Any) -> dict[str, Any]:
    return {
        "http_options": options,
        "applications": [{"name": "shop", "route_prefix": "/", "import_path": "shop:app"}],
    }


def put(control: Control, **options: Any) -> Any:
    return control.ask("PUT", "/api/serve/applications/", config(**options))


def with_fields(address: str, count: int) -> int:
    return request("GET", address, headers={f"x-{number}": "1" for number in range(count)}).status


def takes(address: str, count: int) -> Callable[[], bool]:
    return lambda: with_fields(address, count) == 200


def refuses(address: str, count: int) -> Callable[[], bool]:
    return lambda: with_fields(address, count) == 431


def start(machine: Machine, *arguments: str) -> tuple[str, Control]:
    machine.write("shop.py", SHOP)
    machine.environment["PYTHONPATH"] = str(machine.work)
    started = machine.cli("start", "--http-port", "0", *arguments)
    assert started.returncode == 0, started.stdout + started.stderr
    return machine.address(name="default"), Control(machine)


def kill_and_wait(machine: Machine, title: str) -> None:
    before = machine.one(title)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: machine.pids(title) - {before}, f"another {title}")


@pytest.fixture
def shop(machine: Machine) -> tuple[str, Control]:
    address, control = start(machine)
    assert put(control).status == 200
    eventually(lambda: request("GET", address).text == "hello", "it is up")
    return address, control


def test_limits_hold_at_once_outlive_every_process_and_are_taken_back(
    machine: Machine, shop: tuple[str, Control]
) -> None:
    address, control = shop
    assert with_fields(address, 30) == 200
    answer = put(control, limits={"header_count": 20})
    assert (answer.status, answer.headers.get("warning")) == (200, None)
    eventually(refuses(address, 30), "the limit holds")

    kill_and_wait(machine, "eagleray: proxy$")
    assert with_fields(address, 30) == 431, "a successor has it before it answers anybody"
    kill_and_wait(machine, "eagleray: controller$")
    eventually(lambda: control.get("/api/v1/status").status == 200, "the controller is back")
    assert with_fields(address, 30) == 431
    assert machine.cli("stop").returncode == 0
    address, control = start(machine)
    eventually(lambda: request("GET", address).status == 200, "the application is back")
    assert with_fields(address, 30) == 431, "from the checkpoint"

    assert put(control).status == 200
    eventually(takes(address, 30), "what the file says no more holds no more")
    events = control.get("/api/v1/events").json()["events"]
    said = [one["message"] for one in events if one["kind"] == "config"]
    assert "http_options: limits.header_count null -> 20" in said


def test_a_rollback_takes_limits_back(machine: Machine, shop: tuple[str, Control]) -> None:
    address, control = shop
    assert put(control, limits={"header_count": 20}).status == 200
    eventually(refuses(address, 30), "the limit holds")
    eventually(lambda: control.status("shop")["status"] == "RUNNING", "it is up")
    assert machine.cli("rollback", "shop").returncode == 0
    eventually(takes(address, 30), "it is as before")


def test_a_diff_names_a_change_of_http_options_alone(machine: Machine, shop: tuple[str, Control]) -> None:
    address, _ = shop
    machine.write("shop.yaml", json.dumps(config()))
    assert machine.cli("deploy", "shop.yaml", "--yes").returncode == 0
    same = machine.cli("diff", "shop.yaml", "--exit-code")
    assert same.returncode == 0, same.stdout + same.stderr
    machine.write("shop.yaml", json.dumps(config(limits={"header_count": 20})))
    shown = machine.cli("diff", "shop.yaml", "--exit-code")
    assert shown.returncode == 10, shown.stdout + shown.stderr
    assert "http_options  in place  limits.header_count null -> 20\n" in shown.stdout
    plan = shown.stdout.split()[-1]
    assert machine.cli("deploy", "shop.yaml", "--yes", "--plan", plan).returncode == 0
    eventually(refuses(address, 30), "the limit holds")


def test_host_and_port_are_said_with_the_command_and_the_rest_is_deployed(
    machine: Machine, shop: tuple[str, Control]
) -> None:
    address, control = shop
    answer = put(control, host="0.0.0.0", port=1, limits={"header_count": 20})
    assert answer.status == 200
    assert "eagleray start --http-host 0.0.0.0 --http-port 1" in answer.headers["warning"]
    eventually(refuses(address, 30), "the limit holds")
    events = control.get("/api/v1/events").json()["events"]
    assert any("--http-port 1" in one["message"] and one["level"] == "warning" for one in events)
    machine.write("shop.yaml", "applications: []\nhttp_options: {port: 1}\n")
    deployed = machine.cli("deploy", "shop.yaml", "--yes")
    assert "eagleray start --http-port 1" in deployed.stderr


def test_no_request_is_lost_while_options_change_and_processes_die(machine: Machine, shop: tuple[str, Control]) -> None:
    address, control = shop
    to = urlsplit(address)
    # Reads nothing of its answer meanwhile.
    slow = socket.create_connection((to.hostname, to.port))
    slow.sendall(b"GET /?long=1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    with Load(address, threads=2) as kept, Load(address, threads=2, new=True) as new:
        kept.wait_for_more()

        def change(number: int) -> None:
            limits = {"header_count": 50 + number, "answer_idle_s": 20 + number, "connections": 5000 + number}
            answer = put(control, limits=limits, request_timeout_s=60 + number, keep_alive_timeout_s=60 + number)
            assert answer.status == 200

        for number in range(10):
            change(number)
            kept.wait_for_more(5)
        # Two at once: one of them is the last, and holds.
        both = [threading.Thread(target=change, args=(number,)) for number in (20, 40)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        new.wait_for_more()
        assert set(kept.outcomes) == set(new.outcomes) == {"200"}, (kept.outcomes, new.outcomes)
    eventually(lambda: takes(address, 60)() and not takes(address, 95)(), "one of the two holds")
    answer = bytearray()
    while chunk := slow.recv(1 << 20):
        answer += chunk
    slow.close()
    assert answer.split(b"\r\n\r\n", 1)[1].count(b"x") == 512 * 65536
    # In the middle of a change: whoever comes up next has it.
    proxy = machine.one("eagleray: proxy$")
    os.kill(proxy, signal.SIGSTOP)
    assert put(control, limits={"header_count": 20}).status == 200
    os.kill(proxy, signal.SIGKILL)
    eventually(lambda: machine.pids("eagleray: proxy$") - {proxy}, "another proxy")
    assert with_fields(address, 30) == 431


class Certificates:
    """Pairs, each known by its subject, and a directory whose links are what the node reads."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.certificate, self.key = directory / "live-cert.pem", directory / "live-key.pem"

    def make(self, name: str) -> None:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}-key.pem", "-out", f"{name}-cert.pem"),
            ],
            cwd=self.directory,
            check=True,
            capture_output=True,
        )

    def use(self, certificate: str, key: str) -> None:
        """Replaces the links, one after the other, as certbot does."""
        for link, to in ((self.certificate, f"{certificate}-cert.pem"), (self.key, f"{key}-key.pem")):
            new = link.with_suffix(".new")
            new.symlink_to(to)
            new.replace(link)

    def options(self) -> dict[str, str]:
        return {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)}


@pytest.fixture
def certificates(machine: Machine) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    made = Certificates(machine.work)
    for name in ("first", "second", "third"):
        made.make(name)
    made.use("first", "first")
    return made


class Secure(http.client.HTTPSConnection):
    """A connection that takes any certificate, and says which it was shown."""

    def __init__(self, address: str):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        to = urlsplit(address)
        super().__init__(to.hostname or "", to.port, timeout=30, context=context)

    def get(self) -> tuple[int, bytes]:
        self.request("GET", "/")
        response = self.getresponse()
        return response.status, response.read()

    def shown(self) -> str:
        assert isinstance(self.sock, ssl.SSLSocket)
        der = self.sock.getpeercert(binary_form=True) or b""
        (name,) = (name for name in ("first", "second", "third") if name.encode() in der)
        return name


def shown(address: str) -> str:
    connection = Secure(address)
    try:
        assert connection.get() == (200, b"hello")
        return connection.shown()
    finally:
        connection.close()


@pytest.fixture
def secure(machine: Machine, certificates: Certificates) -> tuple[str, Control]:
    address, control = start(machine, "--http-ssl-certfile", "first-cert.pem", "--http-ssl-keyfile", "first-key.pem")
    assert put(control, **certificates.options()).status == 200

    def is_up() -> bool:
        connection = Secure(address)
        try:
            return connection.get() == (200, b"hello")
        finally:
            connection.close()

    eventually(is_up, "it is up")
    assert shown(address) == "first"
    return address, control


def test_renewed_certificates_are_taken_and_live_connections_stay(
    machine: Machine, certificates: Certificates, secure: tuple[str, Control]
) -> None:
    address, control = secure
    alive = Secure(address)
    assert alive.get() == (200, b"hello")
    certificates.use("second", "second")
    assert put(control, **certificates.options()).status == 200
    eventually(lambda: shown(address) == "second", "the deploy of the same file reads its files anew")
    assert alive.get() == (200, b"hello")
    assert alive.shown() == "first"
    certificates.use("third", "third")
    eventually(lambda: shown(address) == "third", "what is renewed is noticed without a word")
    events = control.get("/api/v1/events").json()["events"]
    assert any("live-cert.pem was read anew" in one["message"] for one in events)
    assert alive.get() == (200, b"hello")
    alive.close()


def test_what_does_not_fit_is_refused_and_what_is_broken_later_changes_nothing(
    machine: Machine, certificates: Certificates, secure: tuple[str, Control]
) -> None:
    address, control = secure
    answer = put(control, ssl_certfile=str(certificates.certificate), ssl_keyfile=str(machine.work / "second-key.pem"))
    assert answer.status == 400
    assert "second-key.pem: does not fit ssl_certfile" in answer.text
    answer = put(control, ssl_certfile=str(certificates.certificate), ssl_keyfile="/none/key.pem")
    assert answer.status == 400
    assert "/none/key.pem: cannot be read" in answer.text
    os.mkfifo(machine.work / "pipe")
    answer = put(control, ssl_certfile=str(machine.work / "pipe"), ssl_keyfile=str(certificates.key))
    assert answer.status == 400
    assert "it is no regular file" in answer.text
    assert shown(address) == "first"

    certificates.use("second", "third")

    def trouble() -> str:
        node = control.get("/api/v1/status").json()["node"]
        return "".join(why["sentence"] for why in node["why"] if why["code"] == "http_options_not_taken")

    eventually(lambda: "live-key.pem: does not fit" in trouble(), "the status says so")
    assert shown(address) == "first"
    kill_and_wait(machine, "eagleray: proxy$")
    assert shown(address) == "first", "a successor serves what was served"
    certificates.use("third", "third")
    eventually(lambda: shown(address) == "third", "mended, and noticed")
    eventually(lambda: not trouble(), "and nothing is wrong any more")


def test_a_node_without_tls_gets_none_by_a_config(certificates: Certificates, shop: tuple[str, Control]) -> None:
    address, control = shop
    answer = put(control, **certificates.options())
    assert answer.status == 200
    assert "--http-ssl-certfile" in answer.headers["warning"]
    assert request("GET", address).text == "hello"
