"""Requests that Schemathesis draws from the description of the control API, right ones and wrong ones.

No answer is an error of ours, and nothing is accepted without the token, nor with another one. `make rest-fuzz` sends
2,000 cases, or `REST_CASES`; every run of the tests sends fewer. `test_rest_fuzz.py` draws what no schema would.
"""

import json
import os
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from control import Control
from machine import ROOT, Machine

CASES = int(os.environ.get("EAGLERAY_TEST_REST_CASES") or 200)
#: What would end the node, what takes as long as a build, and answers that do not end.
LEFT_OUT = {"/api/v1/shutdown", "/api/v1/plans"}
#: Drawn together: what it costs to begin is spent once for them.
TOGETHER = 10
#: A case and its two repetitions, on a machine that is busy.
CASE_S = 0.3


def operations() -> list[Any]:
    schema = schemathesis.openapi.from_dict(json.loads((ROOT / "docs" / "reference" / "openapi.json").read_text()))
    found = [operation.ok() for operation in schema.get_all_operations()]
    return [operation for operation in found if operation.path not in LEFT_OUT]


class Counted:
    """Sends cases, and judges the answers."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.session = requests.Session()
        self.statuses: dict[int, int] = {}

    def send(self, case: Any) -> None:
        sent = case.as_transport_kwargs(base_url=self.control.address)
        sent["headers"] = {name: value for name, value in sent["headers"].items() if name.lower() != "authorization"}
        if "follow" in (sent.get("params") or {}):
            del sent["params"]["follow"]
        answer = self.ask(sent, f"Bearer {self.control.token}")
        assert answer.status_code < 500, (case.as_curl_command(), answer.status_code, answer.text)
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        for token in (None, "Bearer of-another-node"):
            refused = self.ask(sent, token)
            assert refused.status_code == 401, (case.as_curl_command(), token, refused.status_code, refused.text)

    def ask(self, sent: dict[str, Any], token: str | None) -> requests.Response:
        headers = sent["headers"] | ({"Authorization": token} if token else {})
        return self.session.request(**(sent | {"headers": headers}), timeout=30, allow_redirects=False)


def of_one(operation: Any, rounds: int, counted: Counted) -> Any:
    """Sends cases of one operation."""

    @settings(
        max_examples=rounds,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        mode = data.draw(st.sampled_from(list(GenerationMode)))
        for _ in range(TOGETHER):
            counted.send(data.draw(operation.as_strategy(generation_mode=mode)))

    return run


@pytest.mark.timeout(60 + CASES * CASE_S)
@pytest.mark.filterwarnings("ignore")
def test_what_the_description_allows_and_what_it_does_not(machine: Machine) -> None:
    machine.start_resident()
    counted = Counted(Control(machine))
    all_of_them = operations()
    rounds = -(-CASES // (len(all_of_them) * TOGETHER))
    for operation in all_of_them:
        of_one(operation, rounds, counted)()
    counted.session.close()
    assert sum(counted.statuses.values()) >= CASES, counted.statuses
    assert counted.statuses.get(200, 0) > CASES / 50, f"some of it is right: {counted.statuses}"
    assert counted.statuses.get(400, 0) > CASES / 50, f"some of it is wrong: {counted.statuses}"
    print(f"REST: {sum(counted.statuses.values())} cases by status: {dict(sorted(counted.statuses.items()))}")
