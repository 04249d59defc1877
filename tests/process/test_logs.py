"""What the Python side logs: under whose name, what is never silent, and a line for each call through a handle."""

import json
import os
import re
import subprocess
import sys
import threading

import pytest

from machine import PATIENCE, Machine, eventually

NAMES = """
import logging
from eagleray import serve

ours, known = logging.getLogger("eagleray.serve"), logging.getLogger("ray.serve")

@serve.deployment(logging_config={"log_level": "WARNING"})
class Talks:
    def talk(self, where):
        for log in (ours, known, logging.getLogger("ray.serve.mine")):
            log.info("silent in %s", where)
            log.warning("%s warns in %s", log.name, where)

    def debug(self):
        known.setLevel(logging.DEBUG)
        known.debug("now all of it")

known.info("said by the driver")
app = Talks.bind()
"""


@pytest.mark.contract("1/logger-name")
def test_the_name_that_programs_for_ray_serve_log_to_is_ours(machine: Machine) -> None:
    script = machine.serve(NAMES)
    assert re.search(r"^INFO .* ray\.serve said by the driver$", script.output, re.MULTILINE)
    script.do("handle.talk.remote('the replica').result()")
    warned = r" default/Talks \w+ \w+ [\w-]+ -- ([\w.]+) warns in the replica(?=\n|$)"
    names = ["eagleray.serve", "ray.serve", "ray.serve.mine"]
    for output in (lambda: script.output, lambda: machine.logs("replica*.log")):
        eventually(lambda output=output: re.findall(warned, output()) == names, "all three are seen")
    assert "silent" not in script.output + machine.logs("replica*.log")
    script.do("handle.debug.remote().result()")
    eventually(lambda: re.search("DEBUG .* -- now all of it", script.output), "its own level holds")

    script.do("serve.run(Talks.bind(), name='here', local_testing_mode=True).talk.remote('this process').result()")
    assert re.search(r"WARNING .* ray\.serve ray\.serve warns in this process$", script.output, re.MULTILINE)


def test_handlers_of_others_on_that_name_are_left_alone() -> None:
    program = """
import logging, sys
log = logging.getLogger("ray.serve")
log.addHandler(logging.StreamHandler(sys.stdout))
log.propagate = False
from eagleray import serve
log.warning("once")
print(log.parent.name, logging.getLogger("ray").parent.name)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert (run.stdout, run.stderr) == ("once\nray root\n", "")


SILENCED = """
import logging, logging.config
from fastapi import FastAPI, WebSocket
from eagleray import serve

HANDLERS = {"console": {"class": "logging.StreamHandler"}}
WAYS = {
    "dictConfig": lambda: logging.config.dictConfig(
        {"version": 1, "handlers": HANDLERS, "root": {"handlers": ["console"], "level": "INFO"}}
    ),
    "disable": lambda: logging.disable(logging.CRITICAL),
}
api = FastAPI()

class Fails:
    def __init__(self, how):
        WAYS[how]()

    def call(self, what):
        raise ValueError(f"of call {what}")

    async def __del__(self):
        raise ValueError("of the end")

@serve.deployment
class Plain(Fails):
    def __call__(self, request):
        raise ValueError("of plain")

@serve.deployment
@serve.ingress(api)
class Views(Fails):
    @api.get("/")
    async def view(self):
        raise ValueError("of view")

    @api.websocket("/socket")
    async def socket(self, socket: WebSocket):
        await socket.accept()
        raise ValueError("of socket")
"""


@pytest.mark.contract("10.4/silenced", better="`dictConfig` and `logging.disable` do not hide it")
@pytest.mark.parametrize("how", ["dictConfig", "disable"])
def test_what_fails_is_logged_after_user_code_has_silenced_all_loggers(machine: Machine, how: str) -> None:
    script = machine.serve(
        f"{SILENCED}\nHOW = {how!r}",
        run='serve.run(Plain.bind(HOW))\nserve.run(Views.bind(HOW), name="views", route_prefix="/views")',
    )
    assert script.get("/").status == 500
    assert script.get("/views/").status == 500
    for name in ("handle", "serve.get_app_handle('default')"):
        assert script.ask(f"{name}.call.remote(1).result()")["error"] == "ValueError"
    script.do("serve.delete('default')")
    wanted = ["of plain", "of view", "of call 1", "of the end"]
    eventually(
        lambda: all(f"ValueError: {text}" in machine.logs("replica*.log") for text in wanted), "all are in the log"
    )
    assert "in view" in machine.logs("replica*.log")
    assert all(f"ValueError: {text}" in script.output for text in wanted)


CALLS = """
import asyncio, functools, logging
from eagleray import serve

class Worker:
    def sync(self):
        return 1

    async def on_loop(self):
        return 1

    def items(self):
        yield from range(3)

    async def items_on_loop(self):
        for number in range(3):
            yield number

    def wrapped(self):
        return self.on_loop()

    def fails(self):
        raise ValueError("of the method")

    async def waits(self):
        await asyncio.Event().wait()

    def quiet(self):
        class Filter(logging.Filter):
            def filter(self, record):
                return not getattr(record, "serve_access_log", False)
        logging.getLogger("ray.serve").addFilter(Filter())

Worker = serve.deployment(Worker)

def stream(name):
    return list(handle.options(method_name=name, stream=True).remote())

def cancel():
    response = handle.waits.remote()
    try:
        response.result(timeout_s=0.2)
    except TimeoutError:
        response.cancel()

app = Worker.bind()
"""


def calls(machine: Machine) -> list[str]:
    return re.findall(r"CALL (.+) [\d.]+ms", machine.logs("replica*.log"))


@pytest.mark.contract("10.4/call-lines", better="in the log, not on the terminal")
def test_each_call_through_a_handle_leaves_a_line_in_the_log_and_none_on_the_terminal(machine: Machine) -> None:
    script = machine.serve(CALLS)
    for name in ("sync", "on_loop", "wrapped"):
        assert script.do(f"handle.{name}.remote().result()") == 1
    for name in ("items", "items_on_loop"):
        assert script.do(f"stream({name!r})") == [0, 1, 2]
    assert script.ask("handle.fails.remote().result()")["error"] == "ValueError"
    assert "error" in script.ask("handle.missing.remote().result()")
    script.do("cancel()")
    wanted = ["sync OK", "on_loop OK", "wrapped OK", "items OK", "items_on_loop OK", "fails ERROR", "missing ERROR"]
    eventually(lambda: sorted(calls(machine)) == sorted([*wanted, "waits CANCELLED"]), "every call has its line")
    line = re.search(r"^.*CALL sync OK.*$", machine.logs("replica*.log"), re.MULTILINE)
    assert line is not None
    date, replica, request = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", r"default/Worker \w+ \w{8}", "[0-9a-f-]{36}"
    assert re.fullmatch(rf"INFO {date} {replica} {request} -- CALL sync OK \d+\.\dms", line.group())
    assert "CALL" not in script.output

    # The last ones of a replica that stops are there too; those of one that was told to have none are not.
    script.do("handle.sync.remote().result()")
    script.do("serve.run(Worker.options(logging_config={'enable_access_log': False}).bind()) and None")
    eventually(lambda: calls(machine).count("sync OK") == 2, "the last line is written")
    script.do("handle.sync.remote().result()")
    script.do("serve.run(Worker.options(logging_config={'encoding': 'JSON'}).bind()) and None")
    script.do("handle.on_loop.remote().result()")
    eventually(lambda: calls(machine).count("on_loop OK") == 2, "the line in JSON is written")
    assert calls(machine).count("sync OK") == 2
    told = [json.loads(line) for line in machine.logs("replica*.log").splitlines() if line.startswith("{")]
    (line,) = (line for line in told if "CALL on_loop" in line["message"])
    assert (line["levelname"], line["deployment"], line["application"]) == ("INFO", "Worker", "default")
    assert re.fullmatch(request, line["request_id"])
    script.do("handle.quiet.remote().result()")
    script.do("handle.sync.remote().result()")
    script.do("serve.delete('default')")
    assert calls(machine).count("sync OK") == 2


def test_lines_of_calls_wait_for_nobody_and_those_lost_are_counted() -> None:
    program = """
import asyncio, os
from eagleray._user_code import log
from eagleray._user_code.call_lines import ERROR, OK, CallLines, clock

class Request:
    request_id = "the-id"

log.configure(log.Component("app", "Deployment", "id"), "")
lines = CallLines(asyncio.new_event_loop())
for number in range(9000):
    lines.note(Request(), "method", OK, clock())
lines.note(Request(), "no\\nmethod" + "x" * 9000, ERROR, clock())
lines.write()
print("written", flush=True)
input()
lines.note(Request(), "last", OK, clock())
lines.write()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"EAGLERAY_REPLICA": "id"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        killer = threading.Timer(PATIENCE, process.kill)
        killer.start()
        # The pipe takes 64 KiB, and nobody has read it so far.
        assert process.stdout.readline() == b"written\n"
        process.stderr.peek(1)
        process.stdin.write(b"\n")
        process.stdin.flush()
        output = process.stderr.read().decode()
        killer.cancel()
    lines = output.removesuffix("\n").split("\n")
    assert all(line.startswith("\x1e") for line in lines)
    lost = sum(map(int, re.findall(r"\((\d+) lines of calls lost", output)))
    assert output.count("CALL method OK") + lost == 9001
    assert "CALL last OK" in output
