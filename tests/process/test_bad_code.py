"""User code that is wrong: each failure gets one clear message, and nothing else suffers."""

import sys
import textwrap
import threading

import pytest

from machine import Load, Machine, eventually

BAD = """
import sys, os
from eagleray import serve

class Unencodable:
    __slots__ = ()

class Custom(Exception):
    pass

@serve.deployment(max_ongoing_requests=10)
class Bad:
    async def __call__(self, request):
        return self.act(request.url.path)

    def act(self, path):
        if path == "/raise":
            raise Custom("a secret of the server")
        if path == "/junk":
            return Unencodable()
        if path == "/exit":
            sys.exit(3)
        if path == "/base":
            raise BaseException("not even an Exception")
        if path == "/interrupt":
            raise KeyboardInterrupt
        if path == "/recursion":
            return self.act(path)
        if path == "/stop":
            raise StopIteration
        return {"pid": os.getpid()}

@serve.deployment(max_ongoing_requests=10)
class BadSync(Bad.func_or_class):
    def __call__(self, request):
        return self.act(request.scope["path"].removeprefix("/sync"))

serve.run(BadSync.bind(), name="sync", route_prefix="/sync")
app = Bad.bind()
"""
WAYS = {
    "/raise": "Custom: a secret of the server",
    "/junk": "Unencodable",
    "/exit": "SystemExit: 3",
    "/base": "BaseException: not even an Exception",
    "/interrupt": "KeyboardInterrupt",
    "/recursion": "RecursionError",
    "/stop": "StopIteration",
}


@pytest.mark.contract("4.4/user-exception", "4.4/unencodable")
def test_user_code_that_fails_gets_one_500_and_a_traceback_in_the_log(machine: Machine) -> None:
    script = machine.serve(BAD)
    for prefix in ("", "/sync"):
        pid = script.get(prefix + "/ok").json()["pid"]
        with Load(script.address, prefix + "/ok", threads=2) as load:
            load.wait_for_more()
            for path, words in WAYS.items():
                answer = script.get(prefix + path)
                assert answer.status == 500, (prefix + path, answer)
                assert "secret" not in answer.text, "details are for the log"
                assert "Traceback" not in answer.text
                assert answer.headers["x-request-id"]
                # Exception groups and chains may stand around it; its own words are there.
                assert words in eventually(
                    lambda words=words: machine.logs("replica_*.log") if words in machine.logs("replica_*.log") else "",
                    f"the log has {words!r}",
                )
            load.wait_for_more()
        assert set(load.outcomes) == {"200"}, f"nothing else suffers: {load.outcomes}"
        assert script.get(prefix + "/ok").json()["pid"] == pid, "the replica lives"
    assert "act" in machine.logs("replica_*.log"), "the traceback names the user's function"


def test_the_traceback_reaches_the_terminal_with_the_request_id(machine: Machine) -> None:
    script = machine.serve(BAD)
    script.get("/raise", headers={"x-request-id": "find-me"})
    eventually(lambda: "a secret of the server" in script.output, "the terminal shows the traceback")
    assert "find-me" in script.output


def test_a_stream_that_fails_midway_is_cut_not_ended(machine: Machine) -> None:
    import http.client

    script = machine.serve(
        """
        from eagleray import serve

        @serve.deployment
        class Breaks:
            async def __call__(self, request):
                yield "a" * 1000
                raise RuntimeError("midway")

        app = Breaks.bind()
        """
    )
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        script.get("/")
    eventually(lambda: "midway" in machine.logs("replica_*.log"), "the log has the traceback")


@pytest.mark.contract("1.5/run-deploy-failed", "4.1/constructor-failed", "4.1/first-health-check")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def __init__(self): raise OSError('no such model')", ["OSError: no such model", "__init__"]),
        ("def __init__(self): import missing_module", ["missing_module", "ModuleNotFoundError"]),
        ("def __init__(self): import sys; sys.exit(4)", ["SystemExit"]),
        ("def __init__(self): import os; os._exit(5)", ["5"]),
        ("async def __init__(self): raise KeyError('later')", ["KeyError", "later"]),
        ("def check_health(self): raise RuntimeError('unwell')", ["RuntimeError: unwell"]),
    ],
)
def test_a_constructor_that_fails_raises_from_serve_run(machine: Machine, body: str, words: list[str]) -> None:
    script = machine.script(
        f"""
        from eagleray import serve

        @serve.deployment
        class Fails:
            {body}

            async def __call__(self, request):
                return "never"

        serve.run(Fails.bind())
        """
    )
    assert script.wait(50) != 0
    for word in [*words, "RuntimeError", "Fails"]:
        assert word in script.output
    eventually(lambda: not machine.left(), f"nothing runs: {machine.left()}")


@pytest.mark.contract(
    "2/failed-update", better="the old version serves on at full size and the application is rolled back to it"
)
def test_a_failed_update_leaves_the_old_version_serving(machine: Machine) -> None:
    text = """
    from eagleray import serve

    @serve.deployment
    class App:
        def __init__(self, broken):
            if broken:
                raise RuntimeError("broken on purpose")

        async def __call__(self, request):
            return "fine"

    app = App.bind(False)
    """
    script = machine.serve(text)
    with Load(script.address) as load:
        load.wait_for_more()
        failed = script.ask("serve.run(App.bind(True))")
        assert failed["error"] == "RuntimeError"
        assert "broken on purpose" in failed["text"]
        load.wait_for_more()
    assert set(load.outcomes) == {"200"}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("serve.deployment(Target, num_replica=2)", ["num_replica", "num_replicas"]),
        ("Target2.options(max_ongoing_request=2)", ["max_ongoing_request", "max_ongoing_requests"]),
        ("serve.deployment(num_replicas=0)(Target)", ["num_replicas"]),
        ("serve.deployment(num_replicas=-1)(Target)", ["num_replicas"]),
        ("serve.deployment(max_ongoing_requests=0)(Target)", ["max_ongoing_requests"]),
        ("serve.deployment(max_queued_requests=0)(Target)", ["max_queued_requests"]),
        ("serve.deployment(name='a#b')(Target)", ["#"]),
        (
            "serve.run(serve.deployment(ray_actor_options={'accelerator_type': 'T4'})(Target).bind())",
            ["accelerator_type"],
        ),
        ("serve.run(Target2.options(ray_actor_options={'runtime_env': {'pip': ['x']}}).bind())", ["pip"]),
        ("serve.deployment(ray_actor_options={'cpus': 1})(Target)", ["cpus", "num_cpus"]),
        ("serve.deployment(user_config={1, 2})(Target)", ["user_config"]),
        ("serve.run(Target2)", ["bind"]),
        ("serve.run(Target2.bind(), name='')", ["name"]),
        ("serve.run(Target2.bind(), route_prefix='x')", ["route_prefix"]),
        ("Target2()", ["bind"]),
    ],
)
def test_a_wrong_option_is_named_before_anything_starts(machine: Machine, code: str, words: list[str]) -> None:
    script = machine.script(
        textwrap.dedent(
            """
            from eagleray import serve

            class Target:
                async def __call__(self, request):
                    return "ok"

            Target2 = serve.deployment(Target)
            """
        )
        + f"{code}\nprint('ACCEPTED')\n"
    )
    assert script.wait() != 0
    assert "ACCEPTED" not in script.output
    last = script.lines[-1]
    for word in words:
        assert word in last, f"the last line names {word!r}: {last}"
    assert not machine.left()


@pytest.mark.contract("3.1/unpicklable")
def test_an_argument_that_cannot_be_pickled_is_named(machine: Machine) -> None:
    script = machine.script(
        """
        import threading
        from eagleray import serve

        @serve.deployment
        class Target:
            def __init__(self, lock):
                pass

            async def __call__(self, request):
                return "ok"

        serve.run(Target.bind(threading.Lock()))
        """
    )
    assert script.wait() != 0
    assert "Target" in script.output, "the deployment is named"
    assert "lock" in script.output
    eventually(lambda: not machine.left(), f"nothing runs: {machine.left()}")


def test_serve_run_inside_an_imported_file_is_ignored_with_one_warning(machine: Machine) -> None:
    machine.write(
        "model.py",
        """
        from eagleray import serve

        @serve.deployment
        class Model:
            async def __call__(self, request):
                return "once"

        app = Model.bind()
        serve.run(app, name="inner", route_prefix="/inner")
        """,
    )
    script = machine.serve("from eagleray import serve\nfrom model import app\n")
    assert script.get("/").text == "once"
    # The driver's own import of the file deploys, as the user wrote it; the replica's import of it must not.
    replica_logs = machine.logs("replica_*.log")
    assert replica_logs.count("serve.run") <= len(machine.replicas())
    assert script.do("len(serve.status().applications)") <= 2


@pytest.mark.contract("4.3/max_ongoing_requests", "3.6/BackPressureError", "G/20")
def test_a_full_queue_answers_503_and_the_limit_is_exact(machine: Machine) -> None:
    gate, started = machine.work / "gate", machine.work / "started"
    script = machine.serve(
        f"""
        import asyncio, os
        from eagleray import serve

        @serve.deployment(max_ongoing_requests=2, max_queued_requests=3)
        class Slow:
            def __init__(self):
                self.running = 0

            async def __call__(self, request):
                self.running += 1
                most = self.running
                with open({str(started)!r}, "a") as file:
                    file.write("x")
                while not os.path.exists({str(gate)!r}):
                    await asyncio.sleep(0.01)
                self.running -= 1
                return most

        app = Slow.bind()
        """
    )
    answers: list[tuple[int, str]] = []

    def ask() -> None:
        answer = script.get("/")
        answers.append((answer.status, answer.text))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads[:2]:
        thread.start()
    eventually(lambda: started.exists() and started.read_text() == "xx", "two requests run")
    for thread in threads[2:]:
        thread.start()
    eventually(lambda: len(answers) == 3, "of six more, three wait and three are refused")
    assert {status for status, _ in answers} == {503}
    why = "[(w.code, w.sentence) for w in serve.status().applications['default'].deployments['Slow'].why]"
    # Routers say it a few times a second, so the third may be told of later.
    refused = "3 requests were refused with 503"
    eventually(lambda: [code for code, text in script.do(why) if refused in text] == ["queue_full"], refused)
    gate.touch()
    for thread in threads:
        thread.join(20)
    assert sorted(status for status, _ in answers) == [200] * 5 + [503] * 3
    assert {body for status, body in answers if status == 200} <= {"1", "2"}, "never more than two at once"


def test_the_interpreter_of_the_tests_is_the_one_of_the_replicas(machine: Machine) -> None:
    script = machine.serve(
        """
        import sys
        from eagleray import serve

        @serve.deployment
        def python():
            return sys.executable

        app = python.bind()
        """
    )
    assert script.get("/").text == sys.executable
