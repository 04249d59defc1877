"""The result of a build is offered until the controller takes it."""

import time
from typing import Any

import pytest

from eagleray._driver import build_process
from eagleray._driver.build_process import hand_over


class Controller:
    """Fails as told, then takes what it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.told: list[dict[str, Any]] = []

    def built(self, answer: dict[str, Any]) -> None:
        self.told.append(answer)
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_process, "_AGAIN_S", 0.001)


def test_a_controller_that_is_away_or_cannot_save_is_asked_again(capfd: pytest.CaptureFixture[str]) -> None:
    controller = Controller(ConnectionError("it died"), RuntimeError("disk full"), ConnectionError("away"))
    hand_over(controller.built, {"build": 7}, time.monotonic() + 60)
    assert controller.told == [{"build": 7}] * 4
    assert capfd.readouterr().err == "the result of the build is offered again: it died\n"


def test_what_is_wrong_with_the_result_is_said_once() -> None:
    controller = Controller(ValueError("blob x is not there"))
    with pytest.raises(ValueError, match="blob x"):
        hand_over(controller.built, {}, time.monotonic() + 60)
    assert len(controller.told) == 1


def test_it_ends_with_the_time_of_the_build() -> None:
    controller = Controller(*[ConnectionError("away") for _ in range(100_000)])
    began = time.monotonic()
    with pytest.raises(ConnectionError, match="away"):
        hand_over(controller.built, {}, began + 0.05)
    assert len(controller.told) > 1
