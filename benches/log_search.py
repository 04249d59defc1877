"""`GET /api/v1/logs?request=ID` and `eagleray logs --request ID` over a gigabyte of logs of a running node.

The logs are those of requests, as proxies write them, and of replicas, in files of the size at which logs are turned
over, with a few requests spread over all of them. The index is made as it always is, while they are written; how long
after the last line it is whole is told, and what a search takes before.

    .venv/bin/python benches/log_search.py [--mebibytes 1024] [--json]
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

BAR_MS = 200
FILE_BYTES = 64 * 1024 * 1024
ROUNDS = 21
EAGLERAY = Path(sys.executable).with_name("eagleray")


def main():
    """Measures, and ends what it started."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="er-logs-", ignore_cleanup_errors=True) as work:
        environment = os.environ | {
            "EAGLERAY_RUNTIME_DIR": f"{work}/run",
            "XDG_STATE_HOME": f"{work}/state",
            "EAGLERAY_CONTROL_PORT": "0",
        }
        command = [EAGLERAY, "start", "--http-port", "0", "--name", "bench"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        try:
            found = measure(Path(work), chosen.mebibytes << 20, environment)
        finally:
            command = [EAGLERAY, "stop", "--name", "bench"]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    if chosen.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name.replace('_', ' '):28} {value:10.1f}")
    print(f"{'bar, ms':28} {BAR_MS:10.1f}")


def measure(work, wanted, environment):
    """Numbers by name: of requests, and of the command from its start to its end."""
    (record,) = work.glob("run/*/node.json")
    address = json.loads(record.read_text())["control_address"]
    token = (record.parent / "token").read_text().strip()
    logs = record.parent / "logs"
    request_ids, written, lines = write(logs.resolve(), wanted)

    def ask(request_id):
        began = time.perf_counter()
        url = f"{address}/api/v1/logs?request={request_id}"
        asked = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=600) as answer:
            found = answer.read().splitlines()
        took = 1000 * (time.perf_counter() - began)
        assert len(found) == lines, (request_id, len(found))
        return took

    def command(request_id):
        began = time.perf_counter()
        asked = [EAGLERAY, "logs", "--request", request_id]
        found = subprocess.run(asked, env=environment, check=True, stdout=subprocess.PIPE).stdout.splitlines()
        took = 1000 * (time.perf_counter() - began)
        assert len(found) == lines, (request_id, len(found))
        return took

    began = time.perf_counter()
    first = ask(request_ids[0])
    index = logs / "index"
    # Every file but its last block, and the small ones of the node.
    sizes = {
        path.stat().st_ino: path.stat().st_size for path in logs.glob("*.log*") if path.stat().st_size > FILE_BYTES / 2
    }
    while not all(list(index.glob(f"*-{inode:x}")) for inode in sizes) or grows(index):
        pass
    indexed = time.perf_counter() - began
    ask(request_ids[0])
    took = [ask(request_ids[number % len(request_ids)]) for number in range(ROUNDS)]
    commands = [command(request_ids[number % len(request_ids)]) for number in range(ROUNDS)]
    return {
        "logs_MiB": written / 2**20,
        "before_ms": first,
        "index_whole_after_s": indexed,
        "index_MiB": sum(path.stat().st_size for path in index.iterdir()) / 2**20,
        "median_ms": statistics.median(took),
        "worst_ms": max(took),
        "command_median_ms": statistics.median(commands),
        "command_worst_ms": max(commands),
    }


def grows(index):
    """Whether the index has grown while three looks at the logs went by."""
    before = sum(path.stat().st_size for path in index.iterdir())
    time.sleep(3)
    return sum(path.stat().st_size for path in index.iterdir()) != before


def write(logs, wanted):
    """Fills the directory; says which requests are in it, how much was written, and how many lines each of them has."""
    request_ids = [str(uuid.uuid4()) for _ in range(8)]
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()
    written = files = lines = 0
    while written < wanted:
        is_access = files % 2 == 0
        name = f"access.log.{files // 2 + 100}" if is_access else f"replica_shop_Rank_r{files:07}.log"
        text = access_lines if is_access else replica_lines
        with (logs / name).open("w") as file:
            count = 0
            while count < min(FILE_BYTES, wanted - written):
                at += 1
                count += file.write("".join(text(at, f"r{files:07}", [str(uuid.uuid4()) for _ in range(400)])))
            file.write("".join(text(at, f"r{files:07}", request_ids)))
        lines += 1
        written += count
        files += 1
    return request_ids, written, lines


def access_lines(at, _replica, request_ids):
    """As proxies write them."""
    now = datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    for number, request_id in enumerate(request_ids):
        yield f"{now}.{number:03}Z [{request_id}] POST /rank/items 200 {number / 10}ms\n"


def replica_lines(at, replica, request_ids):
    """As replicas write them."""
    now = datetime.datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")
    for number, request_id in enumerate(request_ids):
        yield f"INFO {now},{number:03} shop/Rank {replica} 0a1b2c3d {request_id} -- ranked {number} items of the cart\n"


if __name__ == "__main__":
    main()
