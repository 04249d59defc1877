"""Black-box tests of the contract: a user's program, its deployments and its cases, and who runs it.

A program is an ordinary script, written from the contract alone. Its cases are functions that assert; a test names one
of them, and its markers say which rows that proves. One node serves a program for all tests of a module.
"""

from collections.abc import Callable
from pathlib import Path

from machine import Script

HERE = Path(__file__).parent

# Appended to a program: runs one case, and says how it failed.
CASE = """
def _case(name):
    import asyncio, inspect, traceback
    try:
        result = globals()["case_" + name]()
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except BaseException:
        return traceback.format_exc()
    return ""
"""

Run = Callable[[str], None]


def running(script: Script) -> Run:
    """Runs cases of a script that was started by `serving`."""

    def run(case: str) -> None:
        failure = script.do(f"_case({case!r})")
        assert not failure, failure

    return run


def program(name: str) -> str:
    """The text of a program of this folder."""
    return (HERE / f"{name}_program.py").read_text() + CASE
