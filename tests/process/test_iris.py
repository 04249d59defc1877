"""The iris service, the main job: trained, served, asked, and asked wrongly."""

import json
import shutil
import socket
import sys
from pathlib import Path

import pytest

from machine import ROOT, Machine, eventually, request

GOOD = {"sepal length": 1.2, "sepal width": 1.0, "petal length": 1.1, "petal width": 0.9}


@pytest.fixture
def iris(machine: Machine) -> Path:
    """A copy of the example, so that the tests train their own model."""
    shutil.copytree(ROOT / "examples" / "iris", machine.work / "iris", ignore=shutil.ignore_patterns("model"))
    return machine.work / "iris"


def test_training_is_repeatable_and_judged_on_unseen_flowers(machine: Machine, iris: Path) -> None:
    accuracies = []
    for _ in range(2):
        script = machine.start([sys.executable, "iris/train.py"])
        accuracies.append(float(script.wait_for_line(r"validation accuracy: ([0-9.]+)").group(1)))
        assert script.wait() == 0
    assert accuracies[0] == accuracies[1]
    assert 0.9 <= accuracies[0] < 1.0
    stored = json.loads((iris / "model" / "labels.json").read_text())
    assert stored["labels"] == ["setosa", "versicolor", "virginica"]
    assert (iris / "model" / "model.pkl").stat().st_size > 0


def test_the_service_answers_and_names_what_is_wrong(machine: Machine, iris: Path) -> None:
    assert machine.start([sys.executable, "iris/train.py"]).wait() == 0
    script = machine.start([sys.executable, "iris/app.py"])
    address = script.address
    eventually(lambda: status(address) == 200, "the first answer")
    assert len(machine.replicas("default/IrisClassifier")) == 2

    for method in ("POST", "GET"):
        answer = request(method, address + "/", body=GOOD)
        assert (answer.status, answer.json()) == (200, {"result": "setosa"})
    other = GOOD | {"petal length": 5.6, "petal width": 2.3, "sepal length": 6.7, "sepal width": 3}
    assert request("POST", address + "/", body=other).json() == {"result": "virginica"}

    for feature in GOOD:
        missing = request("POST", address + "/", body={key: GOOD[key] for key in GOOD if key != feature})
        assert (missing.status, missing.json()) == (400, {"error": f"missing feature: {feature}"})
        for wrong in ("1.2", True, None, [1.2], {}, float("nan"), float("inf"), -float("inf"), 10**400):
            answer = request("POST", address + "/", body=json.dumps(GOOD | {feature: wrong}))
            assert answer.status == 400, wrong
            assert feature in answer.json()["error"]
    for body in (b"", b"{", b"not json", b"[1, 2, 3, 4]", b"3", b"\xff\xfe", b'{"sepal length": 1e'):
        answer = request("POST", address + "/", body=body)
        assert answer.status == 400, body
        assert answer.json()["error"]
    assert request("DELETE", address + "/").status == 405
    assert request("POST", address + "/", body=GOOD).status == 200
    script.interrupt()


def test_the_demo_runs_twice_and_when_its_port_is_taken(machine: Machine, iris: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for first in (True, False):
            demo = machine.start(
                [sys.executable, "iris/demo.py"], environment={"EAGLERAY_SERVE_DEFAULT_HTTP_PORT": port}
            )
            assert demo.wait() == 0, demo.output
            assert ("training on scikit-learn" in demo.output) is first, "the second run does not train again"
            assert f"port {port} is taken" in demo.output
            assert '200 {"result": "setosa"}' in demo.output
            assert '400 {"error": "missing feature: sepal width"}' in demo.output
            assert "validation accuracy: 0.9" in demo.output
            assert "Go on" in demo.output
            eventually(lambda: not machine.left(), f"nothing runs after the demo: {machine.left()}")


def test_the_demo_leaves_a_resident_nodes_applications_alone(machine: Machine, iris: Path) -> None:
    address = machine.start_resident()
    machine.serve(
        "from eagleray import serve\n@serve.deployment\ndef mine():\n    return 'mine'\napp = mine.bind()\n"
    ).end()
    demo = machine.start([sys.executable, "iris/demo.py"])
    assert demo.wait() == 0, demo.output
    assert request("GET", address + "/").text == "mine"


def status(address: str) -> int:
    try:
        return request("POST", address + "/", body=GOOD).status
    except OSError:
        return 0


def test_the_readme_of_the_example_says_what_the_service_answers() -> None:
    text = (ROOT / "examples" / "iris" / "README.md").read_text()
    assert json.dumps(GOOD) in text
    assert '{"result":"setosa"}' in text
    assert '{"error":"missing feature: sepal width"}' in text
