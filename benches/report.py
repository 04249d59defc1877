"""Medians, ratios and bars, as a table for the terminal and as data for the file."""

import statistics
from dataclasses import asdict, dataclass

from systems import CHUNKS_PER_RESPONSE, IRIS_TARGET_MS, MODES, PLAIN_ROWS, ROWS, STREAM_ROWS, SYSTEMS


@dataclass(frozen=True)
class Bar:
    """One bar of the benchmark: a value that must not be above (or below) a bound.

    No value: not measured. No bound: the value is only told.
    """

    work: str
    value: float | None
    relation: str
    bound: float | None
    note: str = ""

    @property
    def verdict(self):
        if self.value is None:
            return "skipped"
        if self.bound is None:
            return "told"
        met = self.value <= self.bound if self.relation == "<=" else self.value >= self.bound
        return "met" if met else "MISSED"

    def row(self):
        value = "-" if self.value is None else f"{self.value:.2f}"
        bound = "-" if self.bound is None else f"{self.relation} {self.bound:g}"
        return (self.work, value, bound, self.verdict, self.note)


class Results:
    """Cells by (row, mode, system), each a list with one entry a round."""

    def __init__(self):
        self.cells = {}

    def add(self, row, mode, system, cell):
        self.cells.setdefault((row, mode, system), []).append(cell)

    def values(self, row, mode, system, *path):
        """The numbers under `path` in every good cell."""
        found = []
        for cell in self.cells.get((row, mode, system), []):
            if "failed" in cell:
                continue
            value = cell
            for key in path:
                value = value[key]
            found.append(value)
        return found

    def median(self, row, mode, system, *path):
        values = self.values(row, mode, system, *path)
        return statistics.median(values) if values else None

    def ratio(self, above, below):
        """Median over median; each is (row, mode, system, path...)."""
        top, bottom = self.median(*above), self.median(*below)
        return top / bottom if top is not None and bottom else None


def spread(values, form):
    """`median [least-most]`."""
    if not values:
        return "-"
    middle = format(statistics.median(values), form)
    return f"{middle} [{min(values):{form}}-{max(values):{form}}]"


def cell_rows(results):
    for row in ROWS:
        for mode in MODES:
            for name in SYSTEMS:
                cells = results.cells.get((row, mode, name))
                if not cells:
                    continue

                def of(*path, row=row, mode=mode, name=name):
                    return results.values(row, mode, name, *path)

                failed = sum("failed" in cell for cell in cells)
                notes = [f"{failed} failed"] if failed else []
                dirty = sum(cell.get("processes_disturbed", False) for cell in cells)
                notes += [f"{dirty} disturbed"] if dirty else []
                bad = sum(of("many", "non2xx")) + sum(of("many", "errors"))
                notes += [f"{bad} not 2xx"] if bad else []
                yield (
                    *(row, mode, name),
                    spread(of("many", "rps"), ",.0f"),
                    spread(of("many", "server_us_per_request"), ".1f"),
                    f"{middle(of('one', 'p50'))} / {middle(of('one', 'p99'))}",
                    f"{middle(of('many', 'p50'))} / {middle(of('many', 'p99'))}",
                    middle(of("pss_mib")),
                    middle(of("start_s"), ".2f"),
                    ", ".join(notes),
                )


def middle(values, form=",.0f"):
    return format(statistics.median(values), form) if values else "-"


CELL_HEADER = (
    *("row", "mode", "system", "requests/s", "server us/request", "p50/p99 us, 1 conn", "p50/p99 us, many"),
    *("PSS MiB", "start s", "notes"),
)


def table(header, rows):
    """Lines of a table with aligned columns."""
    rows = [header, *rows]
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(str(text).ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def bars(
    results, memory, balance, instructions, handles, asgi, bodies, echoes, startup, scaling, control, replicas, scrape
):
    """The bars of the project, from whatever was measured."""
    opened, rps, cpu = ("noop_async", "opened"), ("many", "rps"), ("many", "server_us_per_request")
    ours = (*opened, "eagleray")
    limit = (*opened, "limit", *cpu)
    found = [
        Bar("noop, requests/s to FastAPI", results.ratio((*ours, *rps), (*opened, "fastapi", *rps)), ">=", 5),
        Bar("noop, requests/s to Ray HAProxy", results.ratio((*ours, *rps), (*opened, "ray-haproxy", *rps)), ">=", 9),
        Bar("noop, requests/s to Ray default", results.ratio((*ours, *rps), (*opened, "ray", *rps)), ">=", 100),
        Bar("noop, CPU a request to the limit", results.ratio((*ours, *cpu), limit), "<=", 2.5),
        Bar(
            "noop, shipped to opened",
            results.ratio(("noop_async", "shipped", "eagleray", *rps), (*ours, *rps)),
            ">=",
            0.7,
        ),
    ]
    for mode in MODES:
        own, other = (("noop_async", mode, name, "one", "p50") for name in ("eagleray", "fastapi"))
        found.append(Bar(f"one connection, p50 to FastAPI, {mode}", results.ratio(own, other), "<=", 1))
    found += [
        Bar(
            "noop, sync method, CPU to the limit",
            results.ratio(("noop_sync", "opened", "eagleray", *cpu), limit),
            *("<=", 3),
        ),
        Bar(
            "two replicas, CPU to one replica's",
            results.ratio(("two_replicas", "opened", "eagleray", *cpu), (*ours, *cpu)),
            *("<=", 1.15),
        ),
        balance_bar(balance),
    ]
    for mode in MODES:
        own, other = (("iris", mode, name, *rps) for name in ("eagleray", "fastapi"))
        found.append(Bar(f"iris, requests/s to FastAPI, {mode}", results.ratio(own, other), ">=", 1))
    start = results.median("noop_async", "shipped", "eagleray", "start_s")
    found.append(Bar("cold shell to the first 200, s", start, "<=", 1))
    found += memory_bars(memory)
    found.append(
        Bar(
            "instructions, 1,000 deployments to one",
            instructions.get("ratio"),
            *("<=", 1.02),
            instructions.get("skipped", ""),
        )
    )
    found.append(
        Bar(
            "instructions, metrics on the path to none",
            instructions.get("metrics"),
            *("<=", 1.03),
            instructions.get("skipped", ""),
        )
    )
    found += scrape_bars(scrape)
    found += fastapi_bars(results, asgi)
    found += model_bars(results)
    found += handle_bars(handles)
    found += body_bars(bodies)
    found += echo_bars(echoes)
    found += startup_bars(startup)
    found += scaling_bars(scaling)
    found += control_bars(control)
    found += replica_bars(replicas)
    found += baseline_bars(results, instructions)
    return found


def best(results, row, *path):
    """The highest median among the peers, and whose it is."""
    peers = [name for name in SYSTEMS if name not in ("eagleray", "baseline", "limit")]
    medians = {name: results.median(row, "opened", name, *path) for name in peers}
    measured = {name: median for name, median in medians.items() if median is not None}
    if not measured:
        return None, "no peer ran"
    name = max(measured, key=lambda one: measured[one])
    return measured[name], SYSTEMS[name].title


# How many times uvicorn's requests a second.
FASTAPI_BARS = {"fastapi_get": 4, "fastapi_post": 4, "fastapi_user": 3, "fastapi_cors": 2.5}


def fastapi_bars(results, asgi):
    """A FastAPI ingress beside servers of the same application, and what it costs beside FastAPI itself."""
    for row, bound in FASTAPI_BARS.items():
        own, other = ((row, "opened", name) for name in ("eagleray", "fastapi"))
        for name, least in (("fastapi", bound), ("granian", 1)):
            ratio = results.ratio((*own, "many", "rps"), (row, "opened", name, "many", "rps"))
            yield Bar(f"{row}, requests/s to {SYSTEMS[name].title}", ratio, ">=", least)
        ratio = results.ratio((*own, "one", "p50"), (*other, "one", "p50"))
        yield Bar(f"{row}, one connection, p50 to FastAPI on uvicorn", ratio, "<=", 1)
        if row in asgi:
            cost, alone = results.median(*own, "many", "server_us_per_request"), asgi[row]
            share = cost - alone if cost else None
            yield Bar(f"{row}, CPU us a request beyond FastAPI's own", share, "<=", 25, f"FastAPI's: {alone:.1f}")
    compiled = asgi.get("compiled", {})
    yield Bar("FastAPI route that is not compiled, CPU us more", compiled.get("falling_back_us"), "<=", 1)
    yield Bar("1,000 FastAPI routes compiled, s", compiled.get("thousand_routes_s"), "<=", 0.2)


def model_bars(results):
    """The bars of the programming model: composition, batching, streaming."""
    rps = ("many", "rps")

    def ours(row, *path):
        return results.median(row, "opened", "eagleray", *path)

    for name, bound in (("ray-haproxy", 20), ("ray", 100), ("mosec", 1)):
        ratio = results.ratio(("composition", "opened", "eagleray", *rps), ("composition", "opened", name, *rps))
        yield Bar(f"composition, requests/s to {SYSTEMS[name].title}", ratio, ">=", bound)
    rate, call = ours("batch", *rps), ours("batch", "mean_call_s")
    share = rate * call / 32 if rate and call else None
    yield Bar("batches of 32, share of 32 a mean call", share, ">=", 0.96)
    rate, (peer, whose) = ours("iris_batched", *rps), best(results, "iris_batched", *rps)
    yield Bar("iris batched, requests/s to the best peer", rate / peer if rate and peer else None, ">=", 1.3, whose)
    p99 = ours("iris_batched", "many", "p99")
    share = p99 / (IRIS_TARGET_MS * 1000) if p99 else None
    yield Bar("iris batched, p99 to its target", share, "<=", 1, f"target {IRIS_TARGET_MS} ms")
    for row in STREAM_ROWS:
        rate, (peer, whose) = ours(row, *rps), best(results, row, *rps)
        ratio = rate / peer if rate and peer else None
        note = f"{whose}; ours {rate * CHUNKS_PER_RESPONSE:,.0f} chunks/s" if rate else whose
        yield Bar(f"{row}, chunks/s to the best peer", ratio, ">=", 1.5, note)


def handle_bars(handles):
    """A call between two replicas to a bare echo between two processes; an array of 64 MiB to what memory can do."""
    call, values = handles.get("handle_call", {}), handles.get("big_values", {})
    yield Bar("handle call between replicas, p50 to an asyncio echo", call.get("ratio"), "<=", 3)
    grew = values.get("receiver's anonymous memory grew by KiB")
    yield Bar("64 MiB array, pickle over a socket to it", values.get("times pickle over a unix socket"), ">=", 1)
    yield Bar("64 MiB array, fastest copy into warm memory to it", values.get("of the limit (warm)"), ">=", 0.67)
    yield Bar("64 MiB array, fastest copy into fresh memory to it", values.get("of the limit (fresh)"), ">=", 0.67)
    yield Bar("64 MiB array, receiver's anonymous memory, MiB", grew / 1024 if grew is not None else None, "<=", 2)
    yield Bar("64 MiB array, shared memory beyond it", values.get("shared memory over the live array"), "<=", 0.1)


def body_bars(bodies):
    """1 GiB one way, to uvicorn without a proxy and to nginx in front of it; what the memory of all processes grew."""
    for way, systems in bodies.get("ways", {}).items():
        own = systems.get("eagleray", {})
        for name, bound in (("uvicorn", 0.8), ("nginx", 0.9)):
            rates = [systems.get(one, {}).get("megabytes_per_second") for one in ("eagleray", name)]
            ratio = rates[0] / rates[1] if all(rates) else None
            note = f"ours {rates[0]:,.0f} MB/s" if rates[0] else ""
            yield Bar(f"1 GiB {way}, MB/s to {name}", ratio, ">=", bound, bodies["skipped"].get(name, note))
        yield Bar(f"1 GiB {way}, memory grew, MiB", own.get("grew_mib"), "<=", 4)


def echo_bars(echoes):
    """Messages of WebSockets to uvicorn's, which has its application in the process that compresses."""
    for way, systems in echoes.get("ways", {}).items():
        rates = [systems.get(one, {}).get("messages_per_second") for one in ("eagleray", "uvicorn")]
        ratio = rates[0] / rates[1] if all(rates) else None
        note = f"ours {rates[0]:,.0f}/s" if rates[0] else ""
        yield Bar(f"echo {way}, messages/s to uvicorn", ratio, ">=", 1, echoes["skipped"].get("uvicorn", note))


def startup_bars(startup):
    """What one waits for at a prompt, and of a reload what is above a bare import of the same modules."""
    if not startup:
        return
    iris, reload = startup["iris_run_s"], startup["reload_s"]
    yield Bar("run: iris, cold shell to the first 200, s", iris, "<=", 1.5)
    yield Bar("the same without the model's own import, s", iris - startup["model_s"], "<=", 1)
    yield Bar("reload, above a bare import, s", reload - startup["import_s"], "<=", 0.3, f"{reload:.2f} s in all")


def scaling_bars(scaling):
    """How long more replicas, and the first one, are waited for; Ray Serve beside it where it is installed."""
    own, other = scaling.get("eagleray", {}), scaling.get("ray", {})
    for key, work, bound in (
        ("burst_s", "burst of 1 to 200 requests: four replicas ready, s", 1),
        ("from_zero_s", "from zero: first answer, s", 0.3),
    ):
        worst = own.get(f"worst_{key}")
        note = f"worst {worst:.2f}" if worst is not None else ""
        if other.get(key) is not None:
            note += f", Ray Serve {other[key]:.2f}"
        yield Bar(work, own.get(key), "<=", bound, note)


def replica_bars(replicas):
    """What a replica that is forked costs; an interpreter of its own is the note beside it."""
    if not replicas:
        return
    forked, alone = replicas["forked"], replicas["alone"]
    yield Bar("a further replica ready, s", forked["ready_s"], "<=", 0.15, f"{alone['ready_s']:.2f} s if not forked")
    yield Bar("its own memory, MiB", forked["uss_mib"], "<=", 25, f"{alone['uss_mib']:.0f} MiB if not forked")


def control_bars(control):
    """Commands from start to end. What it takes to import and to start anew is the application's, and has no bar."""
    if not control:
        return
    many = control["status_of_many"]
    for work, found, bound in (
        ("status, ms", control["status"], 100),
        (f"status of {many['replicas']:,} replicas, ms", many, 150),
        ("deploy, build skipped, ms", control["deploy_unchanged"], 300),
        ("deploy, one module changed, ms", control["deploy_changed"], None),
    ):
        note = f"worst {found['worst_ms']:.0f}, CPU of the command {found['command_cpu_ms']:.0f}"
        yield Bar(work, found["median_ms"], "<=", bound, note)
    logs = control["logs"]
    note = f"worst {logs['command_worst_ms']:.0f}, over REST {logs['median_ms']:.0f}"
    yield Bar(f"logs --request over {logs['logs_MiB']:,.0f} MiB, ms", logs["command_median_ms"], "<=", 200, note)


def scrape_bars(scrape):
    """`/metrics` of a large node, to what it may take."""
    if scrape:
        note = f"best {scrape['best_ms']:.0f} ms, median {scrape['median_ms']:.0f} ms"
        yield Bar("scrape of 1,000 deployments and replicas, to 100 ms", scrape["median_ms"] / 100, "<=", 1, note)
        yield Bar("the same, gzipped, to 1 MiB", scrape["gzip_bytes"] / 2**20, "<=", 1)
        yield Bar("the same, plain, to 16 MiB", scrape["plain_bytes"] / 2**24, "<=", 1)


def baseline_bars(results, instructions):
    """This Eagleray to an earlier one, where there is one: no row may cost a tenth more."""
    cpu = ("many", "server_us_per_request")
    for row in PLAIN_ROWS:
        for mode in MODES:
            ratio = results.ratio((row, mode, "eagleray", *cpu), (row, mode, "baseline", *cpu))
            if ratio is not None:
                yield Bar(f"{row}, {mode}: CPU to the baseline's", ratio, "<=", 1.1)
    if "to_before" in instructions:
        yield Bar("instructions in the proxy to the baseline's", instructions["to_before"], "<=", 1.05)


def balance_bar(tally):
    """How far the busiest of two replicas is from half of the requests, as a share of the even part."""
    if not tally:
        return Bar("two replicas, furthest from even", None, "<=", 0.05)
    even = sum(tally.values()) / 2
    furthest = max(abs(count - even) / even for count in tally.values()) if len(tally) == 2 else 1.0
    return Bar("two replicas, furthest from even", furthest, "<=", 0.05, f"{len(tally)} replicas answered")


def memory_bars(points):
    """PSS at the end, and how much it grew over the second half (flat: under 2 %)."""
    if not points:
        return [Bar("PSS, MiB", None, "<=", 100), Bar("PSS, end to half way", None, "<=", 1.02)]
    requests, last = points[-1]
    half = points[len(points) // 2][1]
    return [
        Bar("PSS, MiB", last, "<=", 100, f"after {requests:,} requests"),
        Bar("PSS, end to half way", last / half, "<=", 1.02),
    ]


def as_data(found):
    return [{**asdict(bar), "verdict": bar.verdict} for bar in found]
