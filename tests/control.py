"""The control port of a node, as tests ask it."""

import os
from typing import Any

from machine import Answer, Machine, request

# The Python of an environment that has Ray Serve, which is not ours.
RAY = os.environ.get("EAGLERAY_TEST_RAY", "")


class Control:
    """The control port of one node, with its token."""

    def __init__(self, machine: Machine, owner: int = 0):
        (node,) = (node for node in machine.nodes() if node["owner_pid"] == owner)
        self.address: str = node["control_address"]
        self.directory = machine.runtime / node["name"]

    @property
    def token(self) -> str:
        return (self.directory / "token").read_text().strip()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.token}"
        return request(method, self.address + path, body, headers)

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def status(self, application: str) -> dict[str, Any]:
        answer = self.get(f"/api/v1/status?application={application}")
        assert answer.status == 200, answer.text
        (found,) = answer.json()["applications"]
        return dict(found)
