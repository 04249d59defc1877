"""Boards and alert rules: a real Prometheus scrapes a node and evaluates every expression of them."""

import json
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from machine import ROOT, Machine, eventually, request

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
RULES = ROOT / "deploy" / "prometheus" / "eagleray.rules.yml"
BOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="no prometheus here (Debian's package of that name has it)"
)

APP = """
from eagleray import serve

@serve.deployment(health_check_period_s=0.3, autoscaling_config={"min_replicas": 1, "max_replicas": 2})
class App:
    @serve.batch(max_batch_size=4)
    async def several(self, items):
        return items

    async def __call__(self, request):
        await self.several(1)
        if "raise" in request.query_params:
            raise KeyError("no such thing")
        return "made"

app = App.bind()
"""


def expressions() -> Iterator[tuple[str, str]]:
    """Every panel's, with all applications and deployments chosen, and every alert's."""
    for board in BOARDS:
        for panel in json.loads(board.read_text())["panels"]:
            for target in panel["targets"]:
                text = target["expr"].replace("$application", ".*").replace("$deployment", ".*")
                yield f"{board.stem}: {panel['title']}", text


@needs_prometheus
def test_the_rules_are_ones_that_prometheus_takes() -> None:
    checked = subprocess.run([str(PROMTOOL), "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "SUCCESS" in checked.stdout


@needs_prometheus
def test_every_panel_shows_something_of_a_node_with_traffic(machine: Machine) -> None:
    started = machine.cli("start", "--http-port", "0", "--metrics-port", "0")
    assert started.returncode == 0, started.stdout + started.stderr
    (node,) = machine.nodes()
    machine.write("shop.py", APP)
    deployed = machine.cli("deploy", "shop:app")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    address = machine.address(name="default")
    config = machine.write(
        "prometheus.yml",
        f"""
global: {{scrape_interval: 300ms, evaluation_interval: 300ms}}
rule_files: ["{RULES}"]
scrape_configs:
- job_name: eagleray
  static_configs: [{{targets: ["{node["metrics_address"].removeprefix("http://")}"]}}]
""",
    )
    prometheus = machine.start(
        [
            str(PROMETHEUS),
            f"--config.file={config}",
            f"--storage.tsdb.path={machine.work / 'series'}",
            "--web.listen-address=127.0.0.1:0",
            "--log.level=info",
        ]
    )
    line = prometheus.wait_for_line(r"Listening on.*address=(127\.0\.0\.1:\d+)")
    api = f"http://{line.group(1)}/api/v1"

    def value(expression: str) -> Any:
        answer = request("GET", f"{api}/query?query={urllib.parse.quote(expression)}")
        # It listens before it is ready.
        assert answer.status in (200, 503), f"{expression}: {answer.text}"
        return answer.json()["data"]["result"] if answer.status == 200 else []

    def shows(expression: str) -> bool:
        for path in ("/", "/?raise=1", "/nowhere"):
            request("GET", address + path)
        return bool(value(expression))

    for name, expression in expressions():
        eventually(lambda text=expression: shows(text), f"{name} shows something: {expression}", 30)
    groups = request("GET", f"{api}/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == RULES.read_text().count("- alert:")
    eventually(
        lambda: all(
            rule["health"] == "ok"
            for group in request("GET", f"{api}/rules").json()["data"]["groups"]
            for rule in group["rules"]
        ),
        "every rule was evaluated without an error",
    )
    prometheus.interrupt()
