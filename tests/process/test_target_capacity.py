"""`target_capacity` of a config: a share of all replicas, as it is deployed, shown, and taken back."""

import pytest

from control import Control
from machine import Machine, eventually

SHOP = """
from eagleray import serve


@serve.deployment(num_replicas=4)
class Fixed:
    def __call__(self, request):
        return "fixed"


@serve.deployment(autoscaling_config={"min_replicas": 2, "max_replicas": 6})
class Scales:
    def __init__(self, fixed):
        pass

    def __call__(self, request):
        return "scales"


app = Scales.bind(Fixed.bind())
"""


@pytest.mark.contract("5/target_capacity")
def test_a_config_sizes_what_runs(machine: Machine) -> None:
    machine.write("shop.py", SHOP)
    machine.environment["PYTHONPATH"] = str(machine.work)
    machine.start_resident()
    control = Control(machine)

    def put(**beside: float) -> None:
        body = {**beside, "applications": [{"name": "shop", "import_path": "shop:app"}]}
        answer = control.ask("PUT", "/api/serve/applications/", body)
        assert answer.status == 200, answer.text

    def run(fixed: int, scales: int) -> None:
        def there() -> bool:
            counts = [len(machine.replicas(f"shop/{name}")) for name in ("Fixed", "Scales")]
            return counts == [fixed, scales]

        eventually(there, f"{fixed} and {scales} replicas; there are {machine.replicas()}")
        eventually(lambda: control.status("shop")["status"] == "RUNNING", "all of it runs")

    put(target_capacity=50)
    run(2, 1)
    assert control.get("/api/serve/applications/").json()["target_capacity"] == 50
    assert "\ntarget_capacity: 50.0\n" in machine.cli("status").stdout
    put(target_capacity=75)
    run(3, 2)
    put()
    run(4, 2)
    assert control.get("/api/serve/applications/").json()["target_capacity"] is None
