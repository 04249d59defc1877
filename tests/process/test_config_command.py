"""`eagleray config check` and `eagleray schema`: files are judged without a node."""

import json
import os
import subprocess
import threading

from machine import EXECUTABLE, PATIENCE, Machine

RIGHT = """
http_options: {port: 8000}
applications:
- name: shop
  route_prefix: /shop
  import_path: shop.main:build
  deployments:
  - name: Rank
    num_replicas: auto
    max_concurrent_queries: 7
"""

WRONG = """\
applications:
- name: shop
  import_path: shop
  deployments:
  - name: Rank
    num_replica: 3
    ray_actor_options: {accelerator_type: T4}
"""


def test_a_right_file_is_said_to_be_right_with_what_is_to_be_known(machine: Machine) -> None:
    (machine.work / "shop.yaml").write_text(RIGHT)
    checked = machine.cli("config", "check", "shop.yaml")
    assert (checked.returncode, checked.stdout) == (0, "shop.yaml is right: 1 application\n")
    assert checked.stderr.splitlines() == [
        "shop.yaml:10:5: warning: applications[0].deployments[0].max_concurrent_queries: an old name",
        "  help: write max_ongoing_requests",
    ]
    assert not machine.nodes(), "no node was started"


def test_all_that_is_wrong_with_a_file_is_said_at_once(machine: Machine) -> None:
    (machine.work / "shop.yaml").write_text(WRONG)
    checked = machine.cli("config", "check", "shop.yaml")
    assert (checked.returncode, checked.stdout) == (1, "")
    lines = checked.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines if line.startswith("shop.yaml:")] == [
        "shop.yaml:3:16",
        "shop.yaml:6:5",
        "shop.yaml:7:43",
    ]
    assert '  help: did you mean "num_replicas"?' in lines
    assert lines[-1] == "eagleray: shop.yaml has 3 problems"


def test_json_is_all_that_standard_output_has(machine: Machine) -> None:
    for text, status, problems, warnings in [(RIGHT, 0, 0, 1), (WRONG, 1, 3, 0), ("a: [", 1, 1, 0)]:
        (machine.work / "shop.yaml").write_text(text)
        checked = machine.cli("config", "check", "--json", "shop.yaml")
        said = json.loads(checked.stdout)
        assert (checked.returncode, len(said["problems"]), len(said["warnings"])) == (status, problems, warnings)
        for problem in said["problems"] + said["warnings"]:
            assert problem.keys() == {"path", "line", "column", "message", "help"}


def test_standard_input_is_a_file_too_and_read_no_further_than_a_config_is_long(machine: Machine) -> None:
    command = [EXECUTABLE, "config", "check", "-"]
    right = subprocess.run(command, input=RIGHT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (right.returncode, right.stdout) == (0, "- is right: 1 application\n"), right.stderr
    # Without an end: it is not waited for.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as endless:
        assert endless.stdin is not None
        assert endless.stderr is not None
        writer = threading.Thread(target=_write, args=(endless.stdin.fileno(), b"# more\n" * 400_000))
        writer.start()
        assert endless.wait(PATIENCE) == 1
        assert b"a config has at most 1048576" in endless.stderr.read()
        endless.stdin.close()
        writer.join(PATIENCE)


def _write(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass  # nobody reads further


def test_a_fifo_is_refused_and_not_waited_for(machine: Machine) -> None:
    os.mkfifo(machine.work / "pipe.yaml")
    checked = machine.cli("config", "check", "pipe.yaml", seconds=10)
    assert checked.returncode == 1
    assert "pipe.yaml: no regular file" in checked.stderr


def test_the_schema_is_that_of_the_documents(machine: Machine) -> None:
    printed = machine.cli("schema")
    assert printed.returncode == 0
    schema = json.loads(printed.stdout)
    deployments = schema["properties"]["applications"]["items"]["properties"]["deployments"]
    assert "num_replicas" in deployments["items"]["properties"]
