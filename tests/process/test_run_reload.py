"""`eagleray run --reload`: files edited as editors do, what is served meanwhile, and what is said of it."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from machine import EXECUTABLE, Load, Machine, Script, eventually, request

SHOP = """
from eagleray import serve
import words

@serve.deployment
class Word:
    async def __call__(self, request):
        return words.word

@serve.deployment
class Other:
    pass

app = Word.bind()
"""


def word(text: str) -> str:
    return f"word = {text!r}\n"


def run(machine: Machine, *arguments: str, **options: dict[str, str]) -> Script:
    return machine.start([str(EXECUTABLE), "run", "shop:app", "--reload", *arguments], **options)


def serving(machine: Machine, *arguments: str) -> Script:
    machine.write("shop.py", SHOP)
    machine.write("words.py", word("one"))
    script = run(machine, *arguments)
    script.wait_for_line("is running")
    assert script.get().text == "one"
    return script


def serves(script: Script, text: str) -> None:
    eventually(lambda: script.get().text == text, f"{text!r} is served; output:\n{script.output}")


def loaders(machine: Machine) -> set[int]:
    return machine.pids(r".*eagleray\._driver\.loading")


def by_rename(path: Path, text: str) -> None:
    """As vim and most editors save: written beside, then put in its place."""
    beside = path.with_name("4913")
    beside.write_text(text)
    beside.replace(path)


def by_backup(path: Path, text: str) -> None:
    """As others do: the file is moved away, and made anew."""
    path.rename(path.with_name(f"{path.name}~"))
    path.write_text(text)


def by_truncation(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.flush()
        file.write(text)


@pytest.mark.contract("6/reload", better="only what changed is rolled, and nothing is dropped meanwhile")
@pytest.mark.parametrize("save", [by_rename, by_backup, by_truncation])
def test_a_saved_file_is_served(machine: Machine, save: object) -> None:
    script = serving(machine)
    replica = machine.replicas("default/Word")
    save(machine.work / "words.py", word("two"))  # type: ignore[operator]
    serves(script, "two")
    assert script.wait_for_line(r"words\.py changed: Word restarts, \d+\.\d\d s")
    eventually(lambda: not replica & machine.replicas("default/Word"), "the replica before is gone")
    assert script.interrupt() == 0, script.output
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")
    assert "Traceback" not in script.output


def test_an_edit_of_the_same_size_in_the_same_second_is_seen(machine: Machine) -> None:
    script = serving(machine)
    path = machine.work / "words.py"
    for text in ("two", "six", "ten"):
        path.write_text(word(text))
        os.utime(path, ns=(10**18, 10**18))  # as tools set it that copy files with their times
        serves(script, text)


def test_requests_meanwhile_are_answered(machine: Machine) -> None:
    script = serving(machine)
    with Load(script.address) as load:
        for text in ("two", "three"):
            (machine.work / "words.py").write_text(word(text))
            serves(script, text)
            script.wait_for_line(r"words\.py changed: Word restarts, .* s, 0 of [1-9]\d* requests failed")
    assert set(load.outcomes) == {"200"}, load.outcomes


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("word = (\n", "SyntaxError"),
        ("import nowhere_at_all\n", "No module named 'nowhere_at_all'"),
        ("word = 1 / 0\n", "ZeroDivisionError"),
        ("raise SystemExit(3)\n", "ended the import with sys.exit(3)"),
        ("import os; os._exit(4)\n", "its process ended with status 4"),
        ("import os; os.kill(os.getpid(), 9)\n", "its process ended by signal 9"),
    ],
)
def test_what_does_not_load_leaves_what_was_there(machine: Machine, broken: str, words: str) -> None:
    script = serving(machine)
    path = machine.work / "words.py"
    path.write_text(broken)
    script.wait_for_line("what was there goes on serving; waiting for a change")
    assert words in script.output
    assert "_driver/" not in script.output
    assert script.get().text == "one"
    path.write_text(word("two"))
    serves(script, "two")


def test_one_traceback_is_said_once(machine: Machine) -> None:
    script = serving(machine)
    (machine.work / "words.py").write_text("word = 1 / 0\n")
    script.wait_for_line("waiting for a change")
    (machine.work / "shop.py").write_text(SHOP + "# still broken elsewhere\n")
    script.wait_for_line(r"shop\.py changed, but .* \(as before\)")
    assert script.output.count("ZeroDivisionError") == 1


def test_a_constructor_that_fails_leaves_what_was_there(machine: Machine) -> None:
    script = serving(machine)
    failing = SHOP.replace("    async def", "    def __init__(self):\n        {}['gone']\n\n    async def")
    (machine.work / "shop.py").write_text(failing)
    script.wait_for_line("failed to deploy")
    script.wait_for_line("what was there goes on serving; waiting for a change")
    assert "KeyError: 'gone'" in script.output
    assert script.get().text == "one"
    (machine.work / "words.py").write_text(word("two"))
    (machine.work / "shop.py").write_text(SHOP)
    serves(script, "two")


def test_it_begins_with_code_that_is_broken(machine: Machine) -> None:
    machine.write("shop.py", SHOP)
    script = run(machine)
    script.wait_for_line("nothing is served yet; waiting for a change")
    assert "No module named 'words'" in script.output
    machine.write("words.py", word("new"))  # a file that was not there
    script.wait_for_line("is running")
    serves(script, "new")


def test_it_begins_with_code_that_ends_the_process(machine: Machine) -> None:
    """Whose fork, moreover, keeps the pipe open on which it would answer."""
    machine.write("inner/shop.py", "import os\nos.fork() or __import__('time').sleep(600)\nos._exit(3)\n")
    script = run(machine, "--app-dir", "inner")
    script.wait_for_line("its process ended with status 3")
    script.wait_for_line("nothing is served yet; waiting for a change")
    machine.write("inner/words.py", word("one"))
    machine.write("inner/shop.py", SHOP)
    script.wait_for_line("is running")
    serves(script, "one")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nowhere:app"], 1, "there is no module 'nowhere' in"),
        (["shop:nothing"], 1, "module 'shop' has no 'nothing'; it has the application app"),
        (["shop"], 2, "MODULE:NAME, such as app:app"),
        (["shop:app", "--app-dir", "nowhere"], 2, "'nowhere' is no directory"),
        (["shop:app", "a"], 2, "arguments of the application are KEY=VALUE"),
    ],
)
def test_a_wrong_command_line_does_not_wait(machine: Machine, arguments: list[str], status: int, words: str) -> None:
    machine.write("shop.py", SHOP)
    machine.write("words.py", word("one"))
    ended = machine.cli("run", "--reload", *arguments)
    assert ended.returncode == status, ended.stderr
    assert words in ended.stderr
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")


def test_saves_in_a_row_are_one_reload(machine: Machine) -> None:
    script = serving(machine)
    path = machine.work / "words.py"
    for number in range(20):
        path.write_text(word(f"w{number}"))
        time.sleep(0.01)  # what is tested: saves this close to each other
    serves(script, "w19")
    script.wait_for_line("words.py changed")
    assert script.output.count("changed") <= 3, script.output


def test_a_save_while_it_loads_is_served_and_the_old_load_is_ended(machine: Machine) -> None:
    script = serving(machine)
    path = machine.work / "words.py"
    path.write_text("import time\nprint('hangs', flush=True)\ntime.sleep(600)\n")
    script.wait_for_line("hangs")
    path.write_text(word("two"))
    serves(script, "two")
    assert "goes on serving" not in script.output


def test_only_what_changed_restarts(machine: Machine) -> None:
    """An option that replicas take as they run is taken so, and a save of the same text does nothing."""
    script = serving(machine)
    before = machine.replicas()
    path = machine.work / "shop.py"
    path.write_text(SHOP)
    os.utime(path)
    (machine.work / "notes.txt").write_text("no module")
    (machine.work / ".hidden.py").write_text("neither")
    (machine.work / "words.py").write_text(word("two"))
    script.wait_for_line(r"words\.py changed")
    assert "shop.py changed" not in script.output
    assert "notes" not in script.output
    eventually(lambda: not before & machine.replicas(), "the replica before is gone")


def test_a_package_links_and_a_directory_that_goes_and_comes_back(machine: Machine) -> None:
    one, two = machine.write("versions/one.txt", word("one")), machine.write("versions/two.txt", word("two"))
    machine.write("code/shop.py", SHOP.replace("import words", "from inner import words"))
    machine.write("code/inner/__init__.py", "")
    link = machine.work / "code/inner/words.py"
    link.symlink_to(one)
    script = run(machine, "--app-dir", "code")
    script.wait_for_line("is running")
    serves(script, "one")
    beside = link.with_name("beside")
    beside.symlink_to(two)
    beside.replace(link)
    serves(script, "two")
    script.wait_for_line(r"inner/words\.py changed: Word restarts")
    two.write_text(word("three"))  # the target itself
    serves(script, "three")
    script.wait_for_line(r"inner/words\.py changed: Word restarts")
    (machine.work / "code").rename(machine.work / "away")
    script.wait_for_line("code' is not there")
    assert script.get().text == "three"
    two.write_text(word("four"))
    (machine.work / "away").rename(machine.work / "code")
    serves(script, "four")
    shutil.rmtree(machine.work / "code" / "inner")
    script.wait_for_line("goes on serving")
    assert script.get().text == "four"


@pytest.mark.parametrize("moment", ["import", "constructor", "broken", "served"])
def test_ctrl_c_ends_it_at_any_moment(machine: Machine, moment: str) -> None:
    machine.write("shop.py", SHOP)
    machine.write(
        "words.py",
        {
            "import": "import time; print('here', flush=True); time.sleep(600)\n",
            "constructor": word("one"),
            "broken": "print('here', flush=True); 1 / 0\n",
            "served": word("one"),
        }[moment],
    )
    if moment == "constructor":
        sleeps = "    def __init__(self):\n        import time; print('here', flush=True); time.sleep(600)\n"
        machine.write("shop.py", SHOP.replace("class Word:\n", f"class Word:\n{sleeps}"))
    script = run(machine)
    script.wait_for_line(
        "is running" if moment == "served" else "waiting for a change" if moment == "broken" else "here"
    )
    assert script.interrupt() == (0 if moment == "served" else 130), script.output
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")
    assert "KeyboardInterrupt" not in script.output


def test_ctrl_c_during_a_reload_ends_it_with_status_0(machine: Machine) -> None:
    script = serving(machine)
    (machine.work / "words.py").write_text("import time; print('here', flush=True); time.sleep(600)\n")
    script.wait_for_line("here")
    assert script.interrupt() == 0, script.output
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")


def test_its_loads_end_with_it_even_when_it_is_killed(machine: Machine) -> None:
    script = serving(machine)
    (machine.work / "words.py").write_text("import time; print('here', flush=True); time.sleep(600)\n")
    script.wait_for_line("here")
    assert loaders(machine)
    script.process.kill()
    script.wait()
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")


def test_sigterm_ends_it(machine: Machine) -> None:
    script = serving(machine)
    script.process.send_signal(signal.SIGTERM)
    assert script.wait() == 128 + signal.SIGTERM
    eventually(lambda: not machine.left(), f"nothing runs afterwards: {machine.left()}")


def test_a_node_that_dies_is_no_success(machine: Machine) -> None:
    script = serving(machine)
    os.kill(machine.one("eagleray: node$"), signal.SIGKILL)
    assert script.wait() == 1
    assert "has ended; its log is in" in script.output
    assert "Traceback" not in script.output


def test_on_a_resident_node_only_what_it_served_ends(machine: Machine) -> None:
    address = machine.start_resident()
    machine.write("shop.py", SHOP)
    machine.write("words.py", word("one"))
    other = machine.serve("from eagleray import serve\n" + SHOP, run='serve.run(app, name="default")')
    machine.write("words.py", "word = (\n")
    script = run(machine)
    script.wait_for_line("nothing is served yet; waiting for a change")
    assert script.interrupt() == 130
    assert request("GET", address + "/").text == "one", "another's application of that name goes on"
    machine.write("words.py", word("two"))
    script = run(machine)
    script.wait_for_line("is running")
    assert request("GET", address + "/").text == "two"
    assert script.interrupt() == 0
    assert request("GET", address + "/").status == 404
    other.end()


def test_a_module_level_run_is_left_alone(machine: Machine) -> None:
    machine.write("shop.py", SHOP + "\nserve.run(app)\n")
    machine.write("words.py", word("one"))
    script = run(machine)
    script.wait_for_line("ignored in the build step")
    script.wait_for_line("is running")
    assert len(machine.nodes()) == 1


def test_packages_are_imported_before_the_save(machine: Machine) -> None:
    """The process that loads has been there before, with the imports of the last load done."""
    note = "import os\nwith open(os.environ['NOTES'], 'a') as notes:\n    print(__name__, os.getpid(), file=notes)\n"
    only_loads = "import os\nif not os.environ.get('EAGLERAY_REPLICA'):\n"
    machine.write("lib/site-packages/heavy.py", only_loads + "".join(f"    {line}\n" for line in note.splitlines()))
    machine.write("shop.py", SHOP)
    machine.write("words.py", "import heavy\n" + word("one"))
    notes = machine.work / "notes"
    environment = {"PYTHONPATH": str(machine.work / "lib/site-packages"), "NOTES": str(notes)}
    script = run(machine, environment=environment)
    script.wait_for_line("is running")
    eventually(lambda: len(notes.read_text().splitlines()) == 2, "the next load has begun with the package")
    ahead = notes.read_text().splitlines()[1].split()[1]
    inner = "".join(f"    {line}\n" for line in note.splitlines())
    (machine.work / "words.py").write_text("import heavy\n" + only_loads + inner + word("two"))
    serves(script, "two")
    assert f"words {ahead}" in notes.read_text().splitlines()


def test_a_package_that_imports_what_is_edited_is_not_taken_ahead(machine: Machine) -> None:
    machine.write("lib/site-packages/plugin.py", "import words\n")
    machine.write("shop.py", SHOP.replace("import words", "import plugin, words"))
    machine.write("words.py", word("one"))
    script = run(machine, environment={"PYTHONPATH": str(machine.work / "lib/site-packages")})
    script.wait_for_line("is running")
    eventually(lambda: loaders(machine), "the next load has begun")
    for text in ("two", "three"):
        (machine.work / "words.py").write_text(word(text))
        serves(script, text)


def test_imports_that_do_not_bear_another_order_are_made_in_theirs(machine: Machine) -> None:
    """Ahead a package is imported without what the user's modules do before."""
    machine.write("lib/site-packages/touchy.py", "import os\n'TOLD' in os.environ or os._exit(9)\n")
    machine.write("shop.py", "import os\nos.environ['TOLD'] = 'yes'\nimport touchy\n" + SHOP)
    machine.write("words.py", word("one"))
    script = run(machine, environment={"PYTHONPATH": str(machine.work / "lib/site-packages")})
    script.wait_for_line("is running")
    for text in ("two", "three"):
        (machine.work / "words.py").write_text(word(text))
        serves(script, text)
    assert "goes on serving" not in script.output


def test_bytecode_that_is_as_old_and_as_long_is_not_taken(machine: Machine) -> None:
    """Python takes a `.pyc` by whole seconds and size: a test runner may have left one of the edit before."""
    script = serving(machine)
    path = machine.work / "words.py"
    path.write_text(word("old"))
    os.utime(path, (10**9, 10**9))
    plain = machine.start([sys.executable, "-m", "py_compile", "words.py"])
    assert plain.wait() == 0
    assert list((machine.work / "__pycache__").glob("words.*.pyc"))
    path.write_text(word("new"))
    os.utime(path, (10**9, 10**9))
    serves(script, "new")
