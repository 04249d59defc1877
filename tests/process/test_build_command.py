"""`eagleray build`: the config that it prints, what it does not take, and that the config deploys."""

import pytest
import yaml

from machine import EXECUTABLE, Machine

SHOP = """
from eagleray import serve
from eagleray.serve.config import AutoscalingConfig

print("printed by the module")

@serve.deployment(
    num_replicas=2,
    max_ongoing_requests=7,
    ray_actor_options={"num_cpus": 0.5, "runtime_env": {"env_vars": {"A": "1"}}},
    user_config={"x": [1, "yes", None, 1.5], "said": "a: b"},
)
class Model:
    def reconfigure(self, config):
        self.config = config

    async def __call__(self):
        return self.config["said"]

@serve.deployment(autoscaling_config={"min_replicas": 1, "max_replicas": 4}, health_check_period_s=5)
class Auto:
    pass

@serve.deployment
class Plain:
    def __init__(self, model, auto):
        self.model = model

    async def __call__(self, request):
        return await self.model.remote()

app = Plain.bind(Model.bind(), Auto.bind())
other = Plain.options(name="Renamed", num_replicas="auto").bind(Model.options(num_replicas=3).bind(), None)

def builder(arguments):
    return app
"""
# As Ray Serve 2.60 prints it for the same code, but for the first line and the order of keys within ray_actor_options.
BUILT = """# This file was generated using the `eagleray build` command on Eagleray v0.1.0.

proxy_location: EveryNode

http_options:
  host: 0.0.0.0
  port: 8000

grpc_options:
  port: 9000
  grpc_servicer_functions: []
  enable_reflection: true

logging_config:
  encoding: TEXT
  log_level: INFO
  logs_dir: null
  enable_access_log: true
  additional_log_standard_attrs: []

applications:
- name: app1
  route_prefix: /
  import_path: shop:app
  runtime_env: {}
  deployments:
  - name: Model
    num_replicas: 2
    max_ongoing_requests: 7
    user_config:
      x:
      - 1
      - 'yes'
      - null
      - 1.5
      said: 'a: b'
    ray_actor_options:
      num_cpus: 0.5
      runtime_env:
        env_vars:
          A: '1'
  - name: Auto
    autoscaling_config:
      min_replicas: 1
      max_replicas: 4
    health_check_period_s: 5.0
  - name: Plain
"""


@pytest.mark.contract("6/build")
def test_what_it_prints(machine: Machine) -> None:
    machine.write("shop.py", SHOP)
    built = machine.cli("build", "shop:app")
    assert built.returncode == 0, built.stderr
    assert built.stdout == BUILT
    assert "printed by the module" in built.stderr
    assert "the applications are named app1, app2" in built.stderr


@pytest.mark.contract("6/build")
def test_several_applications_into_a_file(machine: Machine) -> None:
    machine.write("code/shop.py", SHOP)
    built = machine.cli("build", "shop:app", "shop.other", "-d", "code", "-o", "shop.yaml")
    assert built.returncode == 0, built.stderr
    assert built.stdout == ""
    text = (machine.work / "shop.yaml").read_text()
    one, two = yaml.safe_load(text)["applications"]
    assert (one["name"], one["route_prefix"], one["import_path"]) == ("app1", "/app1", "shop:app")
    assert (two["name"], two["route_prefix"], two["import_path"]) == ("app2", "/app2", "shop.other")
    assert [deployment["name"] for deployment in two["deployments"]] == ["Model", "Renamed"]
    assert two["deployments"][0]["num_replicas"] == 3
    assert two["deployments"][1]["autoscaling_config"]["max_replicas"] == 100
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_what_it_prints_is_right_and_serves(machine: Machine) -> None:
    machine.write("shop.py", SHOP)
    assert machine.cli("build", "shop:app", "-o", "shop.yaml").returncode == 0
    checked = machine.cli("config", "check", "shop.yaml")
    assert checked.returncode == 0, checked.stderr
    script = machine.start([str(EXECUTABLE), "run", "shop.yaml", "--http-host", "127.0.0.1", "--http-port", "0"])
    script.wait_for_line("is running")
    assert script.get().text == "a: b"


@pytest.mark.contract("6/build")
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["shop:builder"], 1, "shop:builder must be an application, which is what .bind() returns, got function"),
        (["shop:Plain"], 1, "got Deployment"),
        (["shop:nothing"], 1, "module 'shop' has no 'nothing'"),
        (["nowhere:app"], 1, "there is no module 'nowhere'"),
        (["broken:app"], 1, "ZeroDivisionError"),
        (["shop"], 2, "MODULE:NAME"),
        (["shop:app", "-o", "no/such/directory.yaml"], 1, "cannot be written: No such file or directory"),
        (["shop:app", "-d", "nowhere"], 2, "is no directory"),
        ([], 2, "MODULE:NAME"),
    ],
)
def test_what_it_does_not_take(machine: Machine, arguments: list[str], status: int, words: str) -> None:
    machine.write("shop.py", SHOP)
    machine.write("broken.py", "1 / 0\n")
    built = machine.cli("build", *arguments)
    assert built.returncode == status, built.stderr
    assert words in built.stderr
    assert built.stdout == ""
    assert "_driver/" not in built.stderr


def test_a_reader_that_leaves_is_no_error(machine: Machine) -> None:
    machine.write("shop.py", SHOP)
    built = machine.start(["sh", "-c", f"{EXECUTABLE} build shop:app | true"])
    assert built.wait() == 0
    assert "Broken" not in built.output
    assert "Traceback" not in built.output
