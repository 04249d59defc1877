"""What the applications of the tests of models share: a model that notes when it is loaded and unloaded."""

from machine import Machine

MODEL = """
import asyncio, os
from eagleray import serve

def note(what, name):
    with open("notes.txt", "a") as file:
        file.write(f"{what} {name} {os.getpid()}\\n")

class Model:
    def __init__(self, name):
        self.name = name
        note("load", name)

    def __del__(self):
        note("unload", self.name)
"""


def notes(machine: Machine) -> list[tuple[str, str, int]]:
    """What was noted, of which model or else, and by which process."""
    lines = (line.split() for line in (machine.work / "notes.txt").read_text().splitlines())
    return [(what, name, int(pid)) for what, name, pid in lines]
