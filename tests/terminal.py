"""A command on a terminal: what a person would see of it, and what they would type."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import NamedTuple

from machine import EXECUTABLE, PATIENCE, Machine

# What moves the cursor or clears; colours stay in `raw` only.
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Shown(NamedTuple):
    returncode: int
    #: With everything that was sent to the terminal.
    raw: str

    @property
    def text(self) -> str:
        """Without sequences; line ends as they are in files."""
        return SEQUENCE.sub("", self.raw).replace("\r", "")


class Terminal:
    """A command whose three streams are one terminal."""

    def __init__(self, machine: Machine, *arguments: str, columns: int = 100, **environment: str):
        self.output = b""
        self.end, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [EXECUTABLE, *arguments],
            cwd=machine.work,
            env=machine.environment | {"TERM": "xterm", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"} | environment,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            # So that Ctrl-C of the terminal reaches it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(inner)

    def wait_for(self, text: str) -> None:
        give_up = time.monotonic() + PATIENCE
        while text not in self.output.decode(errors="replace"):
            assert time.monotonic() < give_up, f"{text!r} was not shown: {self.output!r}"
            if not self.read():
                raise AssertionError(f"it ended without {text!r}: {self.output!r}")

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def close(self) -> Shown:
        """Reads to its end."""
        give_up = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < give_up, f"it does not end: {self.output!r}"
        os.close(self.end)
        return Shown(self.process.wait(PATIENCE), self.output.decode(errors="replace"))

    def read(self) -> bool:
        """Some of what it writes; false at its end."""
        if not select.select([self.end], [], [], PATIENCE)[0]:
            return True
        try:
            part = os.read(self.end, 65536)
        except OSError:
            # Nobody has the other end any more.
            return False
        self.output += part
        return bool(part)


def on_terminal(machine: Machine, *arguments: str, columns: int = 100, **environment: str) -> Shown:
    return Terminal(machine, *arguments, columns=columns, **environment).close()


def control(machine: Machine) -> tuple[str, Path]:
    """Address of the only node's control port, and the file of its token."""
    (node,) = machine.nodes()
    return node["control_address"], machine.runtime / node["name"] / "token"
