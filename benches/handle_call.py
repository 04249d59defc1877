"""A handle call between two replicas, beside an asyncio `Protocol` echo over a unix socket between two processes.

One caller, one small argument, one call after the other; rounds of the two are interleaved, and medians are compared.
The echo is what two Python processes need to exchange a few bytes at all: no call, no pickling, no request. Its loop is
asyncio's own, as the bar says; beside it stands one on uvloop, which replicas use, for what is left to gain.

    python benches/handle_call.py                 a table
    python benches/handle_call.py --json          for a program
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "apps"))

BAR = 3.0
MESSAGE = b"x" * 64


def new_loop(kind):
    """An event loop: asyncio's, or the one that a replica has."""
    if kind == "asyncio":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


class EchoServer(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class EchoClient(asyncio.Protocol):
    """Sends the next message when the last one has come back."""

    def __init__(self, exchanges, done):
        self.left, self.done, self.times = exchanges, done, []

    def connection_made(self, transport):
        self.transport = transport
        self._send()

    def _send(self):
        self.began = time.perf_counter_ns()
        self.transport.write(MESSAGE)

    def data_received(self, data):
        self.times.append(time.perf_counter_ns() - self.began)
        self.left -= 1
        if self.left:
            self._send()
        else:
            self.transport.close()
            self.done.set_result(self.times)


def serve_echo(path, kind):
    """The echo's server process."""
    loop = new_loop(kind)
    loop.run_until_complete(loop.create_unix_server(EchoServer, path))
    print("ready", flush=True)
    loop.run_forever()


def echo_times(path, kind, exchanges):
    """The echo's client process: nanoseconds of each exchange, as JSON on standard output."""
    loop = new_loop(kind)
    done = loop.create_future()
    loop.run_until_complete(loop.create_unix_connection(lambda: EchoClient(exchanges, done), path))
    print(json.dumps(loop.run_until_complete(done)))


@contextlib.contextmanager
def echo(kind, folder):
    """A running echo server; yields what measures exchanges with it."""
    path = f"{folder}/{kind}.sock"
    program = [sys.executable, __file__, "--loop", kind]
    with subprocess.Popen([*program, "--echo-server", path], stdout=subprocess.PIPE) as server:
        try:
            server.stdout.readline()

            def times(exchanges):
                command = [*program, "--echo-client", path, "--calls", str(exchanges)]
                return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

            yield times
        finally:
            server.kill()


def measure(calls, rounds):
    """Medians of each round, in microseconds, of the call and of the echoes."""
    import handles_app

    from eagleray import serve

    serve.start(http_options={"port": 0})
    handle = serve.run(handles_app.app, name="handles", route_prefix=None)
    medians = {"call": [], "asyncio": [], "uvloop": []}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="eb-", dir="/tmp"))
        measured = {kind: stack.enter_context(echo(kind, folder)) for kind in ("asyncio", "uvloop")}
        measured["call"] = lambda count: handle.measure.remote(count).result(timeout_s=120)
        measured["call"](calls)
        for _ in range(rounds):
            for name, times in measured.items():
                medians[name].append(statistics.median(times(calls)) / 1000)
    serve.shutdown()
    return medians


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=5000, help="of one round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loop", default="asyncio", help=argparse.SUPPRESS)
    parser.add_argument("--echo-server", metavar="PATH", help=argparse.SUPPRESS)
    parser.add_argument("--echo-client", metavar="PATH", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.echo_server:
        serve_echo(chosen.echo_server, chosen.loop)
    if chosen.echo_client:
        echo_times(chosen.echo_client, chosen.loop, chosen.calls)
        return 0
    rounds = measure(chosen.calls, chosen.rounds)
    p50 = {name: statistics.median(medians) for name, medians in rounds.items()}
    ratio = p50["call"] / p50["asyncio"]
    if chosen.json:
        print(json.dumps({"p50_us": p50, "rounds": rounds, "ratio": ratio, "bar": BAR}))
    else:
        print(
            f"p50 of a handle call {p50['call']:.1f} us, of an asyncio echo {p50['asyncio']:.1f} us: "
            f"{ratio:.2f} times (bar {BAR}); of a uvloop echo {p50['uvloop']:.1f} us"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
