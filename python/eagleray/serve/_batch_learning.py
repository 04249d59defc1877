"""The queue of a batch function with `target_latency_ms`: it measures, and asks `_batch_target` what to do.

Beyond what a queue does: a batch goes when a whole turn of the loop brought no new item. What has arrived at the
process but not yet at the queue needs such a turn, and while every turn brings more, reading it is no waiting. Then,
if it pays, the batch is held for those that are expected (see `Tuner.hold`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from eagleray import _core
from eagleray.serve._batch_item import Item
from eagleray.serve._batch_queue import BatchQueue, Run, Settings
from eagleray.serve._batch_target import Tuner
from eagleray.serve._log import logger


class FineTimer:
    """`call_later` for fractions of a millisecond."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer = _core.Timer()
        self._callback: Callable[[], None] | None = None

    def call_later(self, seconds: float, callback: Callable[[], None]) -> FineTimer:
        """Calls back once, unless it is cancelled; what it was set to before is forgotten."""
        if self._callback is None:
            # Watched only while it is set: whoever drops a queue need not know of it.
            self._loop.add_reader(self._timer.fileno(), self._due)
        self._callback = callback
        self._timer.set(seconds)
        return self

    def cancel(self) -> None:
        """Does not call back."""
        if self._callback is not None:
            self._callback = None
            self._timer.stop()
            self._loop.remove_reader(self._timer.fileno())

    def _due(self) -> None:
        callback = self._callback
        self.cancel()
        if callback is not None:
            callback()


class LearningQueue(BatchQueue):
    """See the module. Its wait is the tuner's, `settings.wait_s` at most."""

    def __init__(self, settings: Settings, run: Run, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(settings, run, name, loop)
        assert settings.target_s is not None
        self.tuner = Tuner(settings.target_s, settings.max_concurrent_batches)
        self._size_limit = min(self.tuner.limit(), settings.max_batch_size)
        # Of the batch that fills: when it could have gone, how many it had a turn ago, until when and to which size it
        # is held; no size: that is not decided yet.
        self._since = 0.0
        self._seen = 0
        self._until = 0.0
        self._goal: float | None = None
        # Timers of loops are as coarse as a millisecond, except those of a loop with a time of its own.
        self._call_later = FineTimer(loop).call_later if self.clock is time.monotonic else loop.call_later
        self._measure: tuple[float, list[Item]] | None = None
        self._warned = False

    def _look(self, *, arrival: bool = False) -> None:
        while self._running < self.settings.max_concurrent_batches and self._waiting:
            self._drop_gone_heads()
            if not self._waiting:
                break
            count = len(self._waiting) - self._gone
            if self._timer is None:
                self._since, self._seen, self._goal = self.clock(), count, None
                if not arrival and not self._kept_loop:
                    self._decide(count, self._since)
            if count >= self._size_limit or (not arrival and self._goal is not None and count >= self._goal):
                self._stop_timer()
                self._hand_over(self.clock())
                continue
            if self._timer is None:
                self._timer = self.loop.call_soon(self._due)
            elif self._goal is not None and count >= self._goal:
                # What else comes in this turn still goes along.
                self._timer.cancel()
                self._timer = self.loop.call_soon(self._due)
            return
        self._stop_timer()

    def settings_changed(self) -> None:
        self._size_limit = min(self.tuner.limit(), self.settings.max_batch_size)
        super().settings_changed()

    def _decide(self, count: int, now: float) -> None:
        hold_s, self._goal = self.tuner.hold(count, now - self._waiting[0].arrived, self._size_limit)
        self._until = self._since + min(hold_s, self.settings.wait_s)

    def _due(self) -> None:
        self._timer = None
        if self._running >= self.settings.max_concurrent_batches:
            return
        self._drop_gone_heads()
        if not self._waiting:
            return
        count, now = len(self._waiting) - self._gone, self.clock()
        if count > self._seen:
            self._seen = count
            self._timer = self.loop.call_soon(self._due)
            return
        if self._goal is None:
            self._decide(count, now)
        if self._goal is None or count >= self._goal or now >= self._until:
            self._hand_over(now)
            self._look()
            return
        self._timer = self._call_later(self._until - now, self._due)

    def _limit(self, now: float) -> int:
        return min(self.tuner.limit(now - self._waiting[0].arrived), self.settings.max_batch_size)

    def _taken(self, batch: list[Item]) -> None:
        # One batch at a time is watched: with several, what arrives during one is in another.
        if self._measure is None:
            self._measure = self._since, batch

    def _measured(self, group: Sequence[Item], seconds: float) -> None:
        # A batch that is split by model is measured by its parts; the first has the oldest item.
        if self._measure is not None and self._measure[1][0] is group[0]:
            (since, batch), self._measure = self._measure, None
            arrived = [item.arrived for item in (*batch, *self._waiting) if item.arrived > since]
            self.tuner.arrivals.learn(self.tuner.cost.fixed_s, since, arrived)
        self.tuner.learn(len(group), seconds)
        self._size_limit = min(self.tuner.limit(), self.settings.max_batch_size)
        if self.tuner.unattainable and not self._warned:
            self._warned = True
            logger().warning(
                "%s() cannot keep target_latency_ms=%g: one item alone takes about %.1f ms; batches are made for "
                "throughput instead",
                self._name, 1000 * (self.settings.target_s or 0), 1000 * self.tuner.cost.mean_s(1),
            )  # fmt: skip


def make_queue(settings: Settings, run: Any, name: str, loop: asyncio.AbstractEventLoop) -> BatchQueue:
    """The queue for these settings."""
    kind = BatchQueue if settings.target_s is None else LearningQueue
    return kind(settings, run, name, loop)
