"""Two deployments that call each other, for benches/handle_call.py."""

import time

from eagleray import serve


@serve.deployment
class Echo:
    """Answers with what it is given."""

    async def __call__(self, value):
        return value


@serve.deployment
class Caller:
    """Measures calls to another deployment, one after the other."""

    def __init__(self, echo):
        self.echo = echo

    async def measure(self, calls):
        """Nanoseconds of each call."""
        echo, clock, times = self.echo, time.perf_counter_ns, []
        for _ in range(calls):
            began = clock()
            await echo.remote(1)
            times.append(clock() - began)
        return times


app = Caller.bind(Echo.bind())
