"""Replicas that stand still: gone around after a second, shown with their stack, ended after `hang_timeout_s`.

A loop that is blocked for a while still answers in the end (design: 45 s; here 3 s, by the same path).
"""

import os
import signal
import threading
from collections.abc import Callable

import pytest
from record import record

from machine import Answer, Load, Machine, Script, eventually

APP = """
import ctypes, os, time
from eagleray import serve

def stand_here(how):
    if how == "sleep":
        time.sleep(1e9)
    elif how == "lock":
        ctypes.PyDLL(None).sleep(1_000_000_000)
    elif how == "spin":
        while True:
            pass
    else:
        time.sleep(float(how))

@serve.deployment(num_replicas={replicas}, max_ongoing_requests=20, hang_timeout_s={timeout})
class App:
    async def __call__(self, request):
        if how := request.query_params.get("stand"):
            stand_here(how)
        # No await: beside the one that stands there is none that has started.
        return str(os.getpid())

app = App.bind()
"""


def app(replicas: int, timeout: float | None) -> str:
    return APP.format(replicas=replicas, timeout=timeout)


class Later:
    """A request on a thread of its own."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self.answers: list[Answer] = []
        self._thread = threading.Thread(target=lambda: self.answers.append(ask()), daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        return bool(self.answers)

    def answer(self) -> Answer:
        self._thread.join(60)
        return self.answers[0]


def message(script: Script) -> str:
    return str(script.do('serve.status().applications["default"].deployments["App"].message'))


def test_a_loop_that_is_blocked_for_long_still_answers_and_is_shown_meanwhile(machine: Machine) -> None:
    script = machine.serve(app(1, 300))
    blocked = Later(lambda: script.get("/?stand=3"))
    shown = eventually(lambda: message(script) if "has not turned for" in message(script) else "", "it is shown")
    assert "stand_here" in shown, shown
    assert "app.py" in shown, shown
    assert "has not turned for" in machine.cli("status").stdout, "and the command line shows it"
    behind = Later(lambda: script.get("/"))
    assert blocked.answer().status == 200
    assert behind.answer().status == 200, "with no other replica requests go there and wait"
    eventually(lambda: message(script) == "", "it is not shown any more")
    record(12, "the only replica blocks its loop for 3 s", {"requests": 2, "failed": 0, "shown with stack": "yes"})


@pytest.mark.contract(
    "4.2/no-check_health",
    better="a loop that does not turn is noticed after 1 s, with its stack, and ended after hang_timeout_s",
)
@pytest.mark.parametrize("how", ["sleep", "lock", "spin"])
def test_a_loop_blocked_for_ever_is_gone_around_then_ended_and_replaced(machine: Machine, how: str) -> None:
    script = machine.serve(app(2, 2))
    before = machine.replicas("default/App")
    with Load(script.address, threads=8, method="POST") as load:
        load.wait_for_more(50)
        hung = Later(lambda: script.post(f"/?stand={how}"))
        shown = eventually(lambda: message(script) if "stand_here" in message(script) else "", "it is shown")
        assert "hang_timeout_s" in shown
        load.wait_for_more(50)
        assert not hung.over or not before - machine.replicas("default/App"), "requests went on before it was killed"
        after = eventually(
            lambda: found if len(found := machine.replicas("default/App")) == 2 and found != before else set(),
            "it is killed and replaced",
        )
        load.wait_for_more(50)
    assert len(before & after) == 1, "the other is not touched"
    assert hung.answer().status == 502, "it had started and may not be repeated"
    assert set(load.outcomes) == {"200"}, f"what had not started moved: {load.outcomes}"
    assert "so it was ended: hang_timeout_s" in machine.logs("controller*.log")
    record(
        12,
        f"loop blocked for ever ({how}), 2 replicas under load",
        {"requests": load.count() + 1, "failed": 0, "marked 502": 1, "killed": 1},
    )


def test_a_new_controller_hears_of_what_hangs_and_ends_it(machine: Machine) -> None:
    script = machine.serve(app(2, 6))
    before = machine.replicas("default/App")
    controller = machine.one("eagleray: controller$")
    with Load(script.address, threads=4, method="POST") as load:
        hung = Later(lambda: script.post("/?stand=sleep"))
        eventually(lambda: "stand_here" in message(script), "it is shown")
        os.kill(controller, signal.SIGKILL)
        eventually(lambda: machine.pids("eagleray: controller$") - {controller}, "a new controller runs")
        eventually(lambda: "stand_here" in message(script), "it is shown again")
        eventually(lambda: hung.over, "it is ended")
        eventually(lambda: len(machine.replicas("default/App")) == 2, "and replaced")
        load.wait_for_more(50)
    assert len(before & machine.replicas("default/App")) == 1
    assert set(load.outcomes) == {"200"}, load.outcomes
    record(
        12,
        "loop blocked for ever, and the controller killed",
        {"requests": load.count() + 1, "failed": 0, "marked 502": 1},
    )


def test_a_sync_method_may_take_its_time(machine: Machine) -> None:
    script = machine.serve(
        """
        import os, time
        from eagleray import serve

        @serve.deployment(hang_timeout_s=1, max_ongoing_requests=2)
        class App:
            def __init__(self):
                time.sleep(2.5)

            def reconfigure(self, config):
                time.sleep(config)

            def __call__(self, request):
                time.sleep(float(request.query_params.get("s", 0)))
                return str(os.getpid())

        app = App.options(user_config=2.5).bind()
        """
    )
    pid = script.get("/").text
    slow = Later(lambda: script.get("/?s=4"))
    changed = script.do("serve.run(App.options(user_config=3.0).bind()) and 1")
    assert changed == 1
    assert slow.answer().text == pid, "neither the method nor constructor and reconfigure count"
    assert script.get("/").text == pid
    assert "has not turned" not in machine.logs("controller*.log")
    record(12, "sync method, constructor and reconfigure of 2.5 to 4 s, limit 1 s", {"failed": 0, "killed": 0})


def test_a_stopped_replica_is_gone_around_and_comes_back(machine: Machine) -> None:
    ledger = machine.work / "ledger"
    script = machine.serve(
        f"""
        import asyncio, os
        from eagleray import serve

        @serve.deployment(num_replicas=2, max_ongoing_requests=100)
        class App:
            def __init__(self):
                self.ledger = os.open({str(ledger)!r}, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

            async def __call__(self, request):
                os.write(self.ledger, b"one\\n")
                await asyncio.sleep(0.02)
                return str(os.getpid())

        app = App.bind()
        """
    )
    victims = sorted(machine.replicas("default/App"))
    asked = 0

    def used_again(victim: int) -> bool:
        nonlocal asked
        asked += 1
        return script.get("/").text == str(victim)

    with Load(script.address, threads=16, method="POST") as load:
        load.wait_for_more(100)
        for victim in victims:
            os.kill(victim, signal.SIGSTOP)
            try:
                # More than all threads can have had there.
                load.wait_for_more(200)
            finally:
                os.kill(victim, signal.SIGCONT)
            eventually(lambda victim=victim: used_again(victim), "it is used again")
        load.wait_for_more(100)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert sorted(machine.replicas("default/App")) == victims, "none was restarted"
    ran = len(ledger.read_text().split())
    assert ran == load.count() + asked, "each ran once"
    record(
        9,
        "each of 2 replicas stopped (SIGSTOP) and continued under load",
        {"requests": load.count(), "failed": 0, "ran twice": 0},
    )
