"""The files and commands that a user of Ray Serve has, with `eagleray` in place of `serve` and nothing else changed."""

import json
import shutil
import sys

from machine import EXECUTABLE, ROOT, Machine, eventually, request

FLOWER = {"sepal length": 1.2, "sepal width": 1.0, "petal length": 1.1, "petal width": 0.9}
#: As `serve build` writes it, with what people add.
IRIS = """
proxy_location: EveryNode

http_options:
  host: 0.0.0.0
  port: 8000

applications:
- name: iris
  route_prefix: /
  import_path: app:app
  runtime_env: {}
  deployments:
  - name: IrisClassifier
    num_replicas: 2
"""
TRANSLATOR = """
from eagleray import serve


@serve.deployment
class Translator:
    def __call__(self, request) -> str:
        return "bonjour"


app = Translator.bind()
"""
BOTH = (
    IRIS
    + """
- name: translator
  route_prefix: /translate
  import_path: translator:app
  deployments:
  - name: Translator
    max_ongoing_requests: 5
    ray_actor_options:
      num_cpus: 0.5
      num_gpus: 0
    autoscaling_config:
      min_replicas: 2
      max_replicas: 4
      target_ongoing_requests: 2
"""
)


def trained(machine: Machine) -> None:
    shutil.copytree(
        ROOT / "examples" / "iris", machine.work, ignore=shutil.ignore_patterns("model"), dirs_exist_ok=True
    )
    assert machine.start([sys.executable, "train.py"]).wait() == 0


def test_iris_is_deployed_from_its_file_and_a_second_application_beside_it(machine: Machine) -> None:
    trained(machine)
    machine.write("translator.py", TRANSLATOR)
    machine.write("serve_config.yaml", IRIS)
    address = machine.start_resident()
    deployed = machine.cli("deploy", "serve_config.yaml")
    assert deployed.returncode == 0, deployed.stderr
    # The node has an address already, and the file names another one.
    assert "http_options" in deployed.stderr
    assert request("POST", address + "/", body=FLOWER).json() == {"result": "setosa"}
    assert len(machine.replicas("iris/IrisClassifier")) == 2
    before = machine.replicas("iris/IrisClassifier")

    machine.write("serve_config.yaml", BOTH)
    deployed = machine.cli("deploy", "serve_config.yaml")
    assert deployed.returncode == 0, deployed.stderr
    assert "num_cpus" not in deployed.stderr
    assert "autoscaling" not in deployed.stderr
    assert request("GET", address + "/translate").text == "bonjour"
    assert len(machine.replicas("translator/Translator")) == 2
    assert machine.replicas("iris/IrisClassifier") == before

    status = machine.cli("status")
    assert status.returncode == 0
    assert status.stdout.count("status: RUNNING") == 2
    config = machine.cli("config")
    assert config.stdout.count("---") == 1
    for submitted in ("num_replicas: 2", "num_cpus: 0.5", "max_replicas: 4"):
        assert submitted in config.stdout
    assert machine.cli("shutdown", "--yes").returncode == 0
    eventually(lambda: not machine.nodes(), "the node has ended")


def test_iris_runs_from_its_file_in_the_foreground(machine: Machine) -> None:
    trained(machine)
    machine.write("serve_config.yaml", IRIS.replace("port: 8000", "port: 0"))
    script = machine.start([str(EXECUTABLE), "run", "serve_config.yaml"])
    script.wait_for_line("is running at")
    address = script.address
    assert request("POST", address + "/", body=json.dumps(FLOWER)).json() == {"result": "setosa"}
    assert len(machine.replicas("iris/IrisClassifier")) == 2
    assert script.interrupt() == 0
