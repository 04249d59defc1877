"""`eagleray status`, `explain`, `config`, `doctor` and `shutdown`: what people and scripts see, and how it ends."""

import json
import re
import socket
import subprocess

import pytest

from control import Control
from machine import EXECUTABLE, Machine, eventually, request
from terminal import Terminal, control, on_terminal

APP = """
from eagleray import serve

@serve.deployment(ray_actor_options={"runtime_env": {"env_vars": {"KEY": "s3cret"}}})
class Model:
    async def __call__(self, request):
        return "hello"

app = Model.bind()
"""

UNWELL = """
from eagleray import serve

@serve.deployment
class Broken:
    def __init__(self):
        raise ValueError("no such model")

app = Broken.bind()
"""


def serve(machine: Machine, text: str = APP, name: str = "default") -> None:
    machine.start_resident()
    machine.serve(text, run=f'serve.run(app, name="{name}")').end()


@pytest.mark.contract("6/status")
def test_elsewhere_than_on_a_terminal_it_is_the_yaml_of_serve_status(machine: Machine) -> None:
    serve(machine)
    shown = machine.cli("status")
    assert shown.returncode == 0, shown.stderr
    time = re.compile(r"(?<=last_deployed_time_s: )\d+\.\d+")
    (node,) = machine.nodes()
    assert time.sub("T", shown.stdout) == (
        f"proxies:\n  {node['node_id']}: HEALTHY\n\napplications:\n  default:\n    status: RUNNING\n    message: ''\n"
        "    last_deployed_time_s: T\n    deployments:\n      Model:\n        status: HEALTHY\n"
        "        status_trigger: CONFIG_UPDATE_COMPLETED\n        replica_states:\n          RUNNING: 1\n"
        "        message: ''\n\ntarget_capacity: null\n"
    )
    one = machine.cli("status", "--name", "default")
    assert one.stdout.startswith("status: RUNNING\n")
    assert machine.cli("status", "default").stdout == one.stdout


def test_on_a_terminal_it_is_a_table(machine: Machine) -> None:
    serve(machine)
    shown = on_terminal(machine, "status")
    assert shown.returncode == 0
    lines = shown.text.splitlines()
    assert lines[0].startswith("node default  up ")
    assert lines[2].split() == ["APP", "REV", "STATUS", "DEPLOYMENT", "REPLICAS", "WHY"]
    assert lines[3].split() == ["default", "r1", "✔", "RUNNING", "Model", "1/1"]
    assert "\x1b[32m" in shown.raw
    for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in on_terminal(machine, "status", **plain).raw
    letters = on_terminal(machine, "status", LC_ALL="C").text
    assert letters.isascii()
    assert "+ RUNNING" in letters
    narrow = on_terminal(machine, "status", columns=30).text
    assert max(map(len, narrow.splitlines())) <= 30


def test_what_is_not_fine_is_explained_and_is_the_exit_status(machine: Machine) -> None:
    machine.start_resident()
    machine.script(UNWELL + '\nserve.run(app, name="shop", route_prefix="/shop")').wait()
    status = machine.cli("status")
    assert status.returncode == 1
    assert "status: DEPLOY_FAILED" in status.stdout
    explained = machine.cli("explain", "shop")
    assert explained.returncode == 1
    assert "no such model" in explained.stdout
    table = on_terminal(machine, "status", columns=160)
    assert table.returncode == 1
    assert "✖ DEPLOY_FAILED" in table.text
    assert "next: eagleray explain shop" in table.text
    reasons = json.loads(machine.cli("explain", "--json").stdout)
    assert reasons
    # The same words wherever they are asked for.
    rest = Control(machine).status("shop")
    told = [*rest["why"], *(why for one in rest["deployments"] for why in one["why"])]
    assert [one["sentence"] for one in reasons] == [one["sentence"] for one in told]
    assert {reason["application"] for reason in reasons} == {"shop"}


@pytest.mark.contract("G/27")
@pytest.mark.contract("6/status-unknown", better="each is a status of its own, with the next step")
def test_no_node_no_application_no_answer_and_a_wrong_token_are_told_apart(machine: Machine) -> None:
    none = machine.cli("status")
    assert none.returncode == 3
    assert "help: start one with `eagleray start`" in none.stderr
    machine.start_resident()
    missing = machine.cli("status", "nope")
    assert missing.returncode == 3
    assert 'no application "nope"' in missing.stderr
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        nobody = machine.cli("status", "-a", f"http://127.0.0.1:{held.getsockname()[1]}")
    assert nobody.returncode == 4
    assert "cannot be reached" in nobody.stderr
    address, _ = control(machine)
    wrong = machine.cli("status", "-a", address, environment={"EAGLERAY_TOKEN": "wr0ng"})
    assert wrong.returncode == 5
    assert "does not take this token" in wrong.stderr
    assert "EAGLERAY_TOKEN" in wrong.stderr
    assert "wr0ng" not in wrong.stderr
    as_json = machine.cli("status", "--json", "-a", address, environment={"EAGLERAY_TOKEN": "wr0ng"})
    assert (as_json.returncode, json.loads(as_json.stdout)["code"], as_json.stderr) == (5, "wrong_token", "")
    scheme = machine.cli("status", "-a", "127.0.0.1:8265")
    assert scheme.returncode == 2
    assert "begins with http://" in scheme.stderr


@pytest.mark.contract("6/address", "10.1/address")
def test_an_address_and_a_token_are_found_by_our_names_and_by_ray_s(machine: Machine) -> None:
    machine.start_resident()
    address, token = control(machine)
    elsewhere = {"EAGLERAY_RUNTIME_DIR": str(machine.runtime / "elsewhere")}
    for environment in (
        {"EAGLERAY_ADDRESS": address, "EAGLERAY_TOKEN_FILE": str(token)},
        {"RAY_DASHBOARD_ADDRESS": address, "RAY_AUTH_TOKEN_PATH": str(token)},
        {"EAGLERAY_ADDRESS": address, "EAGLERAY_TOKEN": token.read_text()},
    ):
        shown = machine.cli("status", environment=elsewhere | environment)
        assert shown.returncode == 0, shown.stderr
    without = machine.cli("status", environment=elsewhere | {"EAGLERAY_ADDRESS": address})
    assert without.returncode == 5
    assert "wants a token" in without.stderr


def test_no_command_shows_a_value_of_env_vars(machine: Machine) -> None:
    serve(machine)
    for arguments in (
        ["status", "--json"],
        ["status"],
        ["history", "--json"],
        ["events", "--json"],
        ["config"],
        ["doctor"],
        ["doctor", "--json"],
        ["explain", "--json"],
    ):
        shown = machine.cli(*arguments)
        assert shown.stdout, arguments
        assert "s3cret" not in shown.stdout + shown.stderr, arguments


def test_a_pipe_that_nobody_reads_is_no_error(machine: Machine) -> None:
    machine.start_resident()
    for command in ("status", "schema", "completions bash", "--help", "doctor"):
        pipe = subprocess.Popen(
            f"{EXECUTABLE} {command} | true; exit ${{PIPESTATUS[0]}}",
            shell=True,
            executable="/bin/bash",
            env=machine.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        _, errors = pipe.communicate(timeout=30)
        assert (pipe.returncode, errors) == (0, ""), command


def test_watch_says_each_change_in_a_line(machine: Machine) -> None:
    machine.start_resident()
    watch = machine.start([str(EXECUTABLE), "status", "--watch"])
    machine.serve(APP, run='serve.run(app, name="shop")').end()
    watch.wait_for_line(r"\d\d:\d\d:\d\d shop RUNNING r1")
    watch.wait_for_line(r"\d\d:\d\d:\d\d shop/Model HEALTHY 1/1")
    watch.process.send_signal(2)
    assert watch.wait() == 130


def test_watch_shows_what_was_measured(machine: Machine) -> None:
    machine.start_resident()
    machine.serve(APP, run='serve.run(app, name="shop")').end()
    control = Control(machine)
    address = machine.address(name="default")

    def measured() -> bool:
        assert request("GET", address + "/").status == 200
        series = control.get("/api/v1/series?deployment=Model").json()["series"]
        return bool(series) and series[0]["total"]["requests"] > 20

    eventually(measured, "requests are in the series", 30)
    line = machine.start([str(EXECUTABLE), "status", "--watch"])
    line.wait_for_line(r"shop/Model HEALTHY 1/1  [\d.]+ req/s  fail 0 %  p50 [\d.]+ m?s  p99 [\d.]+ m?s  queue 0")
    line.process.send_signal(2)
    assert line.wait() == 130
    table = Terminal(machine, "status", "--watch", columns=160)
    for text in ("REQ/S", "QUEUE", "█", " shop "):
        table.wait_for(text)
    table.type("\x03")
    assert table.close().returncode == 130


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_know_every_command(machine: Machine, shell: str) -> None:
    shown = machine.cli("completions", shell)
    assert shown.returncode == 0
    for command in ("deploy", "rollback", "doctor", "run"):
        assert command in shown.stdout


def test_doctor_looks_at_the_machine_and_at_its_node(machine: Machine) -> None:
    free = json.loads(machine.cli("doctor", "--json").stdout)
    assert {"kernel", "files", "python", "disk", "http_port"} <= free.keys()
    machine.start_resident()
    shown = machine.cli("doctor")
    assert shown.returncode == 0, shown.stdout
    assert "node: default runs" in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith(" 0 failed")


@pytest.mark.contract(
    "6/shutdown", better="elsewhere than on a terminal it needs `-y`, and a node that does not run is exit status 3"
)
def test_shutdown_asks_a_person_and_wants_a_yes_of_a_script(machine: Machine) -> None:
    machine.start_resident()
    refused = machine.cli("shutdown")
    assert refused.returncode == 5
    assert "--yes" in refused.stderr
    assert machine.cli("status").returncode == 0
    done = machine.cli("shutdown", "-y")
    assert done.returncode == 0, done.stderr
    eventually(lambda: not machine.left(), "nothing runs after shutdown")
    assert machine.cli("shutdown", "-y").returncode == 3
