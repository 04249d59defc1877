"""`make bench`: Eagleray beside its peers and its limit, on this machine, with the load generator beside the server.

Rounds are interleaved (every system once, then all again), so that a slow hour of the machine falls on all alike;
medians over rounds are compared, and a cell in which the machine was not ours is repeated. Every row runs twice: as
shipped, with nothing set, and opened (`max_ongoing_requests=1000`, access logs off on all sides). Ratios go to the
terminal, everything to benches/results/<time>-<commit>.json.

    make bench                                   all of it
    python benches/run.py --rounds 1 --systems eagleray,limit --rows noop_async --only cells

With BENCH_BASELINE naming a virtual environment that has an earlier wheel of Eagleray, that one runs in the same rounds
as `baseline`, and the ratios to it are printed too.
"""

import argparse
import datetime
import json
import subprocess
import sys

import instructions
import machine
from measure import (
    CellFailed,
    measure_asgi_alone,
    measure_balance,
    measure_bodies,
    measure_cleanly,
    measure_control,
    measure_echoes,
    measure_handles,
    measure_memory,
    measure_replicas,
    measure_scaling,
    measure_scrape,
    measure_startup,
)
from report import CELL_HEADER, Results, as_data, bars, cell_rows, table
from setup import iris_model, train
from systems import MODES, ROOT, ROWS, SYSTEMS, own_python

PARTS = (
    *("cells", "memory", "balance", "instructions", "handles", "asgi", "bodies", "echoes", "startup", "scaling"),
    *("control", "replicas", "scrape"),
)
# Those that need neither the load generator nor the limit program.
WITHOUT_LOAD = ("handles", "asgi", "startup", "scaling", "control", "replicas", "scrape")


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4, help="load a cell at 64 connections; half at one")
    parser.add_argument("--warmup", type=float, default=1.5)
    parser.add_argument("--tries", type=int, default=3, help="of a cell in which the machine was not ours")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the memory row")
    for name, known in (("systems", SYSTEMS), ("rows", ROWS), ("modes", MODES), ("only", PARTS)):
        parser.add_argument(f"--{name}", default=",".join(known), help="of " + ", ".join(known))
    chosen = parser.parse_args()
    for name, known in (("systems", SYSTEMS), ("rows", ROWS), ("modes", MODES), ("only", PARTS)):
        names = getattr(chosen, name).split(",")
        if unknown := sorted(set(names) - set(known)):
            parser.error(f"--{name}: {', '.join(unknown)} is not one of {', '.join(known)}")
        setattr(chosen, name, names)
    return chosen


def build(parts):
    """The generator and the limit program, if a part needs them, and the model of our iris row."""
    packages = ["-p", "eagleray-bench-load", "-p", "eagleray-bench-limit"]
    if not set(parts) <= set(WITHOUT_LOAD):
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", *packages], cwd=ROOT, check=True)
    if not iris_model("eagleray").exists():
        train("eagleray", own_python())


def available(names):
    """The systems that can run here; the others are named."""
    found = []
    for name in names:
        if reason := SYSTEMS[name].missing():
            print(f"skipped: {SYSTEMS[name].title}, {reason}", flush=True)
        else:
            found.append(SYSTEMS[name])
    return found


def run_cells(chosen, systems):
    results = Results()
    for number in range(1, chosen.rounds + 1):
        for row in chosen.rows:
            for mode in chosen.modes:
                for system in systems:
                    if row in system.rows and mode in system.modes and mode in ROWS[row].modes:
                        cell = run_cell(chosen, system, row, mode)
                        results.add(row, mode, system.name, cell)
                        print(f"round {number}/{chosen.rounds}  {row} {mode} {system.name}: {brief(cell)}", flush=True)
    return results


def run_cell(chosen, system, row, mode):
    try:
        return measure_cleanly(system, row, mode, chosen.seconds, chosen.warmup, chosen.tries)
    except (CellFailed, subprocess.TimeoutExpired) as error:
        return {"failed": str(error)}


def brief(cell):
    if "failed" in cell:
        return "FAILED: " + cell["failed"]
    many = cell["many"]
    return (
        f"{many['rps']:,.0f}/s, {many['server_us_per_request']:.1f} us, start {cell['start_s']:.2f} s"
        f" (foreign {many['foreign_cores']:.2f}, steal {many['steal_cores']:.2f}, tries {cell['tries']})"
    )


def attempt(wanted, what, call, otherwise):
    """A part beside the cells: its failure is printed, and the rest goes on."""
    if not wanted:
        return otherwise
    print(what, flush=True)
    try:
        return call()
    except (CellFailed, subprocess.TimeoutExpired) as error:
        print(f"FAILED: {error}", flush=True)
        return otherwise


def commit():
    """The commit under test, `-dirty` if the tree has changes."""
    git = ["git", "-C", str(ROOT)]
    name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False).stdout
    return (name.strip() or "unknown") + ("-dirty" if changed.strip() else "")


def main():
    chosen = options()
    machine.become_subreaper()
    build(chosen.only)
    systems = available(chosen.systems)
    eagleray = next((system for system in systems if system.name == "eagleray"), None)
    results = run_cells(chosen, systems if "cells" in chosen.only else [])

    def part(name):
        return eagleray is not None and name in chosen.only

    memory = attempt(
        *(part("memory"), f"memory over {chosen.requests:,} requests"),
        *(lambda: measure_memory(eagleray, chosen.requests), []),
    )
    balance = attempt(
        *(part("balance"), "balance between two replicas"),
        *(lambda: measure_balance(eagleray, chosen.seconds), {}),
    )
    counted = {"skipped": "not asked for"}
    if part("instructions"):
        print("instructions in the proxy", flush=True)
        counted = instructions.measure()

    handles = attempt(part("handles"), "calls between replicas, and arrays of 64 MiB", measure_handles, {})

    asgi = attempt(part("asgi"), "FastAPI with nothing around it", measure_asgi_alone, {})

    bodies = attempt(part("bodies"), "bodies of 1 GiB, down and up", measure_bodies, {})

    echoes = attempt(part("echoes"), "messages of WebSockets, small and big", measure_echoes, {})

    # A cold start is what `eagleray run` takes, a command as the others.
    wanted = part("startup") or part("control")
    startup = attempt(wanted, "cold starts and reloads", measure_startup, {})

    scaling = attempt(part("scaling"), "bursts, and the first request to none", measure_scaling, {})

    control = attempt(part("control"), "status, deploy and logs at a prompt", measure_control, {})

    replicas = attempt(part("replicas"), "one replica more", measure_replicas, {})

    scrape = attempt(part("scrape"), "/metrics of a large node", measure_scrape, {})

    several = (handles, asgi, bodies, echoes, startup, scaling, control, replicas, scrape)
    found = bars(results, memory, balance, counted, *several)
    print("\n" + table(CELL_HEADER, list(cell_rows(results))))
    print("\n" + table(("work", "value", "bar", "verdict", "note"), [bar.row() for bar in found]))
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    path = ROOT / "benches" / "results" / f"{now}-{commit()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "time": now,
        "commit": commit(),
        "machine": machine.facts(),
        "options": vars(chosen),
        "bars": as_data(found),
        "cells": [
            {"row": row, "mode": mode, "system": system, "rounds": rounds}
            for (row, mode, system), rounds in results.cells.items()
        ],
        "memory": memory,
        "balance": balance,
        "instructions": counted,
        "handles": handles,
        "asgi": asgi,
        "bodies": bodies,
        "echoes": echoes,
        "startup": startup,
        "scaling": scaling,
        "control": control,
        "replicas": replicas,
        "scrape": scrape,
    }
    path.write_text(json.dumps(data, indent=1) + "\n")
    print(f"\n{path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
