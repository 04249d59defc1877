"""The reader of pages is not easily pleased: what a page shows and does not happen is found."""

from collections.abc import Iterator

import pytest
from blocks import Block
from reader import Reader

from machine import Machine


@pytest.fixture
def reader(machine: Machine) -> Iterator[Reader]:
    made = Reader(machine)
    yield made
    made.leave()


@pytest.mark.parametrize(
    ("language", "text", "says"),
    [
        ("python", "raise SystemExit(3)\n", "ended with status 3"),
        ("sh", "true\nfalse\n", "ended with status 1"),
        ("console", "$ false\n", "ended with status 1"),
        ("console", "$ echo one; echo two\none\n", "printed:\none\ntwo"),
        ("console", "$ echo one\none\ntwo\n", "where the page shows:\none\ntwo"),
        ("console", "$ echo a.c\na...d\n", "where the page shows"),
        ("console", "$ no-such-command\n", "ended with status 127"),
        ("console", "$ echo shop r1 FAILED after 0.4 s\nshop r1 RUNNING after 0.4 s\n", "where the page shows"),
        ("console", "$ echo 12:00:00 built; echo up\n12:00:00 build\nup\n", "where the page shows"),
    ],
)
def test_what_a_page_shows_and_does_not_happen_is_found(reader: Reader, language: str, text: str, says: str) -> None:
    with pytest.raises(AssertionError) as caught:
        reader.follow(Block(1, language, text, ""))
    assert says in str(caught.value)


def test_what_happens_as_the_page_shows_it_passes(reader: Reader) -> None:
    for language, text in (
        ("python", "# there.py\nprint('http://127.0.0.1:8000/', 'in /home/you')\n"),
        ("console", "$ python there.py\nhttp://127.0.0.1:8000/ in /home/you\n"),
        ("console", "$ printf 'a\\nb\\nc'\na\n...\nc\n$ printf x\\\ny\nxy\n"),
        ("console", "$ X=1\n$ echo $X; cd /tmp; pwd\n1\n/tmp\n"),
        ("console", "$ echo 2026-01-01 10:00:00,123 process 7\n2026-02-02 11:11:11,000 process 8\n"),
        ("console", "$ echo up after 12.3 s, today 10:00\nup after 0.4 s, yesterday 23:59\n"),
        ("sh", "# says nothing\nsleep 60 &\nkill $!\n"),
    ):
        reader.follow(Block(1, language, text, ""))
    assert "8000" not in (reader.project / "there.py").read_text(), "the port is one that is free here"


def test_what_runs_in_the_background_is_waited_for(reader: Reader) -> None:
    reader.follow(Block(1, "console", "$ (read nothing; echo up) &\nup\n", ""))
