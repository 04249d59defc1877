"""Starting, joining and ending: nodes, scripts and the command line."""

import os
import signal
import socket

import pytest

from machine import EXECUTABLE, Machine, eventually, request

HELLO = """
from eagleray import serve

@serve.deployment
class Hello:
    async def __call__(self, request):
        return "hello"

app = Hello.bind()
"""
BLOCKING = HELLO + "serve.run(app, blocking=True)\n"


def test_a_script_serves_and_ends_with_its_node(machine: Machine) -> None:
    script = machine.serve(HELLO)
    answer = script.get("/")
    assert (answer.status, answer.body) == (200, b"hello")
    assert script.end() == 0
    eventually(lambda: not machine.left(), f"nothing runs after the script: {machine.left()}")
    assert not machine.nodes(), "node.json is gone with its node"


def test_every_process_says_its_role(machine: Machine) -> None:
    machine.serve(HELLO, run='serve.run(app, name="greet")')
    for title in ("eagleray: node$", "eagleray: reaper$", "eagleray: controller$", "eagleray: proxy$"):
        machine.one(title)
    machine.one(r"eagleray: replica greet/Hello [A-Za-z0-9_-]+$")


def test_a_resident_node_is_joined_by_scripts_and_outlives_them(machine: Machine) -> None:
    address = machine.start_resident()
    script = machine.serve(HELLO)
    assert len(machine.nodes()) == 1, "the script joined the resident node"
    assert request("GET", address + "/").text == "hello"
    assert script.end() == 0
    assert request("GET", address + "/").text == "hello", "the application outlives the script that deployed it"

    status = machine.cli("status")
    assert status.returncode == 0
    assert "Hello" in status.stdout
    assert "RUNNING" in status.stdout

    stopped = machine.cli("stop")
    assert stopped.returncode == 0, stopped.stderr
    eventually(lambda: not machine.left(), f"nothing runs after stop: {machine.left()}")


@pytest.mark.contract("6/start", better="it says where to ask, and what to do next")
def test_start_says_where_to_ask_and_what_to_do_next(machine: Machine) -> None:
    up = machine.cli("start", "--http-port", "0", "--name", "blue")
    assert up.returncode == 0, up.stderr
    asked = [line.removeprefix("control: ") for line in up.stdout.splitlines() if line.startswith("control: ")]
    assert [request("GET", address + "/-/healthz").status for address in asked] == [200]
    assert "deploy with: eagleray deploy FILE --node blue\n" in up.stdout


def test_a_second_start_says_that_one_runs(machine: Machine) -> None:
    machine.start_resident()
    again = machine.cli("start", "--http-port", "0")
    pid = str(machine.one("eagleray: node$"))
    assert pid in again.stdout + again.stderr
    assert len(machine.pids("eagleray: node$")) == 1


def test_status_without_a_node_names_the_next_step_and_stop_is_content(machine: Machine) -> None:
    shown = machine.cli("status")
    assert shown.returncode != 0
    assert "eagleray start" in shown.stdout + shown.stderr
    stopped = machine.cli("stop")
    assert stopped.returncode == 0, "what is asked for holds already"
    assert "default" in stopped.stdout + stopped.stderr
    named = machine.cli("stop", "--name", "nope")
    assert (named.returncode, named.stdout) == (1, "")
    assert 'no node "nope" runs' in named.stderr


@pytest.mark.contract("1.5/run-blocking")
def test_ctrl_c_ends_a_blocking_script_and_leaves_nothing(machine: Machine) -> None:
    script = machine.script(BLOCKING)
    address = script.address
    eventually(lambda: asks(address) == 200, "the first 200")
    script.interrupt()
    eventually(lambda: not machine.left(), f"nothing runs after Ctrl-C: {machine.left()}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_script_that_is_killed_takes_its_node_along(machine: Machine, number: signal.Signals) -> None:
    script = machine.serve(HELLO)
    os.kill(script.pid, number)
    script.wait()
    eventually(lambda: not machine.left(), f"nothing runs after the script: {machine.left()}")


def test_a_killed_node_leaves_no_replica(machine: Machine) -> None:
    script = machine.serve(HELLO)
    os.kill(machine.one("eagleray: node$"), signal.SIGKILL)
    eventually(lambda: not machine.pids("eagleray: "), f"the reaper ends everything: {machine.left()}")
    script.process.kill()
    script.wait()


def test_a_killed_resident_node_starts_again_with_its_applications(machine: Machine) -> None:
    machine.start_resident()
    machine.serve(HELLO).end()
    os.kill(machine.one("eagleray: node$"), signal.SIGKILL)
    eventually(lambda: not machine.pids("eagleray: "), f"the reaper ends everything: {machine.left()}")
    address = machine.start_resident()
    eventually(lambda: asks(address) == 200, "the application of before serves again")


def test_a_taken_port_names_the_other_script_and_two_ways_out(machine: Machine) -> None:
    port = str(free_port())
    environment = {"EAGLERAY_SERVE_DEFAULT_HTTP_PORT": port}
    first = machine.serve(HELLO, environment=environment)
    second = machine.script(BLOCKING, name="second.py", environment=environment)
    assert second.wait() != 0
    assert str(first.pid) in second.output
    assert port in second.output
    assert "eagleray start" in second.output
    assert "http_options" in second.output
    assert first.get("/").status == 200, "the first script does not suffer"
    assert len(machine.pids("eagleray: node$")) == 1


def test_a_port_taken_by_a_stranger_is_named(machine: Machine) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = str(stranger.getsockname()[1])
        script = machine.script(BLOCKING, environment={"EAGLERAY_SERVE_DEFAULT_HTTP_PORT": port})
        assert script.wait() != 0
        assert port in script.output
        started = machine.cli("start", "--http-port", port)
        assert started.returncode != 0
        assert port in started.stdout + started.stderr
    assert not machine.left()


def test_scripts_with_ports_of_their_own_run_side_by_side(machine: Machine) -> None:
    first = machine.serve(HELLO)
    second = machine.serve(HELLO.replace('"hello"', '"other"'), name="second.py")
    assert first.address != second.address
    assert (first.get("/").text, second.get("/").text) == ("hello", "other")


def test_a_resident_node_with_another_name_stands_beside_the_first(machine: Machine) -> None:
    machine.start_resident()
    started = machine.cli("start", "--name", "other", "--http-port", "0")
    assert started.returncode == 0, started.stderr
    assert len(machine.pids("eagleray: node$")) == 2
    script = machine.serve(HELLO, environment={"EAGLERAY_NODE_NAME": "other"})
    assert request("GET", machine.address(name="other") + "/").text == "hello"
    assert request("GET", machine.address(name="default") + "/").status == 404
    # The commands that an answer names ask the node that was asked.
    missing = machine.cli("status", "nothing", "--node", "other")
    assert "`eagleray status --node other` shows those that are" in missing.stderr
    script.end()
    assert machine.cli("stop", "--name", "other").returncode == 0


def test_the_run_directory_is_the_users_alone(machine: Machine) -> None:
    script = machine.serve(HELLO)
    (node,) = machine.nodes()
    assert node["owner_pid"] == script.pid
    run = machine.runtime / node["name"]
    assert run.stat().st_mode & 0o077 == 0
    for path in run.rglob("*"):
        if path.is_socket():
            assert path.stat().st_mode & 0o077 == 0, path


def test_help_and_version_are_quick_words(machine: Machine) -> None:
    shown = machine.cli("--help")
    assert shown.returncode == 0
    for command in ("start", "stop", "status"):
        assert command in shown.stdout
    assert EXECUTABLE.name in machine.cli("--version").stdout
    wrong = machine.cli("strat")
    assert wrong.returncode != 0
    assert "start" in wrong.stderr, "the nearest command is named"


def asks(address: str) -> int:
    """Status of a request, 0 while nobody listens."""
    try:
        return request("GET", address + "/").status
    except OSError:
        return 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
