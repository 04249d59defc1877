"""A reader who does what a page says: one shell in an empty project, a home of its own, a free port for each port.

Pages name the ports in `PORTS`, the home `/home/you`, the project `/home/you/project` and the run directory
`/run/user/1000/eagleray`; commands and files get those of the test, and what is printed is turned back. Times, process
ids and durations count as equal; `...` in a page stands for the rest of what differs.
"""

import contextlib
import random
import re
import shlex
import shutil
import socket
import sys
from pathlib import Path

import pytest
from blocks import Block, Command, commands

from machine import ROOT, Machine, Script, eventually

# What one command may take, training included, on a machine that is busy with other tests.
PATIENCE = 120.0
PORTS = ("8000", "8001", "8265", "8266")
END = "=== end of the command, status"
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,]\d+"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?\b"), "TIME"),
    (re.compile(r"\b(today|yesterday) +\d\d:\d\d\b"), "DAY"),
    # In columns, a longer time has fewer spaces before it.
    (re.compile(r" +\d+\.\d s\b"), " N s"),
    (re.compile(r"\bprocess \d+"), "process N"),
    (re.compile(r"\d+(\.\d+)? ?ms\b"), "N ms"),
    (re.compile(r"\blast_deployed_time_s: [\d.]+"), "last_deployed_time_s: N"),
)


class Reader:
    def __init__(self, machine: Machine):
        self.machine = machine
        home = machine.runtime / "home"
        self.project = home / "project"
        self.project.mkdir(parents=True)
        (self.project / ".venv").symlink_to(Path(sys.executable).parent.parent)
        # Where its output is no terminal, curl draws a progress bar.
        (home / ".curlrc").write_text("silent\nshow-error\n")
        machine.work = self.project
        # The home first, since it is inside the other.
        self.here = {"/home/you": str(home), "/run/user/1000/eagleray": str(machine.runtime)}
        self.here |= {port: _free_port() for port in PORTS}
        self.jobs: list[int] = []
        self.scripts = 0
        tools = machine.runtime / "tools"
        tools.mkdir()
        if shutil.which("curl") is None:
            stand_in = tools / "curl"
            stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/documents/curl.py" "$@"\n')
            stand_in.chmod(0o755)
        machine.environment |= {
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "USER": "you",
            "XDG_STATE_HOME": "",
            "EAGLERAY_SERVE_DEFAULT_HTTP_PORT": self.here["8000"],
            "EAGLERAY_CONTROL_PORT": self.here["8265"],
            "PATH": f"{tools}:{Path(sys.executable).parent}:{machine.environment['PATH']}",
        }
        self.shell: Script = machine.start(["sh"])

    def follow(self, block: Block) -> None:
        """Does what a block says, and fails where it does not do what the page shows."""
        if block.file:
            path = self.project / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._to_here(block.text))
        elif block.language == "python":
            self.scripts += 1
            path = self.project / f"block_{self.scripts}.py"
            path.write_text(self._to_here(block.text))
            self._expect(Command(f"python {path.name}", None), block)
        else:
            for command in commands(block):
                self._expect(command, block)

    def leave(self) -> None:
        """Ends what the page has left running in the background."""
        for job in self.jobs:
            self._run(f"kill {job} 2>/dev/null; wait {job}")
        self.machine.cli("stop")
        self.shell.end()

    def _expect(self, command: Command, block: Block) -> None:
        where = f"line {block.line}: {command.text}"
        if command.in_background:
            self._begin(command, where)
            return
        printed, status = self._run(command.text)
        if re.fullmatch(r"kill .*\$!", command.text):
            # Who types sees the job's end before the next prompt.
            self._run("wait $!")
        if command.output is None:
            assert status == 0, f"{where}\nended with status {status}:\n{printed}"
        else:
            assert _pattern(command.output).fullmatch(_comparable(printed)), (
                f"{where}\nprinted:\n{printed}\nwhere the page shows:\n{command.output}"
            )

    def _begin(self, command: Command, where: str) -> None:
        """Starts a command in the background, and waits until it has printed what the page shows."""
        file = self.project / f"job-{len(self.jobs)}.txt"
        file.touch()
        self._run(f"{command.text[:-1]} >{shlex.quote(str(file))} 2>&1 &")
        self.jobs.append(int(self._run("echo $!")[0]))
        if command.output is not None:
            wanted = _pattern(command.output)

            def shown() -> bool:
                return wanted.match(_comparable(self._from_here(file.read_text()))) is not None

            try:
                eventually(shown, where, PATIENCE)
            except pytest.fail.Exception:
                pytest.fail(f"{where}\nprinted:\n{file.read_text()}\nwhere the page shows:\n{command.output}")

    def _run(self, command: str) -> tuple[str, int]:
        """What a command of the reader's shell printed, and its status."""
        before = len(self.shell.lines)
        assert self.shell.process.stdin is not None
        self.shell.process.stdin.write(
            f"{{ {self._to_here(command)}\n}} </dev/null 2>&1\nprintf '\\n%s %s\\n' '{END}' $?\n"
        )
        self.shell.process.stdin.flush()
        status = int(self.shell.wait_for_line(f"^{END} (\\d+)", PATIENCE).group(1))
        printed = "\n".join(self.shell.lines[before:]).rpartition(END)[0]
        return self._from_here(printed.strip("\n")), status

    def _to_here(self, text: str) -> str:
        for there, here in self.here.items():
            text = re.sub(rf"(?<!\d){re.escape(there)}(?!\d)", here, text)
        return text

    def _from_here(self, text: str) -> str:
        for there, here in self.here.items():
            text = text.replace(here, there)
        return text


def _pattern(shown: str) -> re.Pattern[str]:
    """What a page shows, where `...` is anything in its line, and a line of it any lines."""
    lines = []
    for line in shown.splitlines():
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(".*".join(re.escape(_varied(part)) for part in line.rstrip().split("...")) + r"\n")
    return re.compile("".join(lines))


def _comparable(printed: str) -> str:
    # What is said of something that takes long is not said where it does not.
    lines = [line.rstrip() for line in printed.splitlines() if not line.endswith(" s so far)")]
    return "".join(f"{_varied(line)}\n" for line in lines)


def _varied(text: str) -> str:
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return text


def _free_port() -> str:
    """One that is free from now on: the kernel gives none of this range to connections that other tests make."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return str(port)
    raise RuntimeError("no port is free")
