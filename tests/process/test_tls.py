"""TLS of the ingress as a user asks for it."""

import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from machine import Machine

APP = """
from eagleray import serve

@serve.deployment
class Scheme:
    async def __call__(self, request):
        return f"{request.scope['scheme']} {request.scope['http_version']}"

app = Scheme.bind()
serve.start(http_options={"port": 0, "ssl_certfile": "cert.pem", "ssl_keyfile": "key.pem"})
"""


@pytest.fixture
def certificate(machine: Machine) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=machine.work,
        check=True,
        capture_output=True,
    )
    return machine.work / "cert.pem"


def test_a_script_serves_over_tls(machine: Machine, certificate: Path) -> None:
    script = machine.serve(APP)
    to = urlsplit(script.address)
    assert to.scheme == "https"
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection((to.hostname, to.port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = b""
        while chunk := client.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"https 1.1")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "ssl_certfile"),
        ({"cert.pem": "nothing", "key.pem": "nothing"}, "no certificate"),
    ],
)
def test_files_that_cannot_be_used_are_one_clear_error(machine: Machine, files: dict[str, str], words: str) -> None:
    for name, text in files.items():
        machine.write(name, text)
    script = machine.script(APP)
    assert script.wait() != 0
    assert words in script.output, script.output
    started = machine.cli("start", "--http-port", "0", "--http-ssl-certfile", "c.pem", "--http-ssl-keyfile", "k.pem")
    assert started.returncode != 0
    assert "ssl_certfile" in started.stderr
    assert not machine.left()
