"""How long one waits at a prompt: `eagleray run` from a cold shell to the first 200, and a saved file to its answer.

    .venv/bin/python benches/startup.py [--rounds 7]

`run_s` of an application that does nothing, and of the iris service, whose model imports scikit-learn; `reload_s` from
the save of a file to the first answer of the new code, as a client sees it that asks every few milliseconds. Beside
each stands what a bare Python needs for the same: a start, the load of the model, the import of the same modules.
Prints medians of seconds, as JSON.
"""

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from measure import CellFailed, free_port
from setup import iris_model, train
from systems import APPS, own_python

START_LIMIT_S = 60
IRIS = b'{"sepal length": 5.1, "sepal width": 3.5, "petal length": 1.4, "petal width": 0.2}'
NOOP = """
from eagleray import serve
import words


@serve.deployment
class Noop:
    async def __call__(self, request):
        return words.WORD


app = Noop.bind()
"""
SERVICE = """
from eagleray import serve
from iris_model import Iris as Model


@serve.deployment(num_replicas=2)
class Iris:
    def __init__(self):
        self.iris = Model()

    async def __call__(self, request):
        return self.iris.answer(await request.json())


app = Iris.bind()
"""


class Project:
    """A directory with both applications, and a machine of its own for their nodes."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "noop.py").write_text(NOOP)
        (directory / "service.py").write_text(SERVICE)
        self.say("first")
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(APPS),
            "BENCH_IRIS_MODEL": str(iris_model("eagleray")),
            "EAGLERAY_RUNTIME_DIR": str(directory / "run"),
            "EAGLERAY_CONTROL_PORT": "0",
            "XDG_STATE_HOME": str(directory / "state"),
        }

    def say(self, word):
        (self.directory / "words.py").write_text(f"WORD = {word!r}\n")

    def python(self, text):
        """Seconds that a bare Python takes for a program."""
        began = time.monotonic()
        subprocess.run([own_python(), "-c", text], cwd=self.directory, env=self.environment, check=True)
        return time.monotonic() - began

    @contextlib.contextmanager
    def run(self, target, port, *options):
        """`eagleray run`; every process of it is gone afterwards."""
        command = [own_python().parent / "eagleray", "run", target, "--http-port", str(port), *options]
        with (self.directory / "output").open("wb") as output:
            running = subprocess.Popen(
                command, cwd=self.directory, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            yield running
        finally:
            running.send_signal(signal.SIGINT)
            running.wait()

    def wait(self, port, running, body, wanted=b""):
        """Asks until there is an answer that has the bytes that are wanted."""
        end = time.monotonic() + START_LIMIT_S
        while time.monotonic() < end and running.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("POST", "/", body=body)
                response = connection.getresponse()
                if response.status == 200 and wanted in response.read():
                    return
            time.sleep(0.003)
        raise CellFailed(f"no answer: {(self.directory / 'output').read_text()[-600:]}")


def one_round(project, number):
    """Seconds of each thing, once."""
    took = {"python_s": project.python("pass")}
    took["model_s"] = project.python("import iris_model; iris_model.Iris()") - took["python_s"]
    took["import_s"] = project.python("import noop")
    for name, target, body in (("noop", "noop:app", b""), ("iris", "service:app", IRIS)):
        port = free_port()
        began = time.monotonic()
        with project.run(target, port) as running:
            project.wait(port, running, body)
            took[f"{name}_run_s"] = time.monotonic() - began
    port = free_port()
    with project.run("noop:app", port, "--reload") as running:
        project.wait(port, running, b"")
        for turn in range(3):
            word = f"word-{number}-{turn}"
            # As a person would: not before the last reload has come to rest.
            time.sleep(1)
            project.say(word)
            began = time.monotonic()
            project.wait(port, running, b"", word.encode())
            took.setdefault("reload_s", []).append(time.monotonic() - began)
    took["reload_s"] = statistics.median(took["reload_s"])
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    if not iris_model("eagleray").exists():
        train("eagleray", own_python())
    directory = Path(tempfile.mkdtemp(prefix="eb-", dir="/tmp"))
    try:
        project = Project(directory)
        taken = [one_round(project, number) for number in range(rounds)]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps({name: round(statistics.median(one[name] for one in taken), 3) for name in taken[0]}))


if __name__ == "__main__":
    main()
