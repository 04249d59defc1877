"""The programming model around deployments, in processes: applications, contexts, ranks, hooks, logs.

One machine and one script for all tests of this file; each test has applications of its own, under its own names. Tests
with a machine of their own are in `test_run.py`: at its end each machine ends all that runs below the test process.
"""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from machine import PATIENCE, Answer, Load, Machine, Script, eventually

PROGRAM = """
import asyncio, gc, os, signal, sys, threading, time
from eagleray import serve
from eagleray.serve.exceptions import RayServeException

def caught(call, *arguments, **options):
    try:
        return repr(call(*arguments, **options))
    except BaseException as error:
        return [kind.__name__ for kind in type(error).__mro__], str(error)

@serve.deployment
class Part:
    def __init__(self, word):
        self.word = word
    def say(self):
        return self.word

@serve.deployment
class Whole:
    def __init__(self, *parts):
        self.parts = parts
    async def __call__(self, request=None):
        return [await part.say.remote() for part in self.parts]

def inside(word):
    @serve.deployment
    class Inner:
        async def __call__(self, request):
            return word
    return Inner

@serve.deployment
class Meets:
    def __init__(self, folder, own, other):
        open(f"{folder}/{own}", "w").close()
        while other and not os.path.exists(f"{folder}/{other}"):
            if own == "broken":
                raise RuntimeError("broken on purpose")
            time.sleep(0.01)
    def __call__(self, request=None):
        return "met"

@serve.deployment(graceful_shutdown_wait_loop_s=1000)
class Ranked:
    def __init__(self):
        self.heard = []
    async def reconfigure(self, user_config, rank):
        self.heard.append((user_config, rank.rank, rank.node_rank, rank.local_rank))
    async def where(self):
        context = serve.get_replica_context()
        return {"id": context.replica_tag, "pid": os.getpid(), "rank": context.rank.rank, "of": context.world_size,
                "heard": self.heard, "app": context.app_name, "deployment": context.deployment,
                "version": context.code_version, "self": context.servable_object is self,
                "gang": context.gang_context}

@serve.deployment(num_replicas=2, health_check_period_s=0.1)
class Sick:
    async def __init__(self, folder):
        self.folder, self.heard = folder, []
        with open(f"{folder}/ranks", "a") as file:
            file.write(f"{serve.get_replica_context().rank.rank}\\n")
        while self.patient() and not os.path.exists(f"{folder}/open"):
            await asyncio.sleep(0.01)
    def patient(self):
        try:
            return open(f"{self.folder}/patient").read()
        except FileNotFoundError:
            return ""
    async def check_health(self):
        if self.patient() == str(os.getpid()):
            raise RuntimeError("sick")
    def reconfigure(self, user_config, rank):
        self.heard.append(rank.rank)
    async def where(self):
        context = serve.get_replica_context()
        return {"id": context.replica_tag, "pid": os.getpid(), "rank": context.rank.rank, "heard": self.heard}

@serve.deployment
class Asks:
    async def __call__(self, request=None):
        part = serve.get_deployment_handle("Part")
        return {"default": await part.say.remote(),
                "other": await serve.get_deployment_handle("Part", app_name="parts").say.remote(),
                "missing": caught(serve.get_deployment_handle, "Prat"),
                "no app": caught(serve.get_app_handle, "nowhere"),
                "app": type(serve.get_app_handle("asks")).__name__,
                "status": serve.status().applications["asks"].deployments["Asks"].replica_states,
                "proxies": [str(proxy.value) for proxy in serve.status().proxies.values()]}

@serve.deployment
class Hooks:
    def __init__(self, folder, fails=""):
        self.folder, self.fails, self.calls = folder, fails, []
        self.note("init")
    def note(self, text):
        self.calls.append(text)
        with open(f"{self.folder}/{os.getpid()}", "a") as file:
            file.write(text + "\\n")
    async def record_replica_metadata(self):
        self.note("metadata")
        if self.fails == "lock":
            return {"lock": threading.Lock()}
        return 3 if self.fails == "metadata" else {"zone": "a", "pid": os.getpid()}
    def reconfigure(self, user_config):
        self.note(f"reconfigure {user_config}")
        if user_config == "bad":
            raise RuntimeError("no such configuration")
    async def check_health(self):
        if "health" not in self.calls:
            self.note("health")
    async def __del__(self):
        self.note("del")
    def record_autoscaling_stats(self):
        raise AssertionError("nobody asks for it")
    def record_routing_stats(self):
        raise AssertionError("nobody asks for it")
    async def __call__(self, request=None):
        return {"calls": self.calls, "pid": os.getpid(), "frozen": gc.get_freeze_count()}

@serve.deployment
class Logs:
    async def __call__(self, request):
        import logging
        log = logging.getLogger("eagleray.serve")
        log.debug("quiet")
        log.warning("loud", extra={"ray_serve_extra_fields": {"mine": 7}})
        return {"cwd": os.getcwd(), "set": os.environ.get("SET_BY_ENV"), "handlers": len(log.handlers)}

@serve.deployment
class Steady:
    def __init__(self, word):
        self.word, self.config = word, None
    def reconfigure(self, user_config):
        self.config = user_config
    async def __call__(self, request):
        return [self.word, self.config]

@serve.deployment
class Full:
    def __init__(self, gate):
        self.gate = gate
    async def __call__(self, request):
        open(f"{self.gate}.reached", "w").close()
        while not os.path.exists(self.gate):
            await asyncio.sleep(0.01)
        return "through"

async def chosen(application):
    async with serve.get_app_handle(application).choose_replica() as selection:
        return selection.to_dict()

first = serve.run(Part.bind("start"), name="parts", route_prefix=None)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    machine = Machine(tmp_path_factory.mktemp("programs"))
    try:
        yield machine.serve(PROGRAM, run="first")
    finally:
        for script in machine.scripts:
            print(script.output)
        survivors = machine.close()
    assert not survivors, f"left running: {survivors}"


def told(script: Script, count: int) -> list[dict[str, Any]]:
    """What each of `count` replicas of Ranked knows, by rank."""
    found: dict[str, dict[str, Any]] = {}

    def look() -> bool:
        answer = script.ask("serve.get_app_handle('ranked').where.remote().result()")
        if "value" in answer:
            found[answer["value"]["id"]] = answer["value"]
        return {known["rank"] for known in found.values() if known["of"] == count} >= set(range(count))

    eventually(look, f"{count} replicas with ranks of their own: {found}")
    return sorted((known for known in found.values() if known["of"] == count), key=lambda known: known["rank"])


@pytest.mark.contract("1.5/run_many", "1.5/run_many-waits", "2/root", "2/shared")
def test_several_applications_at_once_each_under_its_prefix(served: Script) -> None:
    served.do(
        "[handles := serve.run_many(["
        "serve.RunTarget((lambda part: Whole.bind(part, part))(Part.bind('x')), name='one', route_prefix='/one'),"
        "serve.RunTarget(Whole.bind(Part.bind('a'), Part.bind('b')), name='two', route_prefix='/one/two'),"
        "serve.RunTarget(inside('hidden').bind(), name='three', route_prefix=None)]), 1][1]"
    )
    assert served.do("[(handle.app_name, handle.deployment_name) for handle in handles]") == [
        ["one", "Whole"], ["two", "Whole"], ["three", "Inner"],
    ]  # fmt: skip
    assert served.get("/one").json() == ["x", "x"]
    assert served.get("/one/two").json() == ["a", "b"], "the longest prefix wins"
    assert served.get("/three").status == 404
    assert served.get("/").status == 404, "an application without a prefix is not on HTTP"
    assert served.do("handles[2].remote(None).result()") == "hidden"
    names = served.do("{name: sorted(app.deployments) for name, app in serve.status().applications.items()}")
    assert (names["one"], names["two"], names["three"]) == (["Part", "Whole"], ["Part", "Part_1", "Whole"], ["Inner"])
    assert served.do("serve.run_many([serve.RunTarget(Part.bind('new'), name='late', route_prefix='/late')],"
                     " wait_for_applications_running=False)[0].app_name") == "late"  # fmt: skip
    eventually(lambda: served.do("serve.status().applications['late'].status") == "RUNNING", "it starts anyway")
    for name in ("one", "two", "three", "late"):
        served.do(f"serve.delete({name!r})")
    assert served.get("/one").status == 404


@pytest.mark.contract("1.5/run_many", "1.5/run_many-together")
def test_several_applications_start_together_and_one_that_fails_keeps_nobody(served: Script, tmp_path: Path) -> None:
    def run_many(**targets: tuple[str, str]) -> dict[str, Any]:
        made = [
            f"serve.RunTarget(Meets.bind({str(tmp_path)!r}, {name!r}, {other!r}), {name!r}, {prefix!r})"
            for name, (other, prefix) in targets.items()
        ]
        return served.ask(f"len(serve.run_many([{', '.join(made)}]))")

    # The constructor of each waits for that of the other.
    assert run_many(left=("right", "/left"), right=("left", "/right"))["value"] == 2
    assert served.get("/right").text == "met"

    answer = run_many(early=("", "/early"), thief=("", "/left"), late=("", "/late"))
    assert answer["error"] == "RayServeException"
    assert "'/left' of 'thief' is used by application 'left', so nothing was deployed" in answer["text"]
    assert not {"early", "thief", "late"} & set(served.do("list(serve.status().applications)"))

    answer = run_many(early=("", "/early"), odd=("", "/a//b"), late=("", "/late"))
    assert answer["error"] == "ValueError"
    assert answer["text"].endswith("others of this call were deployed: early, late")
    assert (served.get("/early").text, served.get("/late").text) == ("met", "met"), "it waited for them"

    answer = run_many(early=("", "/new"), broken=("nobody", "/broken"), late=("", "/newer"), odd=("", "/a//b"))
    assert answer["error"] == "RuntimeError"
    assert "broken on purpose" in answer["text"]
    assert "route_prefix '/a//b'" in answer["text"]
    assert (served.get("/new").text, served.get("/newer").text) == ("met", "met")
    for name in ("left", "right", "early", "late", "broken"):
        served.do(f"serve.delete({name!r})")


@pytest.mark.contract("1.5/run-prefix-taken", "1.5/run-same-name", "1.5/delete-unknown", "1.5/get_app_handle")
def test_a_prefix_has_one_application_and_a_name_one_too(served: Script) -> None:
    served.do("serve.run(inside('first').bind(), name='mine', route_prefix='/mine') and 1")
    kinds, text = served.do("caught(serve.run, inside('x').bind(), name='other', route_prefix='/mine')")
    assert "RayServeException" in kinds
    assert "'/mine' is used by application 'mine'" in text
    assert "other" not in served.do("list(serve.status().applications)")
    served.do("serve.run(inside('second').bind(), name='mine', route_prefix='/moved') and 1")
    assert (served.get("/mine").status, served.get("/moved").text) == (404, "second")
    assert "parts" in served.do("list(serve.status().applications)"), "other applications stay"
    served.do("serve.delete('mine')")
    assert served.do("caught(serve.delete, 'mine')") == "None", "an unknown name is no error"
    kinds, text = served.do("caught(serve.get_app_handle, 'mine')")
    assert "RayServeException" in kinds
    assert "running: " in text


@pytest.mark.contract("1.5/context-ids", "1.5/context-servable", "1.5/context-code_version", "1.5/context-gang")
@pytest.mark.contract("1.5/context-rank", "4.1/reconfigure-rank")
@pytest.mark.contract("1.5/context-world_size", "G/25", better="world_size follows num_replicas and every redeploy")
def test_ranks_are_dense_follow_scaling_and_outlive_a_replica(served: Script) -> None:
    served.do("serve.run(Ranked.options(num_replicas=2).bind(), name='ranked', route_prefix=None) and 1")
    two = told(served, 2)
    assert [known["heard"] for known in two] == [[[None, 0, 0, 0]], [[None, 1, 0, 1]]]
    assert {(known["app"], known["deployment"], known["self"], known["gang"]) for known in two} == {
        ("ranked", "Ranked", True, None)
    }
    (version,) = {known["version"] for known in two}
    assert version

    served.do("serve.run(Ranked.options(num_replicas=4).bind(), name='ranked', route_prefix=None) and 1")
    four = told(served, 4)
    assert [known["id"] for known in four[:2]] == [known["id"] for known in two], "scaling restarts nobody"
    assert [known["heard"] for known in four[:2]] == [known["heard"] for known in two], "nor is anybody called"

    served.do(f"os.kill({four[0]['pid']}, signal.SIGKILL)")
    eventually(lambda: four[0]["id"] not in {known["id"] for known in told(served, 4)}, "another takes its place")
    after = told(served, 4)
    assert [known["id"] for known in after[1:]] == [known["id"] for known in four[1:]], "the others keep their ranks"

    # The newest go, and the newest has rank 0: somebody moves to it, and hears of it.
    served.do("serve.run(Ranked.options(num_replicas=2).bind(), name='ranked', route_prefix=None) and 1")
    left = told(served, 2)
    assert {known["id"] for known in left} == {four[1]["id"], four[2]["id"]}
    moved = next(known for known in left if known["id"] == four[2]["id"])
    assert moved["heard"] == [[None, 2, 0, 2], [None, 0, 0, 0]]
    served.do("serve.delete('ranked')")


@pytest.mark.contract(
    "1.5/context-rank",
    better="each version counts by itself; one that is being replaced hands its rank to its successor, whose "
    "constructor so finds one in range",
)
def test_a_replica_that_is_being_replaced_gives_its_rank_up_first(served: Script, tmp_path: Path) -> None:
    served.do(f"serve.run(Sick.bind({str(tmp_path)!r}), name='sick', route_prefix=None) and 1")

    def ranks() -> dict[int, dict[str, Any]]:
        found = served.do("serve.get_app_handle('sick').broadcast('where').results(timeout_s=30)")
        return {known["rank"]: known for known in found}

    before = ranks()
    assert set(before) == {0, 1}
    started = tmp_path / "ranks"
    assert sorted(started.read_text().split()) == ["0", "1"]
    # The successor's constructor waits, and the sick one serves.
    (tmp_path / "patient").write_text(str(before[0]["pid"]))
    eventually(lambda: len(started.read_text().split()) == 3, "a successor is being constructed")
    assert started.read_text().split()[-1] == "0"
    eventually(lambda: set(ranks()) == {1, 2}, "the sick one has another rank")
    sick = ranks()[2]
    assert (sick["id"], sick["heard"]) == (before[0]["id"], [0]), "it is asked no more"
    (tmp_path / "open").touch()
    eventually(lambda: set(after := ranks()) == {0, 1} and after[0]["id"] != sick["id"], "the successor serves")
    after = ranks()
    assert (after[0]["heard"], after[1]) == ([0], before[1])
    served.do("serve.delete('sick')")


@pytest.mark.contract("1.5/get_deployment_handle", "1.5/get_deployment_handle-app_name")
@pytest.mark.contract(
    "1.5/get_deployment_handle-missing", "G/13", better="a missing deployment is a RayServeException and a KeyError"
)
def test_handles_by_name_inside_a_replica_and_outside(served: Script) -> None:
    served.do("serve.run(Asks.bind(), name='lonely', route_prefix='/asks') and 1")
    served.do("serve.run(Whole.bind(Asks.bind(), Part.bind('own')), name='asks', route_prefix=None) and 1")
    found = served.do("serve.get_deployment_handle('Asks', 'asks').remote().result()")
    assert (found["status"], found["proxies"]) == ({"RUNNING": 1}, ["HEALTHY"]), "of the node that the replica is of"
    assert (found["default"], found["other"], found["app"]) == ("own", "start", "DeploymentHandle")
    kinds, text = found["missing"]
    assert {"RayServeException", "KeyError"} <= set(kinds)
    assert "it has Asks, Part, Whole" in text
    assert "RayServeException" in found["no app"][0]
    kinds, text = served.do("caught(serve.get_deployment_handle, 'Prat', 'asks')")
    assert {"RayServeException", "KeyError"} <= set(kinds)
    assert "RayServeException" in served.do("caught(serve.get_deployment_handle, 'Part')")[0]
    assert "Traceback" not in served.get("/asks").text, "an error of user code is for logs"
    for name in ("lonely", "asks"):
        served.do(f"serve.delete({name!r})")


def notes(folder: Path) -> list[list[str]]:
    """What hooks of each process noted."""
    return [path.read_text().split("\n")[:-1] for path in sorted(folder.iterdir())]


@pytest.mark.contract("4.1/record_replica_metadata", "4.2/record_replica_metadata", "4.1/reconfigure-start")
@pytest.mark.contract("4.1/reconfigure-none", "4.1/reconfigure-later", "4.2/reconfigure", "4.2/del", "4.2/del-killed")
@pytest.mark.contract("4.1/gc")
@pytest.mark.contract("4.2/graceful-stop", "G/21", better="an idle replica stops at once")
def test_hooks_run_in_their_order(served: Script, tmp_path: Path) -> None:
    def deploy(user_config: str) -> None:
        served.do(
            f"serve.run(Hooks.options(user_config={user_config}, graceful_shutdown_wait_loop_s=1000)"
            f".bind({str(tmp_path)!r}), name='hooks', route_prefix='/hooks') and 1"
        )

    deploy("{'a': 1}")
    start = ["init", "metadata", "reconfigure {'a': 1}", "health"]
    assert notes(tmp_path) == [start]
    assert served.do("asyncio.run(chosen('hooks'))['replica_metadata']") == {
        "zone": "a",
        "pid": served.get("/hooks").json()["pid"],
    }
    deploy("[2]")
    deploy("None")
    found = served.get("/hooks").json()
    assert found["frozen"] > 0, "what was there before the first request is no work for the collector"
    assert found["calls"] == [*start, "reconfigure [2]"], "None calls nothing, and nobody is restarted"

    # One that raises restarts the replica, and a start with it fails: the new configuration does not come up.
    answer = served.ask(
        f"serve.run(Hooks.options(user_config='bad').bind({str(tmp_path)!r}), name='hooks', route_prefix='/hooks')"
    )
    assert answer["error"] == "RuntimeError"
    assert "no such configuration" in answer["text"]
    deploy("None")
    eventually(lambda: served.get("/hooks").status == 200, "it serves again")

    # A killed replica runs no __del__, an idle one that is deleted does, and waits for nothing.
    killed = served.get("/hooks").json()["pid"]
    served.do(f"os.kill({killed}, signal.SIGKILL)")
    eventually(lambda: (answer := served.get("/hooks")).status == 200 and answer.json()["pid"] != killed, "a new one")
    last = served.get("/hooks").json()["pid"]
    served.do("serve.delete('hooks')")
    by_pid = {int(path.name): path.read_text().split("\n")[:-1] for path in tmp_path.iterdir()}
    assert "del" not in by_pid[killed]
    assert by_pid[last].count("del") == 1
    assert by_pid[last][-1] == "del"


@pytest.mark.contract("4.1/record_replica_metadata")
def test_metadata_that_cannot_be_pickled_fails_the_start(served: Script, tmp_path: Path) -> None:
    answer = served.ask(f"serve.run(Hooks.bind({str(tmp_path)!r}, 'lock'), name='wrong', route_prefix=None)")
    assert answer["error"] == "RuntimeError"
    assert "TypeError: what record_replica_metadata returned cannot be pickled" in answer["text"]
    served.do("serve.delete('wrong')")


@pytest.mark.contract("2/constructor-retries", "G/24")
@pytest.mark.contract("4.1/record_replica_metadata")
def test_metadata_that_is_no_dict_fails_the_start_which_is_tried_three_times(served: Script, tmp_path: Path) -> None:
    answer = served.ask(f"serve.run(Hooks.bind({str(tmp_path)!r}, 'metadata'), name='wrong', route_prefix=None)")
    assert answer["error"] == "RuntimeError"
    assert "TypeError: record_replica_metadata must return a dict or None, got int" in answer["text"]
    assert "3" in answer["text"], "how many failures that took"
    assert len(notes(tmp_path)) == 3, "min(20, 3 * 1) starts"
    assert served.do("serve.status().applications['wrong'].status") == "DEPLOY_FAILED"
    served.do("serve.delete('wrong')")


@pytest.mark.contract(
    "2/runtime_env", better="replicas run in the driver's working directory; only env_vars can be set"
)
def test_logs_have_the_level_and_the_encoding_that_are_asked_for(served: Script) -> None:
    served.do(
        "serve.run(Logs.options(logging_config={'encoding': 'JSON', 'log_level': 'DEBUG',"
        " 'additional_log_standard_attrs': ['lineno']},"
        " ray_actor_options={'runtime_env': {'env_vars': {'SET_BY_ENV': 'yes'}}}).bind(),"
        " name='logs', route_prefix='/logs') and 1"
    )
    found = served.get("/logs", headers={"x-request-id": "abc"}).json()
    assert (found["set"], found["handlers"]) == ("yes", 1)
    lines = {}
    for level, message in (("DEBUG", "quiet"), ("WARNING", "loud")):
        line = json.loads(served.wait_for_line(rf'\(Logs \w+\) (\{{.*"message": "{message}".*\}})$').group(1))
        assert (line["levelname"], line["application"], line["deployment"]) == (level, "logs", "Logs")
        assert (line["component_name"], line["request_id"]) == ("replica", "abc")
        assert isinstance(line["lineno"], int)
        lines[message] = line
    assert lines["loud"]["mine"] == 7
    assert found["cwd"] == served.do("os.getcwd()")

    # Back to text and INFO in place: the replica is the same.
    before = served.machine.replicas("logs/Logs")
    served.do(
        "serve.run(Logs.options(ray_actor_options={'runtime_env': {'env_vars': {'SET_BY_ENV': 'yes'}}}).bind(),"
        " name='logs', route_prefix='/logs') and 1"
    )
    count = len(served.lines)
    served.get("/logs")
    served.wait_for_line(r"\(Logs \w+\) WARNING .*logs/Logs .* -- loud$")
    assert not [line for line in served.lines[count:] if "quiet" in line]
    assert served.machine.replicas("logs/Logs") == before
    served.do("serve.delete('logs')")


def test_scaling_reconfiguring_and_updating_under_load_lose_nothing(served: Script) -> None:
    def deploy(options: str, word: str = "one") -> None:
        served.do(f"serve.run(Steady.options({options}).bind({word!r}), name='steady', route_prefix='/steady') and 1")

    deploy("num_replicas=1")
    with Load(served.address, "/steady", threads=2) as load:
        load.wait_for_more()
        deploy("num_replicas=3")
        load.wait_for_more()
        deploy("num_replicas=3, user_config='configured'")
        load.wait_for_more()
        deploy("num_replicas=3, user_config='configured', max_surge_percent=100", word="two")
        eventually(lambda: served.get("/steady").json()[0] == "two", "the new version answers")
        deploy("num_replicas=1, user_config='configured'", word="two")
        load.wait_for_more()
    assert served.get("/steady").json() == ["two", "configured"]
    assert set(load.outcomes) == {"200"}, load.outcomes
    served.do("serve.delete('steady')")


@pytest.mark.contract("1.1/backpressure_config", "3.6/BackPressureError")
def test_a_full_queue_answers_what_backpressure_config_says(served: Script, tmp_path: Path) -> None:
    gate = tmp_path / "open"
    served.do(
        "serve.run(Full.options(max_queued_requests=1, max_ongoing_requests=1, backpressure_config="
        f"{{'status_code': 429, 'retry_after_s': 1.5}}).bind({str(gate)!r}), name='full', route_prefix='/full') and 1"
    )
    answers: list[Answer] = []
    asked = [threading.Thread(target=lambda: answers.append(served.get("/full"))) for _ in range(3)]
    asked[0].start()
    # Before it has reached the replica it is the one that waits.
    eventually(Path(f"{gate}.reached").exists, "the first is being worked on")
    for thread in asked[1:]:
        thread.start()
    eventually(lambda: answers, "one waits, the other is refused")
    assert (answers[0].status, answers[0].headers["retry-after"]) == (429, "2"), "in whole seconds, rounded up"
    gate.touch()
    for thread in asked:
        thread.join(PATIENCE)
    assert sorted(answer.status for answer in answers) == [200, 200, 429]
    served.do("serve.delete('full')")
