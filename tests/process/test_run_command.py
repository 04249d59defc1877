"""`eagleray run MODULE:NAME`: what it serves, what it says when it cannot, and how it ends."""

import json
import os
import signal
import socket
import sys
import threading

import pytest

from machine import EXECUTABLE, Machine, Script, eventually, request

HELLO = """
from eagleray import serve

@serve.deployment
class Hello:
    def __init__(self, word="hello"):
        self.word = word

    async def __call__(self, request):
        return self.word

app = Hello.bind()
"""
BUILDERS = (
    HELLO
    + """
import pydantic

class Arguments(pydantic.BaseModel):
    word: str = "typed"
    times: int

def plain(arguments: dict):
    return Hello.bind(" ".join(f"{key}={value!r}" for key, value in arguments.items()))

def typed(arguments: Arguments):
    return Hello.bind(arguments.word * arguments.times)

def broken(arguments: dict):
    return Hello.bind(1 / 0)

class Bag:
    pass
"""
)


def run(machine: Machine, *arguments: str, **options: dict[str, str]) -> Script:
    return machine.start([str(EXECUTABLE), "run", *arguments], **options)


def serving(machine: Machine, *arguments: str, **options: dict[str, str]) -> Script:
    script = run(machine, *arguments, **options)
    script.wait_for_line("is running")
    return script


@pytest.mark.contract("6/run")
def test_it_serves_until_ctrl_c_and_leaves_nothing(machine: Machine) -> None:
    machine.write("hello.py", HELLO)
    script = serving(machine, "hello:app", "--route-prefix", "/greet", "--name", "greeter")
    assert script.get("/greet").text == "hello"
    machine.one(r"eagleray: replica greeter/Hello ")
    assert script.interrupt() == 0, script.output
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")
    assert "Traceback" not in script.output


@pytest.mark.contract("6/run")
@pytest.mark.parametrize("form", ["package.inner:app", "package.inner.app"])
def test_both_forms_of_an_import_path_and_another_directory(machine: Machine, form: str) -> None:
    machine.write("elsewhere/package/__init__.py", "")
    machine.write("elsewhere/package/inner.py", HELLO)
    script = serving(machine, form, "--app-dir", "elsewhere")
    assert script.get("/").text == "hello"


@pytest.mark.contract("6/run-arguments")
@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["builders:plain", "a=1", "b=x=y", "c=d e"], "a='1' b='x=y' c='d e'"),
        (["builders:plain"], ""),
        (["builders:typed", "times=3", "word=ab"], "ababab"),
    ],
)
def test_a_builder_gets_the_arguments(machine: Machine, arguments: list[str], answer: str) -> None:
    machine.write("builders.py", BUILDERS)
    assert serving(machine, *arguments).get("/").text == answer


@pytest.mark.contract("G/6")
@pytest.mark.contract(
    "6/run-fails", better="the exit status says that it failed, and nothing of ours is in the traceback"
)
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["missing:app"], 1, "there is no module 'missing' in"),
        (["broken_import:app"], 1, "module 'broken_import' cannot be imported, for the reason above"),
        (["syntax:app"], 1, "module 'syntax' cannot be imported, for the reason above"),
        (["builders:nothing"], 1, "module 'builders' has no 'nothing'; it has the application app"),
        (["builders:Hello"], 1, "builders:Hello is a deployment, not an application: name the result of Hello.bind()"),
        (["builders:Bag"], 1, "must be an application, or a function with one parameter"),
        (["builders:typed", "times=x"], 1, "times\n  Input should be a valid integer"),
        (["builders:broken"], 1, "the application builder builders:broken failed, for the reason above"),
        (["builders:app", "a=1"], 1, "is bound already, so it takes no arguments; got a"),
        (["builders:plain", "a"], 2, "arguments of the application are KEY=VALUE, got 'a'"),
        (["builders:app", "--route-prefix", "x"], 1, "route_prefix must begin with '/'"),
        (["builders:app", "--http-limit", "header_byte=9000"], 1, "'header_bytes'"),
        (["builders"], 2, "MODULE:NAME, such as app:app"),
        (["a:b:c"], 2, "MODULE:NAME, such as app:app"),
        (["builders.py"], 2, "builders.py is a file; name the application in it by its module, as builders:NAME"),
        (["config.yaml"], 1, "config.yaml has no application to serve"),
        (["builders:app", "--app-dir", "nowhere"], 2, "'nowhere' is no directory"),
        (["builders:app", "--nonsense"], 2, "--nonsense"),
        ([], 2, "MODULE:NAME"),
    ],
)
@pytest.mark.contract("6/usage")
def test_what_is_wrong_is_said_in_words(machine: Machine, arguments: list[str], status: int, words: str) -> None:
    machine.write("builders.py", BUILDERS)
    machine.write("broken_import.py", "import json\nimport nowhere_at_all\n")
    machine.write("syntax.py", "def f(:\n")
    machine.write("config.yaml", "applications: []\n")
    ended = machine.cli("run", *arguments)
    assert ended.returncode == status, ended.stderr
    assert words in ended.stderr
    assert "_driver/" not in ended.stderr
    assert "importlib" not in ended.stderr
    assert not machine.nodes()


@pytest.mark.contract(
    "6/run-fails", better="the exit status says that it failed, and nothing of ours is in the traceback"
)
def test_a_constructor_that_fails_ends_it_with_the_users_line(machine: Machine) -> None:
    machine.write("failing.py", HELLO.replace("self.word = word", "self.word = {}[word]"))
    ended = machine.cli("run", "failing:app")
    assert ended.returncode == 1
    assert "KeyError: 'hello'" in ended.stderr
    assert 'failing.py", line 7' in ended.stderr
    assert "_driver/" not in ended.stderr
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")


def test_a_port_that_is_taken_is_named(machine: Machine) -> None:
    machine.write("hello.py", HELLO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = machine.cli("run", "hello:app", "--http-port", str(port))
    assert ended.returncode == 1
    assert str(port) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_sigterm_ends_it_in_order(machine: Machine) -> None:
    slow = HELLO.replace("return self.word", "await __import__('asyncio').sleep(1); return self.word")
    machine.write("hello.py", slow)
    script = serving(machine, "hello:app")
    answers: list[str] = []
    address = script.address
    asking = threading.Thread(target=lambda: answers.append(request("GET", address + "/").text))
    asking.start()
    eventually(lambda: script.counters["connections_accepted"], "the request is there")
    script.process.send_signal(signal.SIGTERM)
    assert script.wait() == 128 + signal.SIGTERM
    asking.join()
    assert answers == ["hello"], "the request that ran was answered"


def test_a_second_ctrl_c_does_not_wait(machine: Machine) -> None:
    machine.write("hello.py", HELLO.replace("return self.word", "await __import__('asyncio').sleep(15)"))
    script = serving(machine, "hello:app")
    with socket.create_connection(("127.0.0.1", int(script.address.rpartition(":")[2]))) as waiting:
        waiting.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        eventually(lambda: script.counters["connections_accepted"], "the request is there")
        script.process.send_signal(signal.SIGINT)
        script.wait_for_line("waiting for requests that run still")
        script.process.send_signal(signal.SIGINT)
        assert script.wait() == 130, script.output
    assert "Traceback" not in script.output


def test_ctrl_c_before_it_runs(machine: Machine) -> None:
    machine.write(
        "hello.py", HELLO.replace("self.word = word", "print('made', flush=True); import time; time.sleep(60)")
    )
    script = run(machine, "hello:app")
    script.wait_for_line("made")
    assert script.interrupt() == 130, script.output
    assert "Traceback" not in script.output


@pytest.mark.contract("6/run-joins", better="only the application of the command ends, not all that the node serves")
def test_on_a_resident_node_only_its_own_application_ends(machine: Machine) -> None:
    address = machine.start_resident()
    machine.write("hello.py", HELLO)
    other = machine.serve(HELLO, run='serve.run(app, name="other", route_prefix="/other")')
    script = serving(machine, "hello:app", "--name", "mine", "--route-prefix", "/mine")
    assert request("GET", address + "/mine").text == "hello"
    assert script.interrupt() == 0, script.output
    assert request("GET", address + "/mine").status == 404
    assert request("GET", address + "/other").text == "hello"
    other.end()


def test_a_node_that_dies_is_no_success(machine: Machine) -> None:
    machine.write("hello.py", HELLO)
    script = serving(machine, "hello:app")
    os.kill(machine.one("eagleray: node$"), signal.SIGKILL)
    assert script.wait() == 1
    assert "has ended; its log is in" in script.output
    assert "Traceback" not in script.output


def test_no_file_of_the_working_directory_is_a_module_of_ours(machine: Machine) -> None:
    for name in ("queue", "logging", "json", "hashlib", "cloudpickle", "starlette", "ast", "dis", "socket", "signal"):
        machine.write(f"{name}.py", "open('imported', 'a').write(__name__)\nraise SystemExit(__file__)\n")
    machine.write("missing_on_purpose/__init__.py", "")
    for environment in ({}, {"PYTHONPATH": ""}, {"PYTHONPATH": "."}, {"PYTHONPATH": f"{machine.work}:"}):
        ended = machine.cli("run", "nowhere:app", environment=environment)
        assert "there is no module 'nowhere'" in ended.stderr, ended.stderr
    assert not (machine.work / "imported").exists()


def test_the_module_sees_the_paths_of_a_script(machine: Machine) -> None:
    machine.write("one/first.py", "")
    machine.write("two/second.py", "")
    machine.write(
        "paths.py",
        f"""
        import json, os, sys
        print("SEEN", json.dumps([sys.path[:3], os.environ.get("PYTHONPATH"), list(sys.flags),
            sorted(name for name in os.environ if name.startswith("EAGLERAY_"))]))
        import first, second
        {HELLO.replace(chr(10), chr(10) + "        ")}
        """,
    )
    script = run(machine, "paths:app", environment={"PYTHONPATH": "one:two"})
    path, variable, flags, variables = json.loads(script.wait_for_line("^SEEN (.*)").group(1))
    assert path == [str(machine.work), str(machine.work / "one"), str(machine.work / "two")]
    assert variable == "one:two"
    plain = machine.start([sys.executable, "-c", "import sys; print('FLAGS', list(sys.flags))"])
    assert str(flags) == plain.wait_for_line("^FLAGS (.*)").group(1)
    assert "EAGLERAY_PYTHONPATH" not in variables
    assert "EAGLERAY_OPTIONS" not in variables


def test_http_options_of_the_command(machine: Machine) -> None:
    machine.write("hello.py", HELLO)
    options = ("--http-root-path", "/base", "--http-host", "127.0.0.1", "--http-allowed-host", "shop.test")
    script = serving(machine, "hello:app", *options)
    assert script.get("/base/", headers={"host": "shop.test"}).text == "hello"
    assert script.get("/base/").status == 421
    assert script.interrupt() == 0
    without = run(machine, "hello:app", "--no-http")
    without.wait_for_line("is running, without HTTP")
    assert {node["http_address"] for node in machine.nodes()} == {""}
