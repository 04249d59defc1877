"""A node without HTTP: nothing listens, and everything else is as ever."""

from pathlib import Path

import pytest

from machine import Machine, eventually, processes

APP = """
from eagleray import serve

@serve.deployment
class Double:
    async def __call__(self, number):
        return number * 2

app = Double.bind()
"""


def listening(pid: int, control_ports: set[int]) -> set[str]:
    """Inodes of the TCP sockets on which a process listens, but for control ports, which are no ingress."""
    listeners = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) not in control_ports:
                listeners.add(f"socket:[{fields[9]}]")
    open_here = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            open_here.add(str(descriptor.readlink()))
        except OSError:
            continue
    return listeners & open_here


def listeners(machine: Machine) -> set[str]:
    """Of all processes."""
    ports = {int(node["control_address"].rpartition(":")[2]) for node in machine.nodes()}
    assert 0 not in ports
    return {inode for process in processes() if process.state not in "ZX" for inode in listening(process.pid, ports)}


@pytest.mark.contract("1.5/start-disabled")
@pytest.mark.parametrize(
    "options",
    [
        "http_options={'host': None}",
        "http_options=serve.HTTPOptions(host=None, port=8123)",
        "http_options={'location': 'NoServer'}",
        "http_options={'location': 'Disabled'}",
        "proxy_location='Disabled'",
        "proxy_location=ProxyLocation.Disabled, http_options={'host': '127.0.0.1', 'port': 0}",
    ],
)
def test_nothing_listens_and_handles_work(machine: Machine, options: str) -> None:
    start = f"from eagleray.serve.config import ProxyLocation\nserve.start({options})\n"
    script = machine.serve(APP + start)
    assert script.do("handle.remote(21).result()") == 42
    assert listeners(machine) == set()
    assert {node["http_address"] for node in machine.nodes()} == {""}
    assert script.do("serve.status().proxies") == {}
    assert script.do("serve.run(Double.options(num_replicas=2).bind()).remote(4).result()") == 8, "updates go through"
    assert "without HTTP" in script.output
    (name,) = (node["name"] for node in machine.nodes())
    shown = machine.cli("status", "--node", name)
    assert "proxies: {}" in shown.stdout
    assert script.end() == 0
    eventually(lambda: not machine.left(), f"nothing is left: {machine.left()}")


@pytest.mark.contract("1.5/start-disabled")
@pytest.mark.parametrize(
    "options",
    ["http_options={'location': None}", "proxy_location='HeadOnly'", "http_options={'location': 'EveryNode'}",
     "proxy_location='Disabled', http_options={'location': 'EveryNode'}"],
)  # fmt: skip
def test_other_locations_are_http_as_usual(machine: Machine, options: str) -> None:
    script = machine.serve(APP.replace("number * 2", "2") + f"serve.start({options})\n")
    assert script.get("/").text == "2"


def test_a_resident_node_without_http(machine: Machine) -> None:
    started = machine.cli("start", "--no-http")
    assert started.returncode == 0, started.stderr
    assert "is up without HTTP" in started.stdout
    assert listeners(machine) == set()
    script = machine.serve(APP + "serve.start(http_options={'port': 8123})\n")
    assert "listens on nothing; http_options asking for http://127.0.0.1:8123 have no effect" in script.output
    assert script.do("handle.remote(21).result()") == 42
    again = machine.cli("start", "--http-port", "8123")
    assert again.returncode == 1
    assert "already runs without HTTP" in again.stderr
    assert machine.cli("start", "--no-http").returncode == 0
    script.end()
    assert machine.cli("stop").returncode == 0
