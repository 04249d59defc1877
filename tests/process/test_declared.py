"""Applications that a config declares: built in a process of their own, deployed, and what becomes of them."""

import json
import os
import re
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eagleray import _core
from machine import Machine, eventually, request

SHOP = """
import helper
from eagleray import serve

@serve.deployment(max_ongoing_requests=9, ray_actor_options={"memory": 1000})
class Rank:
    def __init__(self, text):
        self.text = text
    async def __call__(self, request):
        import os
        return {"text": self.text, "helper": helper.NAME, "from_env": os.environ.get("COLOUR"), "pid": os.getpid()}

def builder(args):
    return Rank.bind(args.get("text", "none"))

app = Rank.bind("bound")
"""


class Declaring:
    """A resident node, and applies to it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.write("shop.py", SHOP)
        machine.write("helper.py", "NAME = 'one'\n")
        self.address = machine.start_resident()
        (socket,) = machine.runtime.glob("*/controller.sock")
        self.controller = _core.Client(str(socket))

    def apply(self, *applications: dict[str, Any], whole: bool = True, **options: Any) -> dict[str, Any]:
        declared = [
            {"name": one.get("name", "default"), "config": json.dumps({"import_path": "shop:app", **one})}
            for one in applications
        ]
        place = {"app_directory": str(self.machine.work), "python_path": [], "python": "", "environment": {}}
        return self.controller.apply({
            "applications": declared, "node_options": "", "place": place, "author": "a test", "message": "",
            "rebuild": False, "plan": "", "whole": whole, **options,
        })  # fmt: skip

    def status(self, name: str = "default") -> dict[str, Any]:
        return next((one for one in self.controller.status() if one["name"] == name), {})

    def settled(self, deploy: int, name: str = "default") -> dict[str, Any]:
        """The status once that deploy is over."""

        def over() -> bool:
            said = self.status(name).get("deploy", {})
            return said.get("deploy") == deploy and said["state"] in ("done", "failed", "rolled_back")

        eventually(over, f"deploy {deploy} is over: {self.status(name)}")
        return self.status(name)

    def deployed(self, *applications: dict[str, Any], **options: Any) -> dict[str, Any]:
        """The status of the first once it runs."""
        applied = self.apply(*applications, **options)
        name = applications[0].get("name", "default")
        status = self.settled(applied["deploy"], name)
        assert status["status"] == "RUNNING", status["message"]
        return status

    def failed(self, *applications: dict[str, Any], **options: Any) -> dict[str, Any]:
        applied = self.apply(*applications, **options)
        name = applications[0].get("name", "default")
        status = self.settled(applied["deploy"], name)
        assert status["status"] == "DEPLOY_FAILED", status
        return status

    def answer(self, path: str = "/") -> dict[str, Any]:
        answer = request("GET", self.address + path)
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def declaring(machine: Machine) -> Declaring:
    return Declaring(machine)


def test_a_declared_application_is_built_and_serves(declaring: Declaring) -> None:
    status = declaring.deployed({
        "import_path": "shop:builder",
        "args": {"text": "hello"},
        "runtime_env": {"env_vars": {"COLOUR": "blue"}},
        "deployments": [{"name": "Rank", "num_replicas": 2, "ray_actor_options": {"num_cpus": 1}}],
    })  # fmt: skip
    answer = declaring.answer()
    assert (answer["text"], answer["helper"], answer["from_env"]) == ("hello", "one", "blue")
    assert len(status["deployments"][0]["replicas"]) == 2
    assert status["source"] == "declarative"
    assert "blue" not in status["config"]
    eventually(lambda: not declaring.machine.pids("eagleray: build"), "the build's process has ended")


def test_unchanged_code_keeps_its_replicas_and_changed_code_rolls(declaring: Declaring) -> None:
    declaring.deployed({})
    before = declaring.answer()["pid"]
    declaring.deployed({})
    assert declaring.answer()["pid"] == before
    declaring.deployed({"deployments": [{"name": "Rank", "max_ongoing_requests": 3}]})
    assert declaring.answer()["pid"] == before, "a light option needs no new process"
    declaring.machine.write("helper.py", "NAME = 'two'\n")
    declaring.deployed({"deployments": [{"name": "Rank", "max_ongoing_requests": 3}]})
    assert declaring.answer()["helper"] == "two"


@pytest.mark.contract("8/build-failed")
def test_a_broken_module_leaves_what_runs_and_says_what_is_wrong(declaring: Declaring) -> None:
    declaring.deployed({})
    before = declaring.answer()["pid"]
    declaring.machine.write("helper.py", "NAME = 1 / 0\n")
    status = declaring.failed({})
    for part in ("ZeroDivisionError", "helper.py", "correct the code"):
        assert part in status["message"]
    assert declaring.answer()["pid"] == before
    declaring.machine.write("helper.py", "NAME = 'three'\n")
    declaring.deployed({})
    assert declaring.answer()["helper"] == "three"


def test_each_way_of_failing_says_what_to_do(declaring: Declaring) -> None:
    write = declaring.machine.write
    write("exits.py", "import sys\nsys.exit(3)\n")
    write("dies.py", "import os\nprint('going', flush=True)\nos._exit(4)\n")
    write("thing.py", "app = 1\n")
    write("locked.py", (
        "import threading\nfrom eagleray import serve\n"
        "@serve.deployment\nclass L:\n    def __init__(self, lock): ...\napp = L.bind(threading.Lock())\n"
    ))  # fmt: skip
    write("breaks.py", "def builder(args):\n    raise KeyError('colour')\n")
    table = {
        "shup:app": ("there is no module 'shup'", "did you mean 'shop'"),
        "shop:ap": ("has no 'ap'", "app"),
        "exits:app": ("sys.exit(3)", "__main__"),
        "dies:app": ("exit status 4", "going"),
        "thing:app": ("must be an application",),
        "locked:app": ("cannot be pickled", "lock"),
        "breaks:builder": ("KeyError", "breaks.py", "builder"),
    }
    applications = [
        {"name": f"a{number}", "route_prefix": f"/a{number}", "import_path": path} for number, path in enumerate(table)
    ]
    applied = declaring.apply(*applications)
    for application, parts in zip(applications, table.values(), strict=True):
        status = declaring.settled(applied["deploy"], application["name"])
        assert status["status"] == "DEPLOY_FAILED", (application, status)
        for part in parts:
            assert part in status["message"], (application, status["message"])
        assert status["deployments"] == []


def test_deployments_that_the_code_does_not_have_are_all_named(declaring: Declaring) -> None:
    status = declaring.failed({"deployments": [{"name": "Ranker"}, {"name": "Zebra"}]})
    assert 'did you mean "Rank"?' in status["message"]
    assert '"Zebra"' in status["message"]


def test_a_build_outlives_its_controller_and_prints_what_it_likes(declaring: Declaring) -> None:
    declaring.machine.write("slow.py", (
        "import os, time\nfrom pathlib import Path\n"
        "print('x' * 1000, flush=True)\n"
        "for _ in range(3000): print('much', flush=True)\n"
        "Path('began').write_text(str(os.getpid()))\n"
        "while not Path('go').exists(): time.sleep(0.01)\n"
        "if os.fork() == 0: pass\n"
        "from shop import app\n"
    ))  # fmt: skip
    applied = declaring.apply({"import_path": "slow:app"})
    work = declaring.machine.work
    eventually((work / "began").exists, "the build imports")
    assert declaring.status()["status"] == "DEPLOYING"
    os.kill(declaring.machine.one("eagleray: controller"), signal.SIGKILL)

    def back() -> bool:
        try:
            return bool(declaring.status())
        except OSError:
            return False

    eventually(back, "another controller answers")
    (work / "go").write_text("")
    assert declaring.settled(applied["deploy"])["status"] == "RUNNING"
    assert declaring.answer()["text"] == "bound"


def test_a_controller_that_dies_while_it_is_told_the_result_is_told_again(declaring: Declaring) -> None:
    machine = declaring.machine
    (socket,) = machine.runtime.glob("*/controller.sock")

    def connections() -> int:
        return Path("/proc/net/unix").read_text().count(f" {socket}\n")

    machine.write("helper.py", "import os, time\nwhile not os.path.exists('gate'): time.sleep(0.01)\nNAME = 'late'\n")
    applied = declaring.apply({})
    eventually(lambda: declaring.status().get("deploy", {}).get("state") == "building", "it is being built")
    (controller,) = machine.pids("eagleray: controller")
    os.kill(controller, signal.SIGSTOP)
    before = connections()
    machine.write("gate", "")
    eventually(lambda: connections() > before, "the build is at the controller's door")
    os.kill(controller, signal.SIGKILL)
    status = declaring.settled(applied["deploy"])
    assert status["status"] == "RUNNING", status["message"]
    assert request("GET", declaring.address + "/").json()["helper"] == "late"


def test_a_newer_config_a_delete_and_the_end_of_the_node_end_a_build(declaring: Declaring) -> None:
    declaring.machine.write("hangs.py", (
        "import subprocess, time\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)\ntime.sleep(1000)\n"
    ))  # fmt: skip
    builds = lambda: declaring.machine.pids("eagleray: build")  # noqa: E731
    sleeps = lambda: declaring.machine.pids("sleep 1000")  # noqa: E731
    declaring.apply({"import_path": "hangs:app"})
    eventually(sleeps, "the module is imported")
    declaring.deployed({})
    eventually(lambda: not builds() and not sleeps(), "the older build is gone with what it had started")
    declaring.apply({"import_path": "hangs:app"})
    eventually(sleeps, "the module is imported")
    declaring.controller.delete("default")
    eventually(lambda: not builds() and not sleeps(), "the build of what was deleted is gone")
    declaring.apply({"import_path": "hangs:app"})
    eventually(sleeps, "the module is imported")
    assert declaring.machine.cli("stop").returncode == 0
    assert not builds()
    assert not sleeps()


def test_serve_run_in_a_module_that_is_built_deploys_nothing(declaring: Declaring) -> None:
    text = "from shop import app\nfrom eagleray import serve\nserve.run(app, name='other')\n"
    declaring.machine.write("script.py", text)
    declaring.deployed({"import_path": "script:app"})
    assert [one["name"] for one in declaring.controller.status()] == ["default"]


def builds(machine: Machine) -> list[str]:
    """How each build went, as the controller's log says."""
    return re.findall(r"application 'default' (is built|is as it was), in", machine.logs("controller.log"))


@pytest.mark.contract(
    "8/build-again",
    better="nothing is imported where nothing has changed that was read; `--rebuild` forces it",
)
def test_what_is_as_it_was_is_not_imported_again(declaring: Declaring) -> None:
    marks = declaring.machine.work / "marks"
    declaring.machine.write("shop.py", f"open({str(marks)!r}, 'a').write('x')\n{textwrap.dedent(SHOP)}")
    declaring.machine.write("unused.py", "")
    imports = lambda: len(marks.read_text())  # noqa: E731
    declaring.deployed({})
    once = imports()
    declaring.deployed({})
    assert imports() == once, "nothing has changed"
    assert builds(declaring.machine) == ["is built", "is as it was"]
    changes: list[Callable[[], Any]] = [
        lambda: declaring.machine.write("helper.py", "NAME = 'two'\n"),
        lambda: declaring.machine.write("beside.py", ""),
        (declaring.machine.work / "unused.py").unlink,
    ]
    for change in changes:
        change()
        declaring.deployed({})
        assert builds(declaring.machine)[-1] == "is built"
        declaring.deployed({})
        assert builds(declaring.machine)[-1] == "is as it was"
    declaring.deployed({"args": {}})
    declaring.deployed({"args": {}}, rebuild=True)
    assert builds(declaring.machine)[-2:] == ["is built", "is built"]
    assert declaring.answer()["helper"] == "two"
