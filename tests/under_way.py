"""Requests that are under way, and what the controller knows of them."""

import threading
from typing import Any

from control import Control
from machine import Answer, eventually, request


def load(control: Control) -> dict[str, Any]:
    (deployment,) = control.status("default")["deployments"]
    found = deployment["load"]
    assert isinstance(found, dict), deployment
    return found


def wait_for(control: Control, queued: int, running: int) -> dict[str, Any]:
    """Waits until so much is known."""
    seen: list[dict[str, Any]] = []

    def known() -> dict[str, Any]:
        seen[:] = [load(control)]
        now = seen[0]
        return now if (now["queued"], now["running"]) == (queued, running) else {}

    return eventually(known, f"{queued} wait and {running} run, and not {seen}")


class Requests:
    """Requests over HTTP that are under way, each in a thread of its own."""

    def __init__(self, address: str, count: int):
        self.outcomes: list[Answer | OSError] = []
        self._threads = [threading.Thread(target=self._run, args=(address,), daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, address: str) -> None:
        try:
            self.outcomes.append(request("POST", address + "/", b""))
        except OSError as error:
            self.outcomes.append(error)

    def join(self) -> list[Answer | OSError]:
        for thread in self._threads:
            thread.join(60)
        return self.outcomes
