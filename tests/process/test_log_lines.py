"""What each line of a replica's log says of itself, however user code wrote it."""

import itertools
import json
import os
import re
import signal
from typing import Any

import pytest

from machine import Machine, eventually

SPEAKS = """
import logging, os, sys, threading, warnings
from eagleray import serve

@serve.deployment
class Speaks:
    def __init__(self):
        print("while it is made")

    def printed(self):
        print("printed")

    def lines(self):
        print("first\\n  second", end="\\n\\n")

    def stderr(self):
        print("WARNING: to stderr", file=sys.stderr)

    def native(self):
        os.write(1, b"past Python\\n")

    def child(self):
        os.system("echo by a child")

    def other(self):
        logging.getLogger("mine.and.only").warning("of %s logger", "another")

    def known(self):
        logging.getLogger("ray.serve").error("of the known logger", extra={"ray_serve_extra_fields": {"user": 7}})

    def warned(self):
        warnings.warn("old ways")

    def thread(self):
        def fails():
            raise ValueError("of the thread")
        thread = threading.Thread(target=fails, name="worker")
        thread.start()
        thread.join()

    def handler(self):
        logging.basicConfig(format="MINE %(message)s", level=logging.INFO, force=True)
        logging.getLogger("mine").info("by a handler of its own")

    def split(self):
        print("a", end="")
        logging.getLogger("ray.serve").warning("between")
        sys.stderr.write("half")
        logging.getLogger("ray.serve").warning("amid")
        print("b")

app = Speaks.bind()
"""
WAYS = {
    "printed": ("INFO", "stdout", "printed"),
    "lines": ("INFO", "stdout", "first\n  second\n"),
    "stderr": ("WARNING", "stderr", "WARNING: to stderr"),
    "other": ("WARNING", "", "of another logger"),
    "known": ("ERROR", "", "of the known logger"),
    "handler": ("INFO", "stderr", "MINE by a handler of its own"),
}


def records(machine: Machine) -> list[re.Match[str]]:
    head = (
        r"^([A-Z]+) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} default/Speaks (\w+) (\w{8})((?: [^ =]+)?)((?: \w+=\S+)*) -- "
    )
    text = machine.logs("replica_*.log")
    begins = [found.start() for found in re.finditer(head, text, re.MULTILINE)]
    pieces = [text[begin : end - 1] for begin, end in itertools.pairwise([*begins, len(text)])]
    whole = [re.match(head + r"((?s:.*))\Z", piece) for piece in pieces]
    return [found for found in whole if found is not None]


@pytest.mark.contract(
    "10.4/identity", better="with the revision; what is printed, warned and raised in a thread says it too"
)
def test_every_line_says_level_replica_revision_and_request(machine: Machine) -> None:
    script = machine.serve(SPEAKS)
    for method in (*WAYS, "warned", "thread", "native", "child"):
        script.do(f"handle.{method}.remote().result()")

    def said() -> dict[str, tuple[str, str, str]]:
        return {found[6]: (found[1], found[5].removeprefix(" source="), found[4].strip()) for found in records(machine)}

    eventually(lambda: "CALL child" in machine.logs("replica_*.log"), "the last line is written")
    found = said()
    for level, source, message in WAYS.values():
        assert message in found, (message, found)
        assert found[message][:2] == (level, source), message
        assert re.fullmatch("[0-9a-f-]{36}", found[message][2]), (message, "in a request")
    for message in ("while it is made", "past Python", "by a child"):
        assert found[message] == ("INFO", "stdout", ""), (message, "of no request that anybody knows")
    (warning,) = (message for message in found if "UserWarning: old ways" in message)
    assert found[warning][0] == "WARNING"
    (raised,) = (message for message in found if message.endswith("ValueError: of the thread"))
    assert raised.startswith("thread worker ended by an exception\nTraceback (most recent call last):\n")
    assert found[raised][0] == "ERROR"
    # Each line is of the one replica and the one revision, and what is shown to the driver has no head twice.
    assert len({(found[2], found[3]) for found in records(machine)}) == 1
    assert re.search(r"^\(Speaks \w+\) printed$", script.output, re.MULTILINE)
    assert "\x1f" not in script.output + machine.logs("replica_*.log")
    assert "\x1d" not in script.output + machine.logs("replica_*.log")


def test_a_record_never_stands_within_another_line(machine: Machine) -> None:
    script = machine.serve(SPEAKS)
    script.do("handle.split.remote().result()")
    eventually(lambda: "CALL split" in machine.logs("replica_*.log"), "the last line is written")
    messages = [found[6] for found in records(machine)]
    assert [message for message in messages if message in ("ab", "between", "half", "amid")].count("ab") == 1
    assert {"between", "half", "amid"} <= set(messages)


@pytest.mark.contract("10.4/json-of-replicas", better="`revision` and `trace_id` too, and what is printed is JSON")
def test_in_json_every_line_is_an_object_with_trace_and_revision(machine: Machine) -> None:
    text = (
        SPEAKS.replace("@serve.deployment", '@serve.deployment(logging_config={"encoding": "JSON"})')
        + """
@serve.deployment(logging_config={"encoding": "JSON", "additional_log_standard_attrs": ["lineno"]})
class Front:
    def __init__(self, speaks):
        self.speaks = speaks

    async def __call__(self, request):
        logging.getLogger("eagleray.serve").info("asked")
        await self.speaks.known.remote()
        await self.speaks.lines.remote()
        await self.speaks.native.remote()

app = Front.bind(app)
"""
    )
    script = machine.serve(text)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    traceparent = f"00-{trace}-00f067aa0ba902b7-01"
    assert script.get("/", headers={"x-request-id": "id=1", "traceparent": traceparent}).status == 200
    eventually(lambda: "CALL native" in machine.logs("replica_*.log"), "the last line is written")
    lines: list[dict[str, Any]] = [json.loads(line) for line in machine.logs("replica_*.log").splitlines() if line]

    def line(message: str) -> dict[str, Any]:
        (found,) = (line for line in lines if line["message"] == message)
        return found

    for message, deployment in (("asked", "Front"), ("of the known logger", "Speaks")):
        said = line(message)
        assert (said["application"], said["deployment"]) == ("default", deployment)
        assert (said["request_id"], said["trace_id"], said["route"]) == ("id=1", trace, "/")
        assert said["component_name"] == "replica"
        assert said["component_id"] == said["replica"]
        assert re.fullmatch(r"\w{8}", said["revision"])
    assert isinstance(line("asked")["lineno"], int)
    assert line("of the known logger")["user"] == 7
    assert (line("  second")["request_id"], line("  second")["source"]) == ("id=1", "stdout")
    assert "request_id" not in line("past Python")


PRINTS = """
from eagleray import serve

@serve.deployment
class Prints:
    def __call__(self, request):
        for number in range(50_000):
            print(number, 200 * "x")
        return "printed"

app = Prints.bind()
"""


def test_a_terminal_that_stands_still_holds_nobody_and_learns_what_it_missed(machine: Machine) -> None:
    script = machine.serve(PRINTS)
    os.kill(script.pid, signal.SIGSTOP)
    try:
        assert script.get("/").text == "printed"
        eventually(lambda: " -- 49999 x" in machine.logs("replica_*.log"), "the log has the last line")
    finally:
        os.kill(script.pid, signal.SIGCONT)
    script.get("/")
    told = eventually(lambda: re.findall(r"\.\.\. (\d+) lines lost", script.output), "it is told of lost lines")
    assert int(told[0]) > 0
    log = machine.logs("replica_*.log")
    lost = sum(map(int, re.findall(r"^\.\.\. (\d+) lines lost", log, re.MULTILINE)))
    eventually(lambda: machine.logs("replica_*.log").count(" -- 49999 x") == 2, "the log has it twice")
    assert (
        len(re.findall(r"source=stdout -- \d+ x{200}$", machine.logs("replica_*.log"), re.MULTILINE)) + lost >= 100_000
    )
