"""A revision holds its code: what restarts replicas, what does not, and what comes back after a crash."""

import os
import signal
from pathlib import Path

import pytest

from machine import Machine, Script, eventually, request

MAIN = """
import helper
from eagleray import serve

CONSTANTS = {"b", "a", "c", "d", "e"}
SCALE = 2

class Base:
    def text(self):
        return helper.text()

@serve.deployment(num_replicas=2)
class Model(Base):
    def __init__(self, names):
        self.names = names
        self.double = lambda n: n * SCALE

    async def __call__(self, request):
        return {"text": self.text(), "double": self.double(4), "names": sorted(self.names | CONSTANTS)}

@serve.deployment
def other(request):
    return "other"

app = Model.bind({"x", "y"})
serve.run(other.bind(), name="other", route_prefix="/other")
"""


def run(machine: Machine, main: str = MAIN, seed: str = "random", **options: str) -> Script:
    """Runs the script once against the resident node; it ends, what it deployed stays."""
    script = machine.serve(main, environment={"PYTHONHASHSEED": seed} | options)
    assert script.end() == 0
    return script


def helper(machine: Machine, text: str) -> Path:
    return machine.write("helper.py", f"def text():\n    return {text!r}\n")


@pytest.mark.contract("2/rerun", "G/15", better="an unchanged deployment keeps its replicas")
def test_the_same_script_three_times_restarts_nothing(machine: Machine) -> None:
    helper(machine, "one")
    address = machine.start_resident()
    run(machine, seed="1")
    before = machine.replicas()
    assert len(before) == 3
    for seed in ("2", "3", "random"):
        run(machine, seed=seed)
        assert machine.replicas() == before, f"PYTHONHASHSEED={seed} restarted a replica"
    assert request("GET", address + "/").json()["text"] == "one"


def test_a_byte_changed_in_an_imported_helper_rolls_and_the_log_names_it(machine: Machine) -> None:
    helper(machine, "one")
    address = machine.start_resident()
    run(machine)
    before = machine.replicas()
    helper(machine, "two")
    assert request("GET", address + "/").json()["text"] == "one", "nothing changes before serve.run"
    script = run(machine)
    assert request("GET", address + "/").json()["text"] == "two"
    eventually(lambda: not machine.replicas() & before, "every deployment of its applications has rolled")
    assert "helper.py" in script.output + machine.logs("controller.log"), "the log names the file"


def test_a_change_of_one_deployments_own_code_rolls_that_one_only(machine: Machine) -> None:
    helper(machine, "one")
    machine.start_resident()
    run(machine)
    models, others = machine.replicas("default/Model"), machine.replicas("other/other")
    run(machine, MAIN.replace("n * SCALE", "n + SCALE"))
    eventually(lambda: not machine.replicas("default/Model") & models, "the changed one has rolled")
    assert machine.replicas("other/other") == others


@pytest.mark.contract("4.1/reconfigure-start", "4.1/reconfigure-later", "1.5/run-same-name")
def test_light_settings_do_not_restart(machine: Machine) -> None:
    script = machine.serve(
        """
        import os
        from eagleray import serve

        @serve.deployment(max_ongoing_requests=3, user_config={"word": "first"})
        class Configured:
            def reconfigure(self, config):
                self.word = config["word"]

            async def __call__(self, request):
                return [self.word, os.getpid()]

        app = Configured.bind()
        """
    )
    word, pid = script.get("/").json()
    assert word == "first"
    script.do('serve.run(Configured.options(user_config={"word": "second"}, max_ongoing_requests=7).bind()) and None')
    assert script.get("/").json() == ["second", pid]
    script.do("serve.run(Configured.options(num_replicas=2).bind()) and None")
    assert pid in machine.replicas()


def test_a_file_broken_on_disk_and_a_killed_replica_bring_the_old_code_back(machine: Machine) -> None:
    path = helper(machine, "sealed")
    package = machine.write("package/__init__.py", "from package.inner import value\n")
    inner = machine.write("package/inner.py", "value = 'inside'\n")
    address = machine.start_resident()
    run(
        machine,
        MAIN.replace("import helper", "import helper, package").replace('"double"', '"p": package.value, "double"'),
    )
    before = machine.replicas("default/Model")
    for file in (path, package, inner, machine.work / "app.py"):
        file.write_text("this is not Python\n")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    after = eventually(
        lambda: found if len(found := machine.replicas("default/Model")) == 2 and not found & before else None,
        "both replicas are replaced",
    )
    assert after
    answer = request("GET", address + "/").json()
    assert (answer["text"], answer["p"]) == ("sealed", "inside")


def test_an_import_inside_a_method_comes_from_the_revision(machine: Machine) -> None:
    late = machine.write("late.py", "word = 'of the revision'\n")
    script = machine.serve(
        """
        from eagleray import serve

        @serve.deployment
        class Lazy:
            async def __call__(self, request):
                import late
                return {"word": late.word, "file": late.__file__}

        app = Lazy.bind()
        """
    )
    late.write_text("word = 'of the disk'\n")
    assert script.get("/").json() == {"word": "of the revision", "file": str(late)}


def test_a_data_file_beside_its_module_and_a_model_by_relative_path(machine: Machine) -> None:
    machine.write("models/weights.txt", "17")
    machine.write("package/data.txt", "beside")
    machine.write("package/__init__.py", "")
    machine.write(
        "package/loader.py",
        """
        from importlib import resources
        from pathlib import Path

        def beside():
            return (Path(__file__).parent / "data.txt").read_text()

        def resource():
            return resources.files("package").joinpath("data.txt").read_text()
        """,
    )
    script = machine.serve(
        """
        from eagleray import serve
        from package.loader import beside, resource

        @serve.deployment
        class Loader:
            def __init__(self):
                self.weights = int(open("models/weights.txt").read())

            async def __call__(self, request):
                return [self.weights, beside(), resource()]

        app = Loader.bind()
        """
    )
    assert script.get("/").json() == [17, "beside", "beside"]


def test_classes_of_imported_modules_and_scripts_in_other_folders(machine: Machine) -> None:
    machine.write(
        "service/models.py",
        """
        from eagleray import serve

        @serve.deployment
        class Imported:
            async def __call__(self, request):
                return [type(self).__module__, type(self).__qualname__]

        class Outer:
            @serve.deployment
            class Nested:
                async def __call__(self, request):
                    return "nested"
        """,
    )
    script = machine.serve(
        """
        from eagleray import serve
        from models import Imported, Outer

        serve.run(Outer.Nested.bind(), name="nested", route_prefix="/nested")
        app = Imported.bind()
        """,
        name="service/main.py",
    )
    assert script.get("/").json() == ["models", "Imported"]
    assert script.get("/nested").text == "nested"


def test_two_applications_may_have_different_files_of_the_same_name(machine: Machine) -> None:
    address = machine.start_resident()
    text = "from eagleray import serve\nimport shared\n\n@serve.deployment\ndef which():\n    return shared.word\n"
    for word in ("left", "right"):
        machine.write(f"{word}/shared.py", f"word = {word!r}\n")
        machine.serve(
            text + "app = which.bind()",
            run=f'serve.run(app, name="{word}", route_prefix="/{word}")',
            name=f"{word}/main.py",
        ).end()
    for word in ("left", "right"):
        assert request("GET", f"{address}/{word}").text == word


def test_a_rollback_really_goes_back(machine: Machine) -> None:
    helper(machine, "old")
    address = machine.start_resident()
    run(machine)
    helper(machine, "new")
    script = machine.serve("import eagleray._driver as driver\n" + MAIN)
    assert request("GET", address + "/").json()["text"] == "new"
    (machine.work / "helper.py").write_text("this is not Python\n")
    script.do('driver.rollback("default") and None')
    eventually(
        lambda: request("GET", address + "/").json()["text"] == "old", "the old code serves, from no file on disk"
    )


def test_a_restarted_node_serves_the_revision_not_the_disk(machine: Machine) -> None:
    path = helper(machine, "kept")
    machine.start_resident()
    run(machine)
    assert machine.cli("stop").returncode == 0
    eventually(lambda: not machine.left(), "everything ended")
    path.write_text("this is not Python\n")
    address = machine.start_resident()
    assert eventually(lambda: serving(address), "the application serves again")["text"] == "kept"


def serving(address: str) -> dict[str, str] | None:
    answer = request("GET", address + "/")
    return answer.json() if answer.status == 200 else None


ONGOING = """
import os
from eagleray import serve

@serve.deployment(user_config={"word": "first"})
class Service:
    def reconfigure(self, config):
        self.word = config["word"]

    def __call__(self, request):
        return [self.word, os.getpid(), Service.name]

app = Service.bind()
"""


@pytest.mark.contract("2/rerun", "4.1/reconfigure-later")
def test_what_the_driver_imports_later_restarts_nothing(machine: Machine) -> None:
    machine.write("notes.py", "import pandas\nfrom elsewhere import plots\n")
    machine.write("elsewhere/__init__.py", "")
    machine.write("elsewhere/plots.py", "size = 1\n")
    machine.write("aside/__init__.py", "")
    script = machine.serve(ONGOING)
    word, pid, name = script.get("/").json()
    assert (word, name) == ("first", "Service")
    for statement in ("import pandas", "import aside", "import notes", "import xml.dom"):
        script.do(f"exec({statement!r}, globals())")
        script.do("serve.run(Service.bind()) and None")
        assert script.get("/").json() == ["first", pid, "Service"], statement
    script.do("serve.run(Service.options(user_config={'word': 'second'}, num_replicas=1).bind()) and None")
    assert script.get("/").json() == ["second", pid, "Service"], "its own name is not its options"
    machine.write("elsewhere/plots.py", "size = 2\n")
    script.do("serve.run(Service.bind()) and None")
    assert script.get("/").json()[1] != pid, "a module that something names counts"


def test_a_module_imported_later_counts_for_who_uses_it(machine: Machine) -> None:
    machine.write("later/__init__.py", "word = 'old'\n")
    script = machine.serve(ONGOING)
    script.do("exec('import later', globals())")
    define = """
@serve.deployment
def user(request):
    def inner():
        from later import word
        return word
    return [inner(), os.getpid()]

serve.run(user.bind(), name="user", route_prefix="/user")
"""
    script.do(f"exec({define!r}, globals())")
    word, pid = script.get("/user").json()
    assert word == "old"
    before = script.get("/").json()
    machine.write("later/__init__.py", "word = 'new'\n")
    script.do(f"exec({define!r}, globals())")
    word, after = script.get("/user").json()
    assert (word, after != pid) == ("new", True)
    script.do("serve.run(app) and None")
    assert script.get("/").json() == before
