"""Bodies of 1 GiB, down and up, over HTTP/1.1, TLS and HTTP/2: Eagleray beside uvicorn, alone and behind nginx.

    .venv/bin/python benches/bodies.py [--rounds 5] [--mebibytes 1024] [--systems eagleray,uvicorn,nginx,baseline]

All serve the same ASGI application (apps/bodies_app.py); the client is curl. Rounds are interleaved: every system
carries a body one way, then the next way. Prints medians in MB/s, the CPU seconds of all processes of the server, and
how far the memory of all of them together grew, as JSON. uvicorn has no HTTP/2: there it is measured over TLS, as nginx
speaks with it.

Needs curl and openssl; uvicorn with uvloop and httptools from `make bench-setup`; nginx where it is installed.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import machine
from measure import CellFailed, free_port, tail, wait_until
from setup import venv_python
from systems import APPS, baseline_python, own_python

WAYS = [(direction, kind) for kind in ("plain", "tls", "http2") for direction in ("down", "up")]
SYSTEMS = ("eagleray", "uvicorn", "nginx", "baseline")
NGINX = """
worker_processes 1; daemon off; pid {scratch}/nginx.pid; error_log {scratch}/nginx.log;
events {{ }}
http {{
  access_log off; client_max_body_size 0; proxy_request_buffering off; proxy_buffering on; proxy_max_temp_file_size 0;
  client_body_temp_path {scratch}/a; proxy_temp_path {scratch}/b; fastcgi_temp_path {scratch}/c;
  uwsgi_temp_path {scratch}/d; scgi_temp_path {scratch}/e;
  server {{
    listen 127.0.0.1:{port}{listen}; {tls}
    location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


def missing(system):
    """Why a system cannot run here, or None."""
    if system in ("uvicorn", "nginx") and not venv_python("fastapi").exists():
        return "no uvicorn: make bench-setup"
    if system == "nginx" and shutil.which("nginx") is None:
        return "nginx is not installed"
    if system == "baseline" and baseline_python() is None:
        return "BENCH_BASELINE names no environment"
    return None


def certificate(scratch):
    """A certificate for this machine, and its key."""
    paths = [str(scratch / "certificate.pem"), str(scratch / "key.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


@contextlib.contextmanager
def serving(system, kind, mebibytes, scratch):
    """Runs one system; yields its port."""
    port, tls = free_port(), certificate(scratch) if kind != "plain" else []
    environment = {
        **os.environ,
        "BENCH_BODY_BYTES": str(mebibytes * 2**20),
        "PYTHONPATH": str(APPS),
        "EAGLERAY_RUNTIME_DIR": str(scratch / "run"),
        "XDG_STATE_HOME": str(scratch / "state"),
    }
    commands = []
    if system in ("eagleray", "baseline"):
        python = own_python() if system == "eagleray" else baseline_python()
        commands.append([python, APPS / "bodies_app.py", port, *tls])
    else:
        behind = port if system == "uvicorn" else free_port()
        command = [venv_python("fastapi"), "-m", "uvicorn", "bodies_app:app", "--host", "127.0.0.1", "--port", behind]
        command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        if system == "uvicorn" and tls:
            command += ["--ssl-certfile", tls[0], "--ssl-keyfile", tls[1]]
        commands.append(command)
    if system == "nginx":
        listen = "" if kind == "plain" else " ssl" + (" http2" if kind == "http2" else "")
        words = f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};" if tls else ""
        text = NGINX.format(scratch=scratch, port=port, listen=listen, tls=words, behind=behind)
        (scratch / "nginx.conf").write_text(text)
        commands.append(["nginx", "-p", scratch, "-c", scratch / "nginx.conf"])
    tops, log = [], scratch / "log"
    try:
        with log.open("wb") as output:
            for command in commands:
                words = [str(part) for part in command]
                tops.append(
                    subprocess.Popen(
                        words, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=scratch
                    )
                )
        wait_until(lambda: curl(port, kind, "--range", "0-0", "-X", "POST", "-d", "x") is not None, tops, log)
        yield port
    finally:
        machine.end(tops)


def curl(port, kind, *arguments):
    """What curl reports of one request; None if it was not answered with 200."""
    url = f"{'http' if kind == 'plain' else 'https'}://localhost:{port}/"
    version = "--http2" if kind == "http2" else "--http1.1"
    form = '{"code": %{http_code}, "seconds": %{time_total}, "down": %{size_download}, "up": %{size_upload}}'
    command = ["curl", "-4", "-s", "-k", version, "-H", "Expect:", "-o", os.devnull, "-w", form, *arguments, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    report = json.loads(done.stdout) if done.returncode == 0 else {"code": 0}
    return report if report["code"] == 200 else None


class Memory:
    """The most that all processes of a server together had, looked at while a body is under way."""

    def __init__(self):
        self._pids = list(machine.descendants())
        self.first = self.most = machine.pss_mib_of(self._pids)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._thread.join()

    def _watch(self):
        while not self._ends.wait(0.05):
            self.most = max(self.most, machine.pss_mib_of(self._pids))


def carry(system, direction, kind, mebibytes, scratch, file):
    """One body one way."""
    with serving(system, kind, mebibytes, scratch) as port:
        arguments = ("-X", "POST", "-T", str(file)) if direction == "up" else ()
        before = sum(machine.cpu_seconds().values())
        report = curl(port, kind, *arguments)
        cpu = sum(machine.cpu_seconds().values()) - before
        if report is None or report[direction] != mebibytes * 2**20:
            raise CellFailed(f"{system}, {direction}, {kind}: {report}, {tail(scratch / 'log')}")
        # Apart: what looks at memory takes time of a core.
        with Memory() as memory:
            curl(port, kind, *arguments)
    return {
        "megabytes_per_second": report[direction] / report["seconds"] / 1e6,
        "cpu_seconds": cpu,
        "grew_mib": memory.most - memory.first,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--ways", default=",".join("-".join(way) for way in WAYS))
    chosen = parser.parse_args()
    machine.become_subreaper()
    skipped = {name: reason for name in chosen.systems.split(",") if (reason := missing(name))}
    systems = [name for name in chosen.systems.split(",") if name not in skipped]
    found = {}
    with tempfile.TemporaryDirectory(prefix="eb-", dir="/tmp") as folder:
        file = Path(folder, "body")
        with file.open("wb") as body:
            body.truncate(chosen.mebibytes * 2**20)
        for number in range(chosen.rounds):
            for way in chosen.ways.split(","):
                for system in systems:
                    scratch = Path(tempfile.mkdtemp(prefix="eb-", dir="/tmp"))
                    try:
                        cell = carry(system, *way.split("-"), chosen.mebibytes, scratch, file)
                    finally:
                        shutil.rmtree(scratch, ignore_errors=True)
                    found.setdefault(way, {}).setdefault(system, []).append(cell)
                    brief = ", ".join(f"{name} {value:.2f}" for name, value in cell.items())
                    print(f"round {number + 1}/{chosen.rounds}  {way} {system}: {brief}", file=sys.stderr, flush=True)
    medians = {
        way: {
            system: {name: statistics.median(cell[name] for cell in cells) for name in cells[0]}
            for system, cells in systems.items()
        }
        for way, systems in found.items()
    }
    print(json.dumps({"skipped": skipped, "ways": medians}, indent=1))


if __name__ == "__main__":
    main()
