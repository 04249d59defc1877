"""What a replica counts of its life beside its requests, for `/metrics`: health checks, `reconfigure`, its event loop.

The event loop is looked at once every five seconds, as Ray Serve does: how late the look comes says how long callbacks
wait there. None of it is on the path of a request.
"""

from __future__ import annotations

import asyncio

from eagleray import _metrics

_EVERY_S = 5.0


class LifeMetrics:
    """Of one replica, on its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deployment: str, replica: str, application: str) -> None:
        of_loop = ("replica", "user_code", replica, deployment, application)
        self._loop = loop
        self._health = _metrics.own("serve_health_check_latency_ms", deployment, application)
        self._reconfigure = _metrics.own("serve_replica_reconfigure_latency_ms", deployment, application)
        self._late = _metrics.own("serve_event_loop_scheduling_latency_ms", *of_loop)
        self._looks = _metrics.own("serve_event_loop_monitoring_iterations", *of_loop)
        self._tasks = _metrics.own("serve_event_loop_tasks", *of_loop)

    def checked(self, seconds: float) -> None:
        """A health check has ended."""
        self._health.record(seconds * 1e3)

    def reconfigured(self, seconds: float) -> None:
        """`reconfigure` has ended."""
        self._reconfigure.record(seconds * 1e3)

    def watch(self) -> None:
        """Looks at the event loop from now on."""
        due = self._loop.time() + _EVERY_S
        self._loop.call_at(due, self._look, due)

    def _look(self, due: float) -> None:
        self._late.record(max(0.0, self._loop.time() - due) * 1e3)
        self._looks.record(1)
        self._tasks.record(len(asyncio.all_tasks(self._loop)))
        self.watch()
