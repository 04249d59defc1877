"""What process tests use: a machine of the test's own, scripts that run on it, requests, load, bounded waiting."""

import errno
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXECUTABLE = Path(sys.executable).parent / "eagleray"
# What a condition may take on a machine that is busy with other tests.
PATIENCE = 30.0
T = TypeVar("T")

# Appended to a script of `Machine.serve`: says that it is up, then evaluates what the test sends.
TAIL = """
import json as _json, sys as _sys
print("READY", flush=True)
for _line in _sys.stdin:
    try:
        _answer = {"value": eval(_line)}
        _text = _json.dumps(_answer, default=repr)
    except BaseException as _error:
        _text = _json.dumps({"error": type(_error).__name__, "text": str(_error)})
    # One write: `print` makes two of it when unbuffered, and a replica's line may come between.
    _sys.stdout.write("ANSWER " + _text + "\\n")
    _sys.stdout.flush()
"""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def eventually(condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """The first true value of a condition; fails with `what` when the time is over."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s: {what}")
        pause.wait(0.02)


def remove(directory: Path) -> None:
    """`rm -rf`, again where somebody makes files in it meanwhile, as a node does that misses its own."""

    def gone() -> bool:
        try:
            shutil.rmtree(directory)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise
            return error.errno == errno.ENOENT
        return True

    eventually(gone, f"{directory} can be removed")


class Process(NamedTuple):
    pid: int
    parent: int
    state: str
    title: str


def processes() -> list[Process]:
    """Every process below this one, zombies included."""
    everything: dict[int, Process] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                title = (entry / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            everything[int(entry.name)] = Process(int(entry.name), int(fields[1]), fields[0], title.strip())
    below, known = [], {os.getpid()}
    grew = True
    while grew:
        grew = False
        for process in everything.values():
            if process.parent in known and process.pid not in known:
                known.add(process.pid)
                below.append(process)
                grew = True
    return below


class Script:
    """A running Python script of a user, with its output by lines."""

    def __init__(self, machine: "Machine", command: list[str], directory: Path, environment: dict[str, str]):
        self.machine = machine
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # As behind `nohup make test &`: a child would ignore Ctrl-C too.
            command = ["env", "--default-signal=INT", *command]
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._seen = 0

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        with self._changed:
            return "\n".join(self.lines)

    def wait_for_line(self, pattern: str, seconds: float = PATIENCE) -> re.Match[str]:
        """The first line, not returned before, that matches; fails if the script ends without it."""
        end = time.monotonic() + seconds
        with self._changed:
            while True:
                while self._seen < len(self.lines):
                    found = re.search(pattern, self.lines[self._seen])
                    self._seen += 1
                    if found:
                        return found
                if not self._reader.is_alive():
                    break
                if not self._changed.wait(min(0.5, max(0.0, end - time.monotonic()))) and time.monotonic() > end:
                    break
        pytest.fail(f"no line matches {pattern!r} (status {self.process.poll()}); output:\n{self.output}")

    def do(self, expression: str) -> Any:
        """The value of an expression in the script; raises AssertionError with the error that it raised."""
        answer = self.ask(expression)
        assert "error" not in answer, f"{expression}: {answer}"
        return answer["value"]

    def ask(self, expression: str) -> dict[str, Any]:
        """`{"value": ...}`, or `{"error": type, "text": message}`."""
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return json.loads(self.wait_for_line("^ANSWER (.*)").group(1))

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit status, with all output read."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the script does not end; output:\n{self.output}")
        self._reader.join(PATIENCE)
        return status

    def interrupt(self) -> int:
        """Ctrl-C, as a terminal sends it: to the script's whole process group."""
        os.killpg(self.pid, signal.SIGINT)
        return self.wait()

    def end(self) -> int:
        """Closes its input, which ends a script of `Machine.serve` in order."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        return self.wait()

    @property
    def address(self) -> str:
        """`http://host:port` of the node that this script owns."""
        return self.machine.address(owner=self.pid)

    @property
    def counters(self) -> dict[str, int]:
        """What the proxy of this script's node has counted."""
        (name,) = (node["name"] for node in self.machine.nodes() if node["owner_pid"] == self.pid)
        return self.machine.counters(name)

    def get(self, path: str = "/", **options: Any) -> Answer:
        return request("GET", self.address + path, **options)

    def post(self, path: str = "/", body: Any = b"", **options: Any) -> Answer:
        return request("POST", self.address + path, body=body, **options)


class Machine:
    """Where a test runs: its own runtime and state directories, port 0, and its own folder for scripts."""

    def __init__(self, work: Path):
        # Short, since a socket's path ends at 108 bytes.
        self.runtime = Path(tempfile.mkdtemp(prefix="er-", dir="/tmp"))
        self.work = work
        self.scripts: list[Script] = []
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("EAGLERAY_", "PYTEST_")) or name == "EAGLERAY_ZYGOTE"
        } | {
            "EAGLERAY_RUNTIME_DIR": str(self.runtime),
            "EAGLERAY_SERVE_DEFAULT_HTTP_PORT": "0",
            "EAGLERAY_CONTROL_PORT": "0",
            "XDG_STATE_HOME": str(self.runtime / "state"),
            "PYTHONUNBUFFERED": "1",
        }

    def write(self, name: str, text: str) -> Path:
        """Writes a file, dedented, into the test's folder."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def script(
        self,
        text: str | None,
        *arguments: str,
        name: str = "app.py",
        python: str = sys.executable,
        environment: dict[str, str] | None = None,
    ) -> Script:
        """Starts a script; its text is written first, unless it is None."""
        if text is not None:
            self.write(name, text)
        return self.start([python, name, *arguments], environment)

    def start(self, command: list[str], environment: dict[str, str] | None = None) -> Script:
        """Starts any command in the test's folder."""
        script = Script(self, command, self.work, self.environment | (environment or {}))
        self.scripts.append(script)
        return script

    def serve(self, text: str, run: str = "serve.run(app)", **options: Any) -> Script:
        """Runs a script that defines `app`, until it serves. Its last line before that is `handle = <run>`."""
        script = self.script(f"{textwrap.dedent(text)}\nhandle = {run}\n{TAIL}", **options)
        script.wait_for_line("^READY")
        return script

    def cli(self, *arguments: str, seconds: float = PATIENCE, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs the `eagleray` command to its end."""
        return subprocess.run(
            [EXECUTABLE, *arguments],
            cwd=self.work,
            env=self.environment | options.pop("environment", {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            **options,
        )

    def start_resident(self) -> str:
        """`eagleray start`, and the address it serves at."""
        started = self.cli("start", "--http-port", "0")
        assert started.returncode == 0, started.stdout + started.stderr
        return self.address(name="default")

    def nodes(self) -> list[dict[str, Any]]:
        """What each node of this machine says of itself."""
        found = []
        for path in self.runtime.glob("*/node.json"):
            try:
                found.append(json.loads(path.read_text()))
            except (OSError, ValueError):
                continue
        return found

    def address(self, owner: int | None = None, name: str | None = None) -> str:
        """The HTTP address of the one node with this owner or name."""

        def look() -> str:
            for node in self.nodes():
                if (owner is not None and node["owner_pid"] == owner) or (name is not None and node["name"] == name):
                    return str(node["http_address"])
            return ""

        return eventually(look, f"a node of {owner or name}; there is {self.nodes()}").rstrip("/")

    def pids(self, title: str) -> set[int]:
        """Processes of this test, alive, whose title matches from its beginning."""
        return {found.pid for found in processes() if found.state not in "ZX" and re.match(title, found.title)}

    def replicas(self, name: str = "") -> set[int]:
        """Replicas, of one `application/deployment` if a name is given."""
        return self.pids(f"eagleray: replica {re.escape(name)} " if name else "eagleray: replica ")

    def counters(self, name: str) -> dict[str, int]:
        """What the proxy of a node has counted."""

        def look() -> dict[str, dict[str, int]]:
            shown = self.cli("status", "--counters", "--json", "--node", name)
            return json.loads(shown.stdout)["proxies"] if shown.returncode == 0 else {}

        (counted,) = eventually(look, f"the proxy of {name} says what it counted").values()
        return counted

    def one(self, title: str) -> int:
        """The pid of the only process with this title."""
        (pid,) = self.pids(title)
        return pid

    def logs(self, pattern: str = "*.log") -> str:
        """The text of all log files that match, of every node."""
        found = sorted(self.runtime.glob(f"state/eagleray/*/logs/{pattern}"))
        return "\n".join(path.read_text(errors="replace") for path in found if path.is_file())

    def left(self) -> list[Process]:
        """What runs now, without zombies, which are collected here."""
        alive = []
        own = {script.pid for script in self.scripts}
        for process in processes():
            if process.state == "Z" and process.parent == os.getpid() and process.pid not in own:
                try:
                    os.waitpid(process.pid, os.WNOHANG)
                except ChildProcessError:
                    pass
            elif process.state not in "ZX":
                alive.append(process)
        return alive

    def close(self) -> list[Process]:
        """Ends everything in order, then by force. Returns what had to be killed."""
        for script in self.scripts:
            if script.process.poll() is None:
                script.process.send_signal(signal.SIGTERM)
        for node in self.nodes():
            if not node["owner_pid"]:
                self.cli("stop", "--name", node["name"])
        end = time.monotonic() + 15
        while self.left() and time.monotonic() < end:
            threading.Event().wait(0.02)
        survivors = self.left()
        for process in survivors:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for script in self.scripts:
            script.wait()
            if script.process.stdin is not None:
                script.process.stdin.close()
        shutil.rmtree(self.runtime, ignore_errors=True)
        return survivors


def request(
    method: str, url: str, body: Any = None, headers: dict[str, str] | None = None, seconds: float = PATIENCE
) -> Answer:
    """One HTTP request on a connection of its own. A body that is a dict or a list goes as JSON."""
    parts = urlsplit(url)
    if isinstance(body, dict | list):
        body = json.dumps(body)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    try:
        target = parts.path + ("?" + parts.query if parts.query else "")
        connection.request(method, target or "/", body=body, headers=headers or {})
        # Closed on its own: an answer that breaks off keeps its socket.
        with connection.getresponse() as response:
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
    finally:
        connection.close()


class Load:
    """Threads that ask without a pause, and count each outcome: a status, or the name of an error.

    `turns`: headers of one request after the other, and what each answer has in it; one that does not is an outcome of
    its own.
    """

    def __init__(
        self,
        address: str,
        path: str = "/",
        threads: int = 4,
        method: str = "GET",
        new: bool = False,
        turns: Sequence[tuple[dict[str, str], bytes]] = (({}, b""),),
    ):
        self.outcomes: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._address, self._path, self._method, self._new = urlsplit(address), path, method, new
        self._turns = turns
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _run(self, first: int) -> None:
        connection = None
        for number in itertools.count(first):
            if self._stop.is_set():
                break
            headers, part = self._turns[number % len(self._turns)]
            if connection is None:
                connection = http.client.HTTPConnection(self._address.hostname, self._address.port, timeout=PATIENCE)
            try:
                connection.request(self._method, self._path, headers=headers)
                response = connection.getresponse()
                body = response.read()
                outcome = str(response.status) if part in body else f"{response.status} {body!r} to {headers}"
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
            if self._new or not outcome.isdigit():
                connection.close()
                connection = None
            with self._lock:
                self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if connection is not None:
            connection.close()

    def count(self, outcome: str = "200") -> int:
        with self._lock:
            return self.outcomes.get(outcome, 0)

    def wait_for_more(self, more: int = 50, outcome: str = "200") -> None:
        """Returns once `more` further requests ended with this outcome."""
        before = self.count(outcome)
        eventually(lambda: self.count(outcome) >= before + more, f"{more} more {outcome}: {self.outcomes}")
