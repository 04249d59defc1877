"""What a node keeps on disk: where it is, how large it gets, and when it goes."""

import json
import os
import signal
from pathlib import Path

import pytest

from machine import Load, Machine, eventually, remove

APP = """
import os
from eagleray import serve

@serve.deployment
class App:
    def __init__(self, weights=b""):
        self.weights = weights

    async def __call__(self, request):
        if request.query_params.get("die"):
            os._exit(3)
        return "ok"

app = App.bind()
"""


def states(machine: Machine) -> list[Path]:
    return sorted((machine.runtime / "state" / "eagleray").glob("script-*"))


@pytest.mark.contract("10.4/rotation", better="64 MiB and 4 by default, and a bound on all logs of a node")
def test_access_lines_turn_over_and_only_so_many_files_are_kept(machine: Machine) -> None:
    environment = {"EAGLERAY_ROTATION_MAX_BYTES": "65536", "EAGLERAY_ROTATION_BACKUP_COUNT": "2"}
    script = machine.serve(APP, environment=environment)
    (state,) = states(machine)
    names = ["access.log", "access.log.1", "access.log.2"]
    with Load(script.address, threads=4) as load:
        eventually((state / "logs" / names[-1]).exists, "two old files", 120)
        first = (state / "logs" / names[-1]).stat().st_ino
        eventually(lambda: (state / "logs" / names[-1]).stat().st_ino != first, "the oldest has gone", 120)
        load.wait_for_more()
    assert set(load.outcomes) == {"200"}
    found = sorted((state / "logs").glob("access.log*"))
    assert [path.name for path in found] == names
    assert all(path.stat().st_size <= 65536 for path in found)
    for path in found:
        assert all(line.endswith("ms") for line in path.read_text().splitlines()), "no line was cut"


@pytest.mark.contract("10.4/json")
def test_processes_and_requests_are_logged_as_json_where_that_is_asked_for(machine: Machine) -> None:
    script = machine.serve(APP, environment={"EAGLERAY_SERVE_LOG_ENCODING": "json"})
    assert script.get("/a%22b?x=1", headers={"x-request-id": "abc"}).status == 200
    (state,) = states(machine)
    access = state / "logs/access.log"
    eventually(lambda: access.exists() and access.read_text(), "the access line is there")
    line = json.loads(access.read_text().splitlines()[0])
    assert {name: line[name] for name in ("levelname", "component_name", "request_id", "route")} == {
        "levelname": "INFO",
        "component_name": "proxy",
        "request_id": "abc",
        "route": "/",
    }
    assert line["message"].startswith("GET / 200 ")
    for role in ("node", "controller"):
        text = eventually(lambda role=role: (state / f"logs/{role}.log").read_text(), f"the {role} logs")
        for line in map(json.loads, text.splitlines()):
            assert line["component_name"] == role
            assert {"levelname", "asctime", "component_id", "message"} <= set(line)
    refused = machine.script(APP + "serve.run(app)\n", name="b.py", environment={"EAGLERAY_SERVE_LOG_ENCODING": "xml"})
    assert refused.wait() != 0
    assert 'EAGLERAY_SERVE_LOG_ENCODING must be TEXT or JSON, got "xml"' in refused.output


def test_nothing_that_grows_is_in_the_run_directory(machine: Machine) -> None:
    script = machine.serve(APP)
    (node,) = machine.nodes()
    run = machine.runtime / node["name"]
    (state,) = states(machine)
    links = {path.name: path.readlink() for path in run.iterdir() if path.is_symlink()}
    assert links == {"logs": state / "logs"}
    names = ["controller.sock", "lock", "logs", "metrics", "node.json", "node.sock", "r", "rest.sock", "token"]
    assert sorted(path.name for path in run.iterdir()) == names
    sizes = {path: path.lstat().st_size for path in run.rglob("*")}
    counted = {path for path in sizes if path.is_relative_to(run / "metrics")}
    assert sum(sizes[path] for path in sizes.keys() - counted) < 16384
    # A few pages of numbers a process, and more only with more sets of labels.
    assert sum(sizes[path] for path in counted) < 16384 * 10
    assert state.name.startswith(f"script-{script.pid}-")
    assert script.end() == 0
    eventually(lambda: not states(machine), "it goes with its script, since nothing failed")


def test_code_of_what_was_deleted_stays_for_a_rollback_and_a_refused_deploy_leaves_none(machine: Machine) -> None:
    script = machine.serve(APP)
    (state,) = states(machine)
    before = {path.name for path in (state / "blobs").iterdir()}
    for _ in range(3):
        script.do('serve.run(App.bind(os.urandom(100_000)), name="big", route_prefix="/big") and 1')
    kept = {path.name for path in (state / "blobs").iterdir()}
    assert len(kept - before) >= 3
    script.do('serve.delete("big")')
    refused = script.ask('serve.run(App.bind(os.urandom(100_000)), name="other", route_prefix="/")')
    assert "route_prefix" in refused["text"], refused
    assert {path.name for path in (state / "blobs").iterdir()} == kept, "a deploy that was refused leaves none"
    assert script.get("/").text == "ok"
    (node,) = machine.nodes()
    back = machine.cli("rollback", "big", "r2", "--yes", "--node", node["name"])
    assert back.returncode == 0, back.stderr
    assert script.get("/big").text == "ok"


def test_logs_of_a_script_whose_replica_failed_or_whose_node_was_killed_stay(machine: Machine) -> None:
    script = machine.serve(APP)
    (state,) = states(machine)
    assert script.get("/?die=1").status >= 500
    eventually(lambda: script.get("/").status == 200, "another replica serves")
    script.end()
    eventually(lambda: [path.name for path in state.iterdir()] == ["logs"], "only the logs stay")

    second = machine.serve(APP, name="second.py")
    (killed,) = set(states(machine)) - {state}
    os.kill(machine.one("eagleray: node"), signal.SIGKILL)
    eventually(lambda: [path.name for path in killed.iterdir()] == ["logs"], "the reaper leaves the logs")
    assert "the node is gone" in (killed / "logs/node.log").read_text()
    second.process.kill()
    second.wait()


def test_a_state_directory_that_was_removed_costs_no_replica_when_the_controller_dies(machine: Machine) -> None:
    script = machine.serve(APP)
    (state,) = states(machine)
    remove(state)
    eventually((state / "checkpoint.sqlite").exists, "the checkpoint is made again")
    # Stored after the checkpoint, so that is whole now.
    assert script.do('serve.run(App.bind(1), name="other", route_prefix="/other") and 1') == 1
    replicas = machine.replicas()
    os.kill(machine.one("eagleray: controller"), signal.SIGKILL)
    eventually(lambda: "adopted 2 replica" in machine.logs("controller.log"), "the next controller knows the replicas")
    assert script.get("/").text == script.get("/other").text == "ok"
    assert machine.replicas() == replicas
    assert script.do("serve.run(App.bind(2)) and 1") == 1
    assert script.get("/").text == "ok"


def test_a_checkpoint_that_was_moved_away_is_begun_anew_and_deploys_are_taken(machine: Machine) -> None:
    script = machine.serve(APP)
    (state,) = states(machine)
    for name in ("checkpoint.sqlite", "checkpoint.sqlite-journal"):
        (state / name).unlink()
    os.kill(machine.one("eagleray: controller"), signal.SIGKILL)
    eventually(lambda: "Another begins at once" in machine.logs("controller.log"), "the first finds itself behind")
    assert script.do("serve.run(App.bind(2)) and 1") == 1
    eventually(lambda: script.get("/").status == 200, "what is deployed now is served")
