"""`eagleray run FILE`: the applications of a config file in the foreground, and again when it changes."""

import json
import os
import re
import threading
from pathlib import Path

import pytest

from machine import EXECUTABLE, Machine, Script, eventually, request

SHOP = """
import os
from eagleray import serve

@serve.deployment(user_config={"word": "code"}, max_ongoing_requests=7)
class Word:
    def __init__(self, greeting="hello"):
        self.greeting = greeting

    def reconfigure(self, config):
        self.word = config["word"]

    async def __call__(self, request):
        return f"{self.greeting} {self.word} {os.environ.get('PLACE', '-')} {os.getpid()}"

app = Word.bind()

def build(arguments):
    return Word.bind(arguments["greeting"])
"""
CONFIG = """
http_options:
  root_path: /base
applications:
- name: first
  route_prefix: /first
  import_path: shop:app
  deployments:
  - name: Word
    user_config: {word: file}
    ray_actor_options: {runtime_env: {env_vars: {PLACE: here}}}
- name: second
  route_prefix: /second
  import_path: shop:build
  args: {greeting: hi}
"""


def run(machine: Machine, *arguments: str) -> Script:
    machine.write("shop.py", SHOP)
    return machine.start([str(EXECUTABLE), "run", *arguments])


def serving(machine: Machine, text: str = CONFIG, *arguments: str, count: int = 2) -> Script:
    machine.write("shop.yaml", text)
    script = run(machine, "shop.yaml", *arguments)
    for _ in range(count):
        script.wait_for_line("is running")
    return script


def answer(script: Script, path: str) -> str:
    return script.get(path).text.rpartition(" ")[0]


def pid(script: Script, path: str) -> str:
    return script.get(path).text.rpartition(" ")[2]


@pytest.mark.contract("6/run-file", better="it waits until they run, and says which problem is where")
def test_all_applications_of_a_file(machine: Machine) -> None:
    script = serving(machine)
    assert answer(script, "/base/first") == "hello file here"
    assert answer(script, "/base/second") == "hi code -"
    status = json.loads(machine.cli("status", "--json", "--node", machine.nodes()[0]["name"]).stdout)
    assert [one["status"] for one in status["applications"]] == ["RUNNING", "RUNNING"]
    assert script.interrupt() == 0, script.output
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")
    assert "Traceback" not in script.output


@pytest.mark.contract("6/run-file", better="it waits until they run, and says which problem is where")
def test_options_that_stand_in_the_file(machine: Machine) -> None:
    machine.write("shop.yaml", CONFIG)
    machine.write("shop.py", SHOP)
    ended = machine.cli("run", "shop.yaml", "greeting=ho")
    assert ended.returncode == 2
    assert "arguments of an application stand in it, under args" in ended.stderr
    script = run(machine, "shop.yaml", "--name", "mine", "--route-prefix", "/mine", "--http-root-path", "/other")
    script.wait_for_line("--name has no effect")
    script.wait_for_line("--route-prefix has no effect")
    script.wait_for_line("is running")
    script.wait_for_line("is running")
    assert answer(script, "/other/second") == "hi code -", "the command line goes over the file"


def test_every_problem_of_the_file_is_said_and_nothing_starts(machine: Machine) -> None:
    machine.write(
        "shop.yaml", "applications:\n- import_path: shop\n  nam: x\n  deployments: [{name: Word, num_replicas: -1}]\n"
    )
    machine.write("shop.py", "open('imported', 'w')\n")
    ended = machine.cli("run", "shop.yaml")
    assert ended.returncode == 5
    assert re.search(r"shop\.yaml:2:16: applications\[0\]\.import_path", ended.stderr)
    assert 'did you mean "name"?' in ended.stderr
    assert re.search(r"shop\.yaml:4:\d+: applications\[0\]\.deployments\[0\]\.num_replicas", ended.stderr)
    assert "Traceback" not in ended.stderr
    assert not (machine.work / "imported").exists()
    assert not machine.nodes()


def test_every_application_that_cannot_be_loaded_is_said_and_none_is_served(machine: Machine) -> None:
    broken = CONFIG.replace("shop:app", "broken:app").replace("shop:build", "nowhere:app") + (
        "- {name: third, route_prefix: /third, import_path: 'shop:app', deployments: [{name: Wrod}]}\n"
        "- {name: fourth, route_prefix: /fourth, import_path: 'shop:app'}\n"
    )
    machine.write("shop.yaml", broken)
    machine.write("broken.py", "1 / 0\n")
    machine.write("shop.py", SHOP)
    ended = machine.cli("run", "shop.yaml")
    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr
    assert "application 'first': module 'broken' cannot be imported" in ended.stderr
    assert "application 'second': there is no module 'nowhere'" in ended.stderr
    assert re.search(r"application 'third': .*Wrod", ended.stderr)
    assert 'did you mean "Word"?' in ended.stderr
    assert "starts with" not in ended.stderr
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")


def test_a_constructor_that_fails_ends_it(machine: Machine) -> None:
    machine.write("shop.yaml", CONFIG.replace("word: file", "wrod: file"))
    machine.write("shop.py", SHOP)
    ended = machine.cli("run", "shop.yaml")
    assert ended.returncode == 1
    assert "KeyError: 'word'" in ended.stderr
    assert "application 'first' failed to deploy" in ended.stderr
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")


def test_modules_of_one_name_in_two_applications_are_each_its_own(machine: Machine) -> None:
    """A change of a module at run time by one application is not seen by another."""
    machine.write("shared.py", "words = []\n")
    for name in ("one", "two"):
        text = f"import shared\nshared.words.append({name!r})\n"
        machine.write(f"{name}.py", f"{text}from eagleray import serve\n\n@serve.deployment\nclass Said:\n"
                      "    def __init__(self, words):\n        self.words = words\n\n"
                      "    async def __call__(self, request):\n        return ' '.join(self.words)\n\n"
                      "app = Said.bind(list(shared.words))\n")  # fmt: skip
    machine.write(
        "both.yaml",
        "applications:\n"
        "- {name: one, route_prefix: /one, import_path: 'one:app'}\n"
        "- {name: two, route_prefix: /two, import_path: 'two:app'}\n",
    )
    script = machine.start([str(EXECUTABLE), "run", "both.yaml"])
    script.wait_for_line("is running")
    script.wait_for_line("is running")
    assert (script.get("/one").text, script.get("/two").text) == ("one", "two")


def test_variables_of_the_application_are_there_when_it_is_imported(machine: Machine) -> None:
    machine.write("shop.py", "import os\nassert os.environ['MODE'] == 'trial'\n" + SHOP)
    head = "- {name: one, import_path: 'shop:app', runtime_env: {env_vars: {MODE: trial, PLACE: all}}}"
    machine.write("shop.yaml", f"applications:\n{head}\n")
    script = machine.start([str(EXECUTABLE), "run", "shop.yaml"])
    script.wait_for_line("is running")
    assert answer(script, "/") == "hello code all"


def test_a_change_of_the_file_is_served(machine: Machine) -> None:
    script = serving(machine, CONFIG, "--reload")
    path = machine.work / "shop.yaml"
    before = pid(script, "/base/first"), pid(script, "/base/second")
    path.write_text(CONFIG.replace("word: file", "word: light"))
    eventually(lambda: answer(script, "/base/first") == "hello light here", "the change is served")
    script.wait_for_line(r"shop\.yaml changed: first: Word is changed in place")
    assert (pid(script, "/base/first"), pid(script, "/base/second")) == before
    path.write_text(CONFIG.replace("PLACE: here", "PLACE: there"))
    eventually(lambda: answer(script, "/base/first") == "hello file there", "the change is served")
    script.wait_for_line(r"shop\.yaml changed: first: Word restarts")
    assert pid(script, "/base/second") == before[1]
    path.write_text(CONFIG.replace("word: file", "word: [light"))
    script.wait_for_line("shop.yaml changed, but .*shop.yaml cannot be served")
    script.wait_for_line("what was there goes on serving")
    assert answer(script, "/base/first") == "hello file there"
    path.write_text(
        CONFIG[: CONFIG.index("- name: second")] + "- {name: third, route_prefix: /third, import_path: 'shop:app'}\n"
    )
    script.wait_for_line("shop.yaml changed: application 'second' ends")
    eventually(lambda: script.get("/base/third").status == 200, "a new application is served")
    eventually(lambda: script.get("/base/second").status == 404, "one that is gone is not")
    assert script.interrupt() == 0, script.output
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")


def test_a_module_that_changes_reloads_the_applications_that_have_it(machine: Machine) -> None:
    machine.write("one/a.py", SHOP)
    machine.write("one/__init__.py", "")
    machine.write("two/__init__.py", "")
    machine.write("two/b.py", SHOP)
    text = CONFIG.replace("shop:app", "one.a:app").replace("shop:build", "two.b:build")
    script = serving(machine, text, "--reload")
    before = pid(script, "/base/first"), pid(script, "/base/second")
    path = machine.work / "one/a.py"
    path.write_text(path.read_text().replace("{self.greeting} ", "{self.greeting}, "))
    eventually(lambda: answer(script, "/base/first") == "hello, file here", "the change is served")
    assert script.wait_for_line(r"one/a\.py changed: first: Word restarts")
    assert pid(script, "/base/first") != before[0]
    assert pid(script, "/base/second") == before[1]
    assert "second:" not in script.output


def test_one_that_is_broken_does_not_keep_the_others_from_being_served(machine: Machine) -> None:
    machine.write("shop.yaml", CONFIG.replace("shop:app", "late:app"))
    script = run(machine, "shop.yaml", "--reload")
    script.wait_for_line("application 'first': nothing is served yet; waiting for a change")
    script.wait_for_line("'second' is running")
    assert answer(script, "/base/second") == "hi code -"
    machine.write("late.py", SHOP)
    script.wait_for_line("'first' is running")
    assert answer(script, "/base/first") == "hello file here"


def test_many_applications_and_a_build_that_prints(machine: Machine) -> None:
    count = 9
    machine.write("shop.py", SHOP + "print('imported')\n")
    rows = [f"- {{name: a{n}, route_prefix: /a{n}, import_path: 'shop:app'}}\n" for n in range(count)]
    machine.write("many.yaml", "applications:\n" + "".join(rows))
    script = machine.start([str(EXECUTABLE), "run", "many.yaml"])
    for _ in range(count):
        script.wait_for_line("is running")
    assert {answer(script, f"/a{n}") for n in range(count)} == {"hello code -"}
    assert script.output.count("imported") >= count


@pytest.mark.parametrize("kind", ["directory", "fifo", "empty", "missing"])
def test_what_is_no_file(machine: Machine, kind: str) -> None:
    path: Path = machine.work / "it.yaml"
    words = {"directory": "directory", "fifo": "regular", "empty": "empty", "missing": "No such file"}[kind]
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "empty":
        path.write_text("")
    ended = machine.cli("run", "it.yaml")
    assert ended.returncode != 0
    assert words in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not machine.nodes()


def test_on_a_resident_node_its_applications_end_with_it(machine: Machine) -> None:
    address = machine.start_resident()
    other = machine.serve(SHOP, run='serve.run(app, name="other", route_prefix="/other")')
    script = serving(machine)
    assert request("GET", address + "/second").text.startswith("hi code")
    assert script.interrupt() == 0, script.output
    assert request("GET", address + "/second").status == 404
    assert request("GET", address + "/other").text.startswith("hello code")
    other.end()


def test_on_a_resident_node_nothing_is_left_when_one_of_them_fails(machine: Machine) -> None:
    address = machine.start_resident()
    machine.write("shop.yaml", CONFIG.replace("word: file", "wrod: file"))
    machine.write("shop.py", SHOP)
    ended = machine.cli("run", "shop.yaml")
    assert ended.returncode == 1
    assert "application 'second' is running" in ended.stderr
    assert "application 'first' failed to deploy" in ended.stderr
    assert request("GET", address + "/second").status == 404


def test_a_prefix_that_another_application_has_is_said_and_nothing_is_deployed(machine: Machine) -> None:
    address = machine.start_resident()
    other = machine.serve(SHOP, run='serve.run(app, name="other", route_prefix="/second")')
    machine.write("shop.yaml", CONFIG)
    machine.write("shop.py", SHOP)
    ended = machine.cli("run", "shop.yaml")
    assert ended.returncode == 1
    assert "route_prefix '/second' of 'second' is used by application 'other'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert request("GET", address + "/first").status == 404
    other.end()


def test_threads_of_a_module_do_not_keep_its_load(machine: Machine) -> None:
    lasting = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
    machine.write("lasting.py", lasting + SHOP)
    machine.write("lasting.yaml", "applications: [{name: one, import_path: 'lasting:app'}]\n")
    script = machine.start([str(EXECUTABLE), "run", "lasting.yaml"])
    script.wait_for_line("is running")
    eventually(lambda: not machine.pids(r".*eagleray\._driver\.loading"), "the load has ended", 15)
    assert threading.active_count() < 50
