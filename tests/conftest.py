"""Fixtures: one machine a test, and a check that nothing is left running on it.

The test process makes itself the reaper of orphans, so that whatever a test starts, however it detaches, stays in the
test's process tree and can be listed, and ended, at the end.
"""

import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import Machine

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="session", autouse=True)
def _orphans_come_here() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture(scope="session", autouse=True)
def _interrupts_are_heeded() -> None:
    """A shell has its background jobs ignore SIGINT, and all that a test starts would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine of the test's own; the test fails if it leaves a process behind."""
    made = Machine(tmp_path)
    try:
        yield made
    finally:
        # Shown by pytest when the test fails.
        for number, script in enumerate(made.scripts):
            print(f"--- output of script {number}\n{script.output}")
        print(f"--- logs of node, controller and proxy\n{made.logs('[ncp]*.log')[-8000:]}")
        survivors = made.close()
    assert not survivors, f"left running: {survivors}"
