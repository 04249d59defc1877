"""One application that a command serves: how far its newest load and deploy are, and what was said of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eagleray._driver import changes
from eagleray.serve import _log

if TYPE_CHECKING:
    from eagleray._driver.build import Built
    from eagleray._driver.loader import Loader

#: How long the word on a reload waits for the count of requests.
COUNTS_S = 3.0


@dataclass
class Served:
    """An application, from its first load on.

    Attributes:
        order: What its loads are told.
        waiting: It is to be loaded, and that has not begun.
        loader: Who loads it now.
        files: What its last load read.
        built: What was loaded and is not deployed yet.
        deploying: The specification that is on its way.
        deploying_for: What `changed` and `began` were of its load: the next may have begun.
        running: The one that runs.
        changed: Which files its newest load is for; empty: it is the first.
        began: When that was noticed.
        said: The text of many lines that was said of it last.
        line: What is to be said of its last deploy, once the requests of that time are counted.
        line_until: When it is said without.
    """

    order: dict[str, Any]
    waiting: bool = True
    loader: Loader | None = None
    files: frozenset[str] = frozenset()
    built: Built | None = None
    deploying: dict[str, Any] | None = None
    deploying_for: tuple[str, float] = ("", 0.0)
    running: dict[str, Any] | None = None
    changed: str = ""
    began: float = field(default_factory=time.monotonic)
    said: str = ""
    line: str = ""
    line_until: float = 0.0

    def load_again(self, changed: str, began: float) -> None:
        """It is to be loaded; a load that has not ended loads what is old."""
        if self.loader is not None:
            self.loader.end()
            self.loader = None
        if self.line:
            self.line_until = 0.0
            self.say_line(None)
        self.waiting, self.changed, self.began = True, changed, began

    def deploy(self, spec: dict[str, Any]) -> None:
        """This is on its way."""
        self.deploying, self.deploying_for = spec, (self.changed, self.began)

    def runs(self, *, named: bool) -> None:
        """What was on its way runs: `named` with the application, this is said, unless it is the first."""
        assert self.deploying is not None
        changed, began = self.deploying_for
        if changed:
            what = changes.between(self.running, self.deploying)
            name = f"{self.order['name']}: " if named else ""
            now = time.monotonic()
            self.line = f"{changed} changed: {name}{what}, {now - began:.2f} s"
            self.line_until = now + COUNTS_S
        self.running, self.deploying = self.deploying, None
        self.said = ""

    def say_line(self, counted: tuple[int, int] | None) -> None:
        """Says that it runs, with the requests answered and failed meanwhile once they are known, or never will be."""
        if counted is None and time.monotonic() < self.line_until:
            return
        answered, failed = counted or (0, 0)
        requests = f", {failed} of {answered + failed} requests failed" if answered + failed else ""
        _log.logger().info("%s%s", self.line, requests)
        self.line = ""

    def say_failure(self, message: str, shown: str, *, named: bool) -> None:
        """Says what went wrong; a traceback, or a text of many lines, is not said twice in a row."""
        first, _, more = message.partition("\n")
        if self.said == shown + more and self.said:
            shown, message = "", f"{first} (as before)"
        else:
            self.said = shown + more
        goes_on = "what was there goes on serving" if self.running is not None else "nothing is served yet"
        name = f"application {self.order['name']!r}: " if named else ""
        why = f"{self.changed} changed, but " if self.changed else ""
        _log.logger().error(
            "%s%s%s%s\n%s%s; waiting for a change", shown and f"\n{shown}", name, why, message, name, goes_on
        )
