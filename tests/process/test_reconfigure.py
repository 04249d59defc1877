"""A changed `user_config`, and other options that change without a restart, while requests come."""

import os
import signal
import threading
from typing import Any

import pytest

from machine import Load, Machine, Script, eventually

# `reconfigure` blocks its event loop until a file is there, as loading weights does.
# "bad" fails, "die" ends the process.
APP = """
    import asyncio, os, time
    from pathlib import Path
    from eagleray import serve

    def note(text):
        with open("notes", "a") as file:
            file.write(f"{text}\\n")

    @serve.deployment(num_replicas=3, max_ongoing_requests=20, user_config="first")
    class Model:
        config = None

        async def reconfigure(self, config):
            if self.config is not None:
                note(f"{os.getpid()} {config}")
                while not Path(f"go-{config}").exists():
                    time.sleep(0.01)
            if config == "bad":
                raise ValueError("no such weights")
            if config == "die":
                os._exit(3)
            self.config = config

        async def __call__(self, request):
            if "slow" in request.query_params:
                Path(f"slow-{request.query_params['slow']}").touch()
                await asyncio.sleep(1)
            return {"config": self.config, "pid": os.getpid()}

    app = Model.bind()
"""


def notes(machine: Machine) -> list[list[str]]:
    path = machine.work / "notes"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def go(machine: Machine, config: str) -> None:
    (machine.work / f"go-{config}").touch()


class Redeploy:
    """`serve.run` in the script, whose answer is awaited by a thread."""

    def __init__(self, script: Script, options: str):
        self.answer: dict[str, Any] = {}
        expression = f"serve.run(Model.options({options}).bind()) and None"
        self._thread = threading.Thread(target=lambda: self.answer.update(script.ask(expression)), daemon=True)
        self._thread.start()

    def ends(self) -> dict[str, Any]:
        eventually(lambda: not self._thread.is_alive(), "serve.run returns")
        return self.answer


def configs(script: Script, count: int = 3) -> dict[int, str]:
    """What each replica has, by its process id."""
    found: dict[int, str] = {}

    def look() -> bool:
        answer = script.get("/").json()
        found[answer["pid"]] = answer["config"]
        return len(found) == count

    eventually(look, f"{count} replicas answer: {found}")
    return found


@pytest.mark.contract(
    "2/reconfigure-steps", "2/reconfigure-routing", "4.1/reconfigure-later",
    better="a changed user_config goes from replica to replica; routers prefer the others while it is taken",
)  # fmt: skip
def test_while_one_replica_takes_a_new_config_the_others_answer(machine: Machine) -> None:
    script = machine.serve(APP)
    before = machine.replicas("default/Model")
    with Load(script.address, threads=6) as load:
        load.wait_for_more(50)
        redeploy = Redeploy(script, 'user_config="second"')
        eventually(lambda: notes(machine), "one begins")
        load.wait_for_more(500)
        assert len(notes(machine)) == 1, "the others have not begun"
        go(machine, "second")
        assert "error" not in redeploy.ends()
        load.wait_for_more(50)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert configs(script) == dict.fromkeys(before, "second")
    assert sorted(int(pid) for pid, _ in notes(machine)) == sorted(before), "each once"


def test_what_a_replica_has_begun_ends_before_its_reconfigure(machine: Machine) -> None:
    script = machine.serve(APP)
    answers: list[int] = []
    count = 12

    def ask(number: int) -> None:
        answers.append(script.get(f"/?slow={number}").status)

    for number in range(count):
        threading.Thread(target=ask, args=(number,), daemon=True).start()
    eventually(lambda: len(list(machine.work.glob("slow-*"))) == count, "all have begun, on all replicas")
    redeploy = Redeploy(script, 'user_config="second"')
    eventually(lambda: len(answers) == count, "they are answered, though reconfigure does not return")
    eventually(lambda: notes(machine), "one begins")
    go(machine, "second")
    redeploy.ends()
    assert answers == [200] * count


def test_with_one_replica_requests_wait_for_its_reconfigure(machine: Machine) -> None:
    script = machine.serve(APP, run="serve.run(Model.options(num_replicas=1).bind())")
    redeploy = Redeploy(script, 'num_replicas=1, user_config="second"')
    eventually(lambda: notes(machine), "it begins")
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(script.get("/").json()["config"]), daemon=True)
    thread.start()
    go(machine, "second")
    redeploy.ends()
    eventually(lambda: answers, "the request is answered")
    assert answers == ["second"]


@pytest.mark.contract(
    "2/reconfigure-failed", "4.2/reconfigure",
    better="the change stops at the first replica that fails, which is replaced, and all keep the old user_config",
)  # fmt: skip
@pytest.mark.parametrize(("config", "cause"), [("bad", "no such weights"), ("die", "exit status 3")])
def test_a_config_that_one_replica_cannot_take_is_not_given_to_the_others(
    machine: Machine, config: str, cause: str
) -> None:
    script = machine.serve(APP)
    go(machine, config)
    with Load(script.address) as load:
        load.wait_for_more(50)
        answer = script.ask(f'serve.run(Model.options(user_config="{config}").bind())')
        assert answer["error"] == "RuntimeError"
        assert cause in answer["text"]
        assert "had before" in answer["text"]
        eventually(lambda: len(machine.replicas("default/Model")) == 3, "the one that failed is replaced")
        load.wait_for_more(50)
    allowed = {"200"} if config == "bad" else {"200", "502"}
    assert set(load.outcomes) <= allowed, load.outcomes
    assert len(notes(machine)) == 1
    assert set(configs(script).values()) == {"first"}
    status = script.do('serve.status().applications["default"].status')
    assert status == "DEPLOY_FAILED"
    go(machine, "second")
    script.do('serve.run(Model.options(user_config="second").bind()) and None')
    assert set(configs(script).values()) == {"second"}


def test_a_controller_that_dies_in_the_middle_is_followed_by_one_that_goes_on_in_turns(machine: Machine) -> None:
    script = machine.serve(APP)
    before = machine.replicas("default/Model")
    with Load(script.address) as load:
        Redeploy(script, 'user_config="second"')
        eventually(lambda: notes(machine), "one begins")
        old = machine.one("eagleray: controller$")
        os.kill(old, signal.SIGKILL)
        eventually(lambda: machine.pids("eagleray: controller$") - {old}, "another controller is there")
        load.wait_for_more(500)
        assert len(notes(machine)) == 1
        go(machine, "second")
        eventually(lambda: len(notes(machine)) == 3, "all take it")
        load.wait_for_more(50)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert configs(script) == dict.fromkeys(before, "second")
    assert sorted(int(pid) for pid, _ in notes(machine)) == sorted(before), "each once"


@pytest.mark.contract("2/light-options", "1.1/health_check_timeout_s")
def test_a_changed_time_of_health_checks_counts_for_the_replica_that_runs(machine: Machine) -> None:
    script = machine.serve("""
        import asyncio, os
        from pathlib import Path
        from eagleray import serve

        @serve.deployment(health_check_period_s=0.2, health_check_timeout_s=60)
        class Slow:
            async def check_health(self):
                if Path("slow").exists():
                    Path("checked").touch()
                    await asyncio.sleep(1)
                    Path("passed").touch()

            async def __call__(self, request):
                return str(os.getpid())

        app = Slow.options(health_check_timeout_s=0.5).bind()
    """)
    pid = script.get("/").text
    script.do("serve.run(Slow.bind()) and None")
    (machine.work / "slow").touch()
    passed = machine.work / "passed"
    for _ in range(4):
        eventually(passed.exists, "a check passes that takes longer than the old limit")
        passed.unlink()
    assert script.get("/").text == pid
    # And the other way: from now on the checks are too slow.
    script.do("serve.run(Slow.options(health_check_timeout_s=0.5).bind()) and None")
    eventually(lambda: script.get("/").text != pid, "the replica is replaced")
