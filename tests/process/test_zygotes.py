"""Replicas that are forked: what forks, what steps aside and says why, and what each has for itself."""

import os
import re
import signal
from pathlib import Path

import pytest

from machine import Machine, eventually

pytestmark = pytest.mark.skipif(os.environ.get("EAGLERAY_ZYGOTE") == "0", reason="replicas are not forked")

# What a module does when it is imported, and what the node then says.
ASIDE = {
    "thread": (
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True, name='background').start()",
        "thread background runs",
    ),
    "pool": (
        "from concurrent.futures import ThreadPoolExecutor; pool = ThreadPoolExecutor(); pool.submit(len, '').result()",
        "thread ThreadPoolExecutor-0_0 runs",
    ),
    "socket": ("import socket; a, b = socket.socketpair()", "a socket is open"),
    "pipe": ("import os; ends = os.pipe()", "a pipe is open"),
    "loop": ("import asyncio; loop = asyncio.new_event_loop()", "is open, which forks would share"),
    "database": (
        "import sqlite3; db = sqlite3.connect('some.db'); db.execute('create table if not exists t (x)')",
        "a file that is written to is open",
    ),
    "log_file": (
        "import logging; logging.getLogger('a').addHandler(logging.FileHandler('some.log'))",
        "a file that is written to is open",
    ),
    "temporary": ("import tempfile; file = tempfile.TemporaryFile()", "a file that is written to is open"),
    # The first replica that ends would remove it under the others.
    "temporary_directory": (
        "import tempfile; directory = tempfile.TemporaryDirectory()",
        "it has made a temporary file or directory, which forks would share: /",
    ),
    "temporary_file": ("import os, tempfile; number, path = tempfile.mkstemp(dir='.'); os.close(number)", "temporary"),
    "locked": ("import fcntl; file = open(__file__); fcntl.flock(file, fcntl.LOCK_SH)", "a file is locked"),
    "itself": ("file = open('/proc/self/status')", "a file that tells of this process is open"),
    "lock_of_processes": ("import multiprocessing; lock = multiprocessing.Lock()", "memory is mapped"),
    "memory": ("import mmap; memory = mmap.mmap(-1, 4096)", "memory is mapped"),
    "child": (
        "import os, subprocess; 'EAGLERAY_REPLICA' in os.environ and subprocess.Popen(['sleep', '3600'])",
        "a child process was started",
    ),
    "timer": ("import signal; signal.setitimer(signal.ITIMER_REAL, 86400)", "a timer runs"),
    "seeded": ("import random; random.seed(5)", "the generator of module random was seeded"),
    "generator": (
        "import random; random_one = random.Random.__new__(random.Random)",
        "a random generator cannot be seeded again: of_generator.random_one (Random)",
    ),
}

FORKS = {
    "nothing": "pass",
    "tls": "import ssl; context = ssl.create_default_context()",
    "database": "import sqlite3; db = sqlite3.connect(':memory:')",
    "reader": "file = open(__file__); file.read(3)",
    "pool": "from concurrent.futures import ThreadPoolExecutor; pool = ThreadPoolExecutor()",
    "place": "import os; place = os.open('/', os.O_PATH); directory = os.open('/', os.O_RDONLY)",
    "temporary": "import tempfile\nwith tempfile.TemporaryDirectory(), tempfile.NamedTemporaryFile():\n    pass",
    "allocator": (
        "import _thread, ctypes, threading\n"
        "def named():\n"
        "    ctypes.CDLL(None).prctl(15, b'jemalloc_bg_thd')\n"
        "    is_named.set()\n"
        "    threading.Event().wait()\n"
        "is_named = threading.Event()\n"
        "_thread.start_new_thread(named, ())\n"
        "is_named.wait()"
    ),
    "children_ignored": "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "children_reaped": (
        "import os, signal\n"
        "def reap(*_):\n"
        "    try:\n"
        "        while os.waitpid(-1, os.WNOHANG)[0]:\n"
        "            pass\n"
        "    except ChildProcessError:\n"
        "        pass\n"
        "signal.signal(signal.SIGCHLD, reap)"
    ),
    "metric": "from eagleray.serve import metrics; counter = metrics.Counter('of_import')",
    "batches": "from eagleray import serve\n@serve.batch\nasync def f(items):\n    return items",
    "closed": "import os, sys; 'EAGLERAY_REPLICA' in os.environ and sys.stdout.close()",
    "own_fork": "import os\ndef fork():\n    raise RuntimeError('not this one')\nos.fork = fork",
    "lock": "import threading; lock = threading.RLock(); here = threading.local()",
    "generator": "import random; mine, given = random.Random(), random.Random(5)",
    "restored": "import pickle, random; one = pickle.loads(pickle.dumps(random.Random()))",
    "logs": "import logging; logging.basicConfig(level='INFO'); logging.info('imported')",
    "loop_of_nobody": "import asyncio; lock, queue = asyncio.Lock(), asyncio.Queue()",
    "finished": "import threading; one = threading.Thread(target=len, args=('',)); one.start(); one.join()",
    "run": (
        "import os, subprocess\n"
        "n = subprocess.run(['ls', '/proc/self/fd'], stdout=-1, close_fds=False).stdout.split()\n"
        "assert 'EAGLERAY_REPLICA' not in os.environ or len(n) == 4, n"
    ),
}

APP = """
import os
from eagleray import serve
import of_{name}

@serve.deployment
class App:
    def __call__(self, request):
        return {{"pid": os.getpid(), "module": of_{name}.__name__}}

app = App.bind()
"""


def run_all(machine: Machine, snippets: dict[str, str]) -> str:
    """Runs an application for each, and returns what the node said."""
    machine.start_resident()
    for name, code in snippets.items():
        machine.write(f"of_{name}.py", code)
        machine.write(f"app_{name}.py", APP.format(name=name))
    script = machine.script(
        "from eagleray import serve\n"
        + "".join(
            f"import app_{name}\nhandle = serve.run(app_{name}.app, name='{name}', route_prefix='/{name}')\n"
            f"print(handle.remote(None).result()['module'], flush=True)\n"
            for name in snippets
        )
    )
    assert script.wait(240) == 0, script.output
    for name in snippets:
        assert f"of_{name}" in script.output
    return machine.logs("node.log")


@pytest.mark.timeout(300)
def test_what_forks_would_share_keeps_a_replica_from_being_forked(machine: Machine) -> None:
    said = run_all(machine, {name: code for name, (code, _) in ASIDE.items()})
    for name, (_, reason) in ASIDE.items():
        lines = re.findall(rf"replicas of {name}/App are not forked, each imports its modules itself: (.*)", said)
        assert len(lines) == 1, f"one line says why {name} is not forked: {lines}"
        assert reason in lines[0], name
        assert len(machine.replicas(f"{name}/App")) == 1
    assert not machine.pids("eagleray: zygote")


@pytest.mark.timeout(300)
def test_most_modules_are_forked(machine: Machine) -> None:
    said = run_all(machine, FORKS)
    assert "are not forked" not in said
    for name in FORKS:
        assert machine.one(f"eagleray: zygote {name}/App")
        assert len(machine.replicas(f"{name}/App")) == 1
    assert machine.cli("stop").returncode == 0
    assert not machine.pids("eagleray: ")


FACTS = """
import os, random, resource, secrets, threading, time, uuid
import numpy
from eagleray import serve

at_import = uuid.uuid4().hex
own = random.Random()
given = random.Random(7)
sequence, generator = numpy.random.SeedSequence(), numpy.random.default_rng()
# As numpy's documentation has it: drawn once, and written down.
chosen = numpy.random.default_rng(122807528840384100672342137672332424406)
file = open(__file__)
importer = os.getpid()
print("imported here")

@serve.deployment(num_replicas=3, max_ongoing_requests=1)
class App:
    def facts(self):
        replica = serve.get_replica_context().replica_id.unique_id
        environ = open("/proc/self/environ").read().split("\\0")
        print("asked", replica)
        return {
            "pid": os.getpid(), "replica": replica, "at_import": at_import, "importer": importer,
            "drawn": [
                random.random(), own.random(), secrets.token_hex(4), generator.random(), numpy.random.random(),
                numpy.random.default_rng(sequence.spawn(1)[0]).random(), generator.spawn(1)[0].random(),
            ],
            "given": [given.random(), chosen.random()],
            "read": len(file.read(5)), "place": file.tell(),
            "environ": [one for one in environ if one.startswith("EAGLERAY_REPLICA=")],
            "variable": os.environ["EAGLERAY_REPLICA"],
            "session": os.getsid(0), "mark": resource.getrlimit(10)[0] & 0x3FFFFF,
            "threads": [one.name for one in threading.enumerate()],
        }
    def __call__(self, request):
        return self.facts()
app = App.bind()
"""


def facts_of_all(machine: Machine, script: object, count: int) -> dict[int, dict]:
    found: dict[int, dict] = {}

    def look() -> bool:
        one = script.get("/").json()  # type: ignore[attr-defined]
        found.setdefault(one["pid"], one)
        return len(found) == count

    eventually(look, f"each of {count} replicas has answered")
    return found


def test_a_fork_is_a_process_of_its_own(machine: Machine) -> None:
    script = machine.serve("from part import app\nfrom eagleray import serve", **with_module(machine))
    zygote = machine.one("eagleray: zygote default/App")
    found = facts_of_all(machine, script, 3)
    assert set(found) == machine.replicas("default/App")
    for pid, one in found.items():
        assert one["session"] == one["mark"] == pid
        assert one["environ"] == [f"EAGLERAY_REPLICA={one['replica']}"]
        assert one["variable"] == one["replica"]
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(machine.one("eagleray: node"))
        assert (one["read"], one["place"]) == (5, 5), "nobody moves another's place in a file"
        assert one["importer"] == zygote, "what is made at import is shared"
        log = machine.logs(f"*{one['replica']}*")
        assert f"source=stdout -- asked {one['replica']}" in log.replace("request_id=", "")
    assert len({one["at_import"] for one in found.values()}) == 1
    for index in range(7):
        assert len({one["drawn"][index] for one in found.values()}) == 3, f"no two draw the same: {index}"
    assert len({tuple(one["given"]) for one in found.values()}) == 1, "a seed that is given is everybody's"
    environ = Path(f"/proc/{zygote}/environ").read_text()
    assert not any(one["replica"] in environ for one in found.values())
    assert machine.logs("*replica*").count("imported here") == 1


def with_module(machine: Machine) -> dict[str, object]:
    machine.write("part.py", FACTS)
    return {}


def test_a_killed_replica_comes_back_from_the_zygote_and_a_killed_zygote_from_a_replica(machine: Machine) -> None:
    machine.serve("from part import app\nfrom eagleray import serve", **with_module(machine))
    zygote = machine.one("eagleray: zygote default/App")
    before = machine.replicas("default/App")

    def replaced(gone: set[int]) -> set[int]:
        now = machine.replicas("default/App")
        return now if len(now) == 3 and not now & gone else set()

    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    after = eventually(lambda: replaced({victim}), "another one is there")
    assert machine.one("eagleray: zygote default/App") == zygote
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: not machine.pids("eagleray: zygote"), "the zygote is gone")
    assert machine.replicas("default/App") == after, "it is nobody's parent"
    victim = min(after)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: replaced({victim}), "another one is there")
    successor = eventually(lambda: machine.pids("eagleray: zygote default/App"), "there is a zygote again")
    assert successor != {zygote}


OF_SIGNALS = """
import atexit, os, signal
from pathlib import Path
from eagleray import serve

def told(*_):
    Path(f"told-{os.getpid()}").touch()
    raise SystemExit

signal.signal(signal.SIGTERM, told)
atexit.register(lambda: Path(f"ended-{os.getpid()}").touch())

@serve.deployment(num_replicas=2)
class App:
    def __call__(self, request):
        return "here"
app = App.bind()
"""


def test_a_handler_of_signals_that_a_module_sets_is_a_replicas_and_exit_handlers_are_not_the_zygotes(
    machine: Machine,
) -> None:
    machine.write("part.py", OF_SIGNALS)
    machine.serve("from part import app\nfrom eagleray import serve")
    zygote = machine.one("eagleray: zygote default/App")
    victim = min(machine.replicas("default/App"))
    os.kill(victim, signal.SIGTERM)
    eventually((machine.work / f"told-{victim}").exists, "its own handler has run, not ours")
    os.kill(zygote, signal.SIGTERM)
    eventually(lambda: zygote not in machine.pids("eagleray: zygote"), "the zygote has ended")
    assert (machine.work / f"told-{zygote}").exists()
    assert not (machine.work / f"ended-{zygote}").exists(), "what it would clean up is its forks'"
    eventually(lambda: len(machine.replicas("default/App")) == 2, "there are two again")


def test_a_zygote_that_no_replica_tells_of_ends_with_its_revision_though_the_controller_is_another(
    machine: Machine,
) -> None:
    machine.start_resident()
    machine.write("part.py", FACTS)
    deploy = "from part import app\nfrom eagleray import serve\nserve.run(app)"
    assert machine.script(deploy).wait() == 0
    zygote = machine.one("eagleray: zygote default/App")
    assert machine.cli("scale", "default/App", "0").returncode == 0
    eventually(lambda: not machine.replicas("default/App"), "none is left")
    os.kill(machine.one("eagleray: controller"), signal.SIGKILL)
    eventually(lambda: machine.cli("status").returncode == 0, "there is another controller")
    assert machine.one("eagleray: zygote default/App") == zygote, "a replica may be asked for again"
    assert machine.script("from eagleray import serve\nserve.delete('default')").wait() == 0
    eventually(lambda: not machine.pids("eagleray: zygote"), "it goes with its application")


def test_a_stopped_zygote_costs_a_start_and_is_replaced(machine: Machine) -> None:
    machine.serve("from part import app\nfrom eagleray import serve", **with_module(machine))
    zygote = machine.one("eagleray: zygote default/App")
    os.kill(zygote, signal.SIGSTOP)
    victim = min(machine.replicas("default/App"))
    os.kill(victim, signal.SIGKILL)
    eventually(
        lambda: len(machine.replicas("default/App") - {victim}) == 3 and zygote not in machine.pids("eagleray: zygote"),
        "the zygote is given up, and the replica is started",
    )


def test_a_zygote_ends_with_its_revision(machine: Machine) -> None:
    machine.start_resident()
    machine.write("part.py", FACTS)
    deploy = "from part import app\nfrom eagleray import serve\nserve.run(app)"
    assert machine.script(deploy).wait() == 0
    first = machine.one("eagleray: zygote default/App")
    machine.write("part.py", FACTS + "changed = True\n")
    assert machine.script(deploy).wait() == 0
    eventually(
        lambda: len(machine.pids("eagleray: zygote")) == 1 and not first_lives(first), "only the new one is left"
    )
    assert machine.script("from eagleray import serve\nserve.delete('default')").wait() == 0
    eventually(lambda: not machine.pids("eagleray: zygote"), "it goes with its application")


def first_lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_each_is_an_interpreter_of_its_own_where_that_is_wanted(machine: Machine) -> None:
    script = machine.serve(
        "from part import app\nfrom eagleray import serve", environment={"EAGLERAY_ZYGOTE": "0"}, **with_module(machine)
    )
    found = facts_of_all(machine, script, 3)
    assert len({one["at_import"] for one in found.values()}) == 3
    assert not machine.pids("eagleray: zygote")


def test_a_module_that_ends_or_fails_at_import_is_told_as_ever(machine: Machine) -> None:
    machine.write("fails.py", "import os\nif 'EAGLERAY_REPLICA' in os.environ: raise ValueError('not here')")
    machine.write(
        "part.py",
        "from eagleray import serve\nimport fails\n@serve.deployment\nclass App:\n    pass\napp = App.bind()\n",
    )
    script = machine.script("from part import app\nfrom eagleray import serve\nserve.run(app)")
    assert script.wait() != 0
    assert "ValueError: not here" in script.output
