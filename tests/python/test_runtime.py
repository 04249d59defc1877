"""What a process is: no import reads it, and a forked process can be told that it is something else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import eagleray

MODULES = [
    f"eagleray.{'.'.join(file.relative_to(Path(eagleray.__file__).parent).with_suffix('').parts)}"
    for file in sorted(Path(eagleray.__file__).parent.rglob("*.py"))
    if file.name not in ("__init__.py", "__main__.py")
]

IMPORTED = f"import importlib\nfor name in {MODULES!r}: importlib.import_module(name)\n"


def run(program: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EAGLERAY_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_import_reads_what_the_process_is() -> None:
    program = (
        "import os\n"
        "class Watched(type(os.environ)):\n"
        "    def __getitem__(self, name): asked.append(name); return super().__getitem__(name)\n"
        "asked = []\n"
        "os.environ.__class__ = Watched\n"
        f"{IMPORTED}"
        "said = {'EAGLERAY_REPLICA', 'EAGLERAY_RUN_DIR', 'EAGLERAY_CONTROL_FD', 'EAGLERAY_LISTEN_FD'}\n"
        "print(sorted(said.intersection(asked)))\n"
        "from eagleray import _runtime\n"
        "_runtime.in_replica()\n"
        "print('EAGLERAY_REPLICA' in asked)\n"
    )
    assert run(program) == "[]\nTrue\n"


FORKED = """
import asyncio, logging, os, sys
from eagleray import _routers, _runtime, serve
from eagleray._user_code import log
from eagleray.serve.context import DeploymentID, ReplicaContext, ReplicaID

class Core:
    def __init__(self): self.told = []
    def set_models(self, models): self.told.append(models)

class Router:
    def __init__(self, controller, core, actor): self.controller, self.core = controller, core

from eagleray import _core
_core.Router = Router

def say(who):
    replica = _runtime.replica
    router = _routers.make(_runtime.find_controller() or "/script/controller.sock")
    try: context = serve.get_replica_context().replica_tag
    except Exception as error: context = type(error).__name__
    own = replica is not None and router.core is replica.core
    handlers = logging.getLogger("eagleray.serve").handlers
    print(who, _runtime.in_replica(), router.controller, context, own, len(handlers))
    sys.stdout.flush()

def become(name):
    os.environ.update(EAGLERAY_REPLICA=name, EAGLERAY_RUN_DIR="/run/" + name)
    replica = _runtime.become_replica(Core(), asyncio.new_event_loop())
    replica.context = ReplicaContext(ReplicaID(name, DeploymentID("D", "app")))
    log.configure(log.Component("app", "D", name), "")

def child(run):
    pid = os.fork()
    if pid == 0:
        run()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

def first():
    become("one")
    say("first")
    child(lambda: say("its child"))
    child(lambda: (become("two"), say("another")))
"""


@pytest.mark.parametrize("asked_before", [False, True])
def test_a_forked_process_is_what_it_is_told_to_be(*, asked_before: bool) -> None:
    before = "say('script')\n" if asked_before else ""
    said = run(f"{IMPORTED}{FORKED}\n{before}child(first)\nsay('parent')\n").splitlines()
    script = "False /script/controller.sock RayServeException False 1"
    assert said == [
        *([f"script {script}"] if asked_before else []),
        "first True /run/one/controller.sock one True 1",
        "its child True /run/one/controller.sock one True 1",
        "another True /run/two/controller.sock two True 1",
        f"parent {script}",
    ]


def test_what_a_replica_has_started_belongs_to_the_replica_s_node() -> None:
    program = (
        "from eagleray import _runtime\nprint(_runtime.in_replica(), _runtime.find_controller(), _runtime.replica)\n"
    )
    assert run(program) == "False  None\n"
    started = run(program, EAGLERAY_REPLICA="id", EAGLERAY_RUN_DIR="/run/node")
    assert started == "True /run/node/controller.sock None\n"
