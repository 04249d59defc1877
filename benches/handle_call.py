"""A handle call between two replicas, beside an asyncio `Protocol` echo over a unix socket between two processes.

One caller, one small argument, one call after the other; rounds of the two are interleaved, and medians are compared.
The echo is what two Python processes need to exchange a few bytes at all: no call, no pickling, no request. Its loop is
the one that replicas use.

    python benches/handle_call.py                 a table
    python benches/handle_call.py --json          for a program
"""

import argparse
import asyncio
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


def new_loop():
    """The loop that a replica would have."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
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


def serve_echo(path):
    """The echo's server process."""
    loop = new_loop()
    loop.run_until_complete(loop.create_unix_server(EchoServer, path))
    print("ready", flush=True)
    loop.run_forever()


def echo_times(path, exchanges):
    """The echo's client process: nanoseconds of each exchange, as JSON on standard output."""
    loop = new_loop()
    done = loop.create_future()
    loop.run_until_complete(loop.create_unix_connection(lambda: EchoClient(exchanges, done), path))
    print(json.dumps(loop.run_until_complete(done)))


def of_echo(path, exchanges):
    command = [sys.executable, __file__, "--echo-client", path, "--calls", str(exchanges)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure(calls, rounds):
    """Medians of each round, in microseconds, of the call and of the echo."""
    import handles_app

    from eagleray import serve

    serve.start(http_options={"port": 0})
    handle = serve.run(handles_app.app, name="handles", route_prefix=None)
    medians = {"call": [], "echo": []}
    with tempfile.TemporaryDirectory(prefix="eb-", dir="/tmp") as folder:
        path = folder + "/echo.sock"
        command = [sys.executable, __file__, "--echo-server", path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            try:
                server.stdout.readline()
                handle.measure.remote(calls).result(timeout_s=120)
                for _ in range(rounds):
                    medians["echo"].append(statistics.median(of_echo(path, calls)) / 1000)
                    times = handle.measure.remote(calls).result(timeout_s=120)
                    medians["call"].append(statistics.median(times) / 1000)
            finally:
                server.kill()
    serve.shutdown()
    return medians


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=5000, help="of one round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--echo-server", metavar="PATH", help=argparse.SUPPRESS)
    parser.add_argument("--echo-client", metavar="PATH", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.echo_server:
        serve_echo(chosen.echo_server)
    if chosen.echo_client:
        echo_times(chosen.echo_client, chosen.calls)
        return 0
    medians = measure(chosen.calls, chosen.rounds)
    call, echo = statistics.median(medians["call"]), statistics.median(medians["echo"])
    if chosen.json:
        print(json.dumps({"p50_us": {"call": call, "echo": echo}, "rounds": medians, "ratio": call / echo, "bar": BAR}))
    else:
        print(f"p50 of a handle call {call:.1f} us, of an echo {echo:.1f} us: {call / echo:.2f} times (bar {BAR})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
