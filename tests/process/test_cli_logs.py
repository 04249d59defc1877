"""`eagleray logs` and `events`: what was written and what has happened, found and followed."""

import json
import os
import signal

from machine import EXECUTABLE, Machine, eventually, request

TALKS = """
import logging

from eagleray import serve

log = logging.getLogger("shop")


@serve.deployment
class Talks:
    async def __call__(self, request):
        word = request.query_params.get("word", "nothing")
        print("printed", word)
        log.warning("slow %s", word)
        return word


app = Talks.bind()
"""


def start(machine: Machine) -> str:
    address = machine.start_resident()
    machine.serve(TALKS, run='serve.run(app, name="shop")').end()
    return address


def test_what_was_written_is_found_by_text_level_and_request(machine: Machine) -> None:
    address = start(machine)
    one = request("GET", address + "/?word=apple", headers={"x-request-id": "request-of-apple"})
    assert one.text == "apple"
    request("GET", address + "/?word=pear", headers={"x-request-id": "request-of-pear"})
    eventually(lambda: "slow pear" in machine.cli("logs", "shop").stdout, "it is written")
    slow = machine.cli("logs", "shop", "--level", "warning", "--grep", "slow apple").stdout.splitlines()
    assert len(slow) == 1
    assert " WARN  shop/Talks " in slow[0]
    assert slow[0].endswith("  slow apple")
    of_request = machine.cli("logs", "--request", "request-of-apple").stdout
    assert "slow apple" in of_request
    assert "pear" not in of_request
    as_json = [json.loads(line) for line in machine.cli("logs", "shop/Talks", "--json").stdout.splitlines()]
    assert {"printed apple", "slow pear"} <= {entry["message"].strip() for entry in as_json}
    assert len(machine.cli("logs", "shop", "-n", "1").stdout.splitlines()) == 1
    assert machine.cli("logs", "shop", "--since", "nonsense").returncode == 5


def test_logs_are_followed_over_a_restart_of_the_controller(machine: Machine) -> None:
    address = start(machine)
    follow = machine.start([str(EXECUTABLE), "logs", "shop", "-f"])
    request("GET", address + "/?word=before")
    follow.wait_for_line("slow before")
    os.kill(machine.one("eagleray: controller$"), signal.SIGKILL)
    request("GET", address + "/?word=after")
    follow.wait_for_line("slow after")
    assert follow.output.count("slow before") == 1, "nothing is shown twice"
    follow.process.send_signal(signal.SIGINT)
    assert follow.wait() == 130


def test_events_say_what_has_happened_and_go_on(machine: Machine) -> None:
    machine.start_resident()
    follow = machine.start([str(EXECUTABLE), "events", "-f"])
    machine.serve(TALKS, run='serve.run(app, name="shop")').end()
    follow.wait_for_line(r"\d\d:\d\d:\d\d deploy +shop  r1 is running")
    follow.process.send_signal(signal.SIGINT)
    assert follow.wait() == 130
    events = [json.loads(line) for line in machine.cli("events", "--json").stdout.splitlines()]
    numbers = [event["number"] for event in events]
    assert numbers == sorted(numbers)
    assert {"deploy", "replica"} <= {event["kind"] for event in events}
    assert machine.cli("events", "nope").stdout == ""
