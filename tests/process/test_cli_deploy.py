"""`eagleray deploy` and what belongs to it: waiting, receipts, failures, refusals, going back."""

import json
import os
import pwd
import signal

import pytest

from machine import EXECUTABLE, Machine, eventually, request
from terminal import Terminal, on_terminal

SHOP = """
import os
import time

from eagleray import serve


@serve.deployment
class Rank:
    def __init__(self, word="a"):
        self.word = word

    async def __call__(self, request):
        return self.word


@serve.deployment
class Broken:
    def __init__(self):
        raise ValueError("no such model")


@serve.deployment
class Slow:
    def __init__(self):
        while not os.path.exists("go"):
            time.sleep(0.02)


def build(args):
    return Rank.bind(args.get("word", "a"))


app = Rank.bind()
broken = Broken.bind()
slow = Slow.bind()
"""


def config(*applications: str, word: str = "a") -> str:
    """Of applications as `NAME MODULE:ATTRIBUTE`, each below `/NAME`."""
    text = "applications:\n"
    for application in applications:
        name, path = application.split()
        args = f"  args: {{word: {word}}}\n" if path.endswith(":build") else ""
        text += f"- name: {name}\n  route_prefix: /{name}\n  import_path: {path}\n{args}"
    return text


def start(machine: Machine, *applications: str, word: str = "a") -> str:
    address = machine.start_resident()
    machine.write("shop.py", SHOP)
    machine.write("shop.yaml", config(*applications, word=word))
    return address


@pytest.mark.contract(
    "6/deploy",
    better="it waits until the applications are up, unless told `--no-wait`, and its exit status says how it ended",
)
@pytest.mark.contract("6/config")
def test_a_file_is_deployed_changed_and_taken_back(machine: Machine) -> None:
    address = start(machine, "shop shop:build", word="one")
    first = machine.cli("deploy", "shop.yaml")
    assert first.returncode == 0, first.stderr
    assert "shop r1 RUNNING after " in first.stdout
    assert "shop is being built" in first.stderr
    assert request("GET", address + "/shop").text == "one"

    machine.write("shop.yaml", config("shop shop:build", word="two"))
    second = machine.cli("deploy", "shop.yaml", "--message", "another word")
    assert second.returncode == 0, second.stderr
    assert "shop r2 restart Rank" in second.stdout
    assert "requests failed meanwhile" in second.stdout or "no request came meanwhile" in second.stdout
    assert request("GET", address + "/shop").text == "two"
    history = machine.cli("history", "shop").stdout
    assert "r2*" in history
    assert '"another word"' in history

    back = machine.cli("rollback", "shop")
    assert back.returncode == 0, back.stderr
    assert "shop r3 RUNNING after " in back.stdout
    assert request("GET", address + "/shop").text == "one"
    assert "back to r1" in machine.cli("history", "shop").stdout
    assert "word: one" in machine.cli("config", "--name", "shop").stdout


def test_who_deploys_is_known_where_no_variable_says_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.delenv("LOGNAME", raising=False)
    start(machine, "shop shop:app")
    assert machine.cli("deploy", "shop.yaml").returncode == 0
    revision = json.loads(machine.cli("history", "shop", "--json").stdout)["revisions"][0]
    assert revision["author"] == pwd.getpwuid(os.getuid()).pw_name


def test_every_problem_of_a_file_is_said_before_anything_is_sent(machine: Machine) -> None:
    machine.write("shop.yaml", "applications:\n- nam: shop\n  import_path: shop\n")
    refused = machine.cli("deploy", "shop.yaml")
    assert (refused.returncode, refused.stdout) == (5, "")
    assert [line for line in refused.stderr.splitlines() if line.startswith("shop.yaml:2:3: ")]
    assert [line for line in refused.stderr.splitlines() if line.startswith("shop.yaml:3:16: ")]
    assert "nothing was changed" in refused.stderr
    error = json.loads(machine.cli("deploy", "shop.yaml", "--json").stdout)
    assert (error["code"], len(error["problems"])) == ("config_invalid", 2)
    assert machine.cli("deploy", "nothing.yaml").returncode == 5
    assert machine.cli("deploy", "neither").returncode == 2
    assert machine.cli("deploy", "shop.yaml", "a=b").returncode == 2


def test_what_does_not_come_up_is_told_in_a_screen_and_what_was_there_serves(machine: Machine) -> None:
    address = start(machine, "shop shop:app")
    assert machine.cli("deploy", "shop.yaml").returncode == 0
    machine.write("shop.yaml", config("shop shop:broken"))
    failed = machine.cli("deploy", "shop.yaml")
    assert failed.returncode == 1
    assert "shop r2 did not come up. r1 serves" in failed.stderr
    assert "error[start_failed]: Broken: the constructor raised in 3 of 3 tries\n" in failed.stderr
    assert "why      ValueError: no such model\n" in failed.stderr
    assert "where    shop.py:20 in __init__\n" in failed.stderr, "as whoever stands there writes it"
    assert failed.stderr.count("no such model") == 1
    assert len(failed.stderr.splitlines()) <= 24
    assert request("GET", address + "/shop").text == "a"

    machine.write("shop.yaml", config("shop nothing:app"))
    not_built = machine.cli("deploy", "shop.yaml")
    assert not_built.returncode == 1
    assert "shop was not built. r1 serves" in not_built.stderr, "not the one that failed before"
    assert "nothing" in not_built.stderr
    assert request("GET", address + "/shop").text == "a"


def test_what_a_build_printed_is_no_second_time_its_failure(machine: Machine) -> None:
    start(machine, "shop shop:app")
    machine.write("shop.py", "print('hello')\nimport nothing_here\n")
    failed = machine.cli("deploy", "shop.yaml")
    assert failed.returncode == 1
    assert "error[import_failed]: module 'shop' cannot be imported\n" in failed.stderr
    assert "where    shop.py:2" in failed.stderr
    assert failed.stderr.count("No module named 'nothing_here'") == 1


def test_what_runs_already_is_said_to_be_unchanged(machine: Machine) -> None:
    start(machine, "shop shop:build", word="one")
    assert machine.cli("deploy", "shop.yaml").returncode == 0
    again = machine.cli("deploy", "shop.yaml")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("shop unchanged, r1 is what runs already (not built anew")
    last = json.loads(machine.cli("deploy", "shop.yaml", "--json").stdout.splitlines()[-1])
    assert (last["result"], last["unchanged"]) == ("done", True)
    back = machine.cli("rollback", "shop", "r1")
    assert back.returncode == 0, back.stderr
    assert back.stdout.startswith("shop unchanged, r1 is what runs already")
    assert len(machine.cli("history", "shop").stdout.splitlines()) == 2, "a heading, and one record"
    machine.write("shop.yaml", config("shop shop:build", word="two"))
    last = json.loads(machine.cli("deploy", "shop.yaml", "--json").stdout.splitlines()[-1])
    assert (last["result"], last["unchanged"]) == ("done", False)


def test_with_json_standard_output_is_json_and_nothing_else(machine: Machine) -> None:
    start(machine, "shop shop:app")
    done = machine.cli("deploy", "shop.yaml", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["event"] == "accepted"
    assert (lines[-1]["event"], lines[-1]["result"], lines[-1]["revision"]) == ("result", "done", 1)
    machine.write("shop.yaml", config("shop shop:broken"))
    failed = machine.cli("deploy", "shop.yaml", "--json")
    assert (failed.returncode, failed.stderr) == (1, "")
    last = json.loads(failed.stdout.splitlines()[-1])
    assert last["result"] == "rolled_back"
    assert "no such model" in last["failure"]["message"]


@pytest.mark.contract("6/deploy", better="deleting is asked on a terminal, and needs `--yes` elsewhere")
def test_an_application_that_is_left_out_goes_only_with_a_yes(machine: Machine) -> None:
    start(machine, "shop shop:app", "old shop:app")
    assert machine.cli("deploy", "shop.yaml").returncode == 0
    machine.write("shop.yaml", config("shop shop:app"))
    refused = machine.cli("deploy", "shop.yaml")
    assert refused.returncode == 5
    assert "leaves out old" in refused.stderr
    assert machine.cli("status", "old").returncode == 0

    asked = Terminal(machine, "deploy", "shop.yaml")
    asked.wait_for("delete it? [y/N]")
    asked.type("n\n")
    assert asked.close().returncode == 5
    assert machine.cli("status", "old").returncode == 0

    assert machine.cli("deploy", "shop.yaml", "--yes").returncode == 0
    eventually(lambda: machine.cli("status", "old").returncode == 3, "it is gone")
    assert machine.cli("status", "shop").returncode == 0


@pytest.mark.contract("6/deploy-module", better="the others stay: only what is named is deployed")
@pytest.mark.contract("G/30", better="it replaces nothing, so there is nothing to warn of")
def test_a_module_is_deployed_and_leaves_the_others_alone(machine: Machine) -> None:
    address = start(machine, "shop shop:app")
    assert machine.cli("deploy", "shop.yaml").returncode == 0
    done = machine.cli("deploy", "shop:build", "word=three", "--name", "more")
    assert done.returncode == 0, done.stderr
    assert "more r1 RUNNING after " in done.stdout
    assert request("GET", address + "/").text == "three"
    assert request("GET", address + "/shop").text == "a"


def test_ctrl_c_and_a_time_limit_end_the_waiting_and_not_the_deploy(machine: Machine) -> None:
    start(machine, "slow shop:slow")
    late = machine.cli("deploy", "shop.yaml", "--timeout", "1")
    assert late.returncode == 4
    assert "the node goes on" in late.stderr
    deploy = machine.start([str(EXECUTABLE), "deploy", "shop.yaml"])
    deploy.wait_for_line("slow is being built|slow r. is rolled out")
    deploy.process.send_signal(signal.SIGINT)
    assert deploy.wait() == 130
    assert "the node goes on with it" in deploy.output
    machine.write("go", "")
    eventually(lambda: "status: RUNNING" in machine.cli("status", "slow").stdout, "it comes up nevertheless")


def test_what_a_build_prints_is_shown_while_it_runs(machine: Machine) -> None:
    start(machine, "shop shop:app")
    waits = "import os, time\nprint('waits for the gate')\nwhile not os.path.exists('gate'): time.sleep(0.02)\n"
    machine.write("shop.py", waits + SHOP)
    deploy = machine.start([str(EXECUTABLE), "deploy", "shop.yaml"])
    deploy.wait_for_line("shop prints: waits for the gate")
    machine.write("gate", "")
    assert deploy.wait() == 0


def test_progress_counts_the_replicas_of_the_new_revision(machine: Machine) -> None:
    start(machine, "shop shop:app")
    assert machine.cli("deploy", "shop.yaml").returncode == 0
    slow = SHOP.replace(
        "        self.word = word",
        '        while not os.path.exists("go"):\n            time.sleep(0.02)\n        self.word = word',
    )
    machine.write("shop.py", slow)
    deploy = machine.start([str(EXECUTABLE), "deploy", "shop.yaml"])
    deploy.wait_for_line("shop r2 Rank ./1 ready")
    assert "shop r2 Rank 0/1 ready" in deploy.output
    machine.write("go", "")
    assert deploy.wait() == 0
    assert "shop r2 Rank 1/1 ready" in deploy.output


def test_without_waiting_it_returns_at_once(machine: Machine) -> None:
    start(machine, "slow shop:slow")
    taken = machine.cli("deploy", "shop.yaml", "--no-wait")
    assert taken.returncode == 0, taken.stderr
    assert "is taken: building slow" in taken.stdout
    machine.write("go", "")
    eventually(lambda: "status: RUNNING" in machine.cli("status", "slow").stdout, "it comes up")


def test_on_a_terminal_a_block_is_drawn_and_then_the_receipt(machine: Machine) -> None:
    start(machine, "shop shop:app")
    shown = on_terminal(machine, "deploy", "shop.yaml")
    assert shown.returncode == 0, shown.text
    assert "Ctrl-C leaves it running" in shown.text
    assert "✔ shop r1 RUNNING after " in shown.text
    assert shown.text.rstrip().splitlines()[-1].startswith("✔ shop r1 RUNNING"), "the receipt is what stays"
    dumb = on_terminal(machine, "deploy", "shop.yaml", "--rebuild", TERM="dumb")
    assert "\x1b" not in dumb.raw


def test_scale_takes_numbers_and_steps(machine: Machine) -> None:
    start(machine, "shop shop:app")
    assert machine.cli("deploy", "shop.yaml").returncode == 0
    assert machine.cli("scale", "shop/Rank", "2").stdout == "shop/Rank 1 -> 2, until a deploy states another\n"
    assert machine.cli("scale", "shop/Rank", "-1").stdout == "shop/Rank 2 -> 1, until a deploy states another\n"
    assert machine.cli("scale", "shop/Nope", "1").returncode == 3
    assert machine.cli("scale", "nope/Rank", "1").returncode == 3
    assert machine.cli("scale", "shop/Rank", "many").returncode == 2


def test_a_plan_says_what_would_change_and_is_done_exactly_or_not_at_all(machine: Machine) -> None:
    address = start(machine, "shop shop:build", word="one")
    assert machine.cli("deploy", "shop.yaml").returncode == 0
    same = machine.cli("diff", "shop.yaml", "--exit-code")
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "nothing would change"), same.stdout
    machine.write("shop.yaml", config("shop shop:build", word="two"))
    planned = machine.cli("diff", "shop.yaml", "--exit-code")
    assert planned.returncode == 11, planned.stdout + planned.stderr
    assert "RESTART 1" in planned.stdout
    assert request("GET", address + "/shop").text == "one", "a plan changes nothing"
    plan = planned.stdout.split("--plan ")[1].strip()
    machine.write("shop.yaml", config("shop shop:build", word="three"))
    stale = machine.cli("deploy", "shop.yaml", "--plan", plan)
    assert stale.returncode == 5, stale.stdout + stale.stderr
    assert request("GET", address + "/shop").text == "one"
    machine.write("shop.yaml", config("shop shop:build", word="two"))
    done = machine.cli("deploy", "shop.yaml", "--plan", plan)
    assert done.returncode == 0, done.stderr
    assert request("GET", address + "/shop").text == "two"
