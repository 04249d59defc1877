"""A page keeps its promises: whoever does what it says, block by block, sees what it shows."""

import shutil

import pytest
from blocks import READ, RUN, blocks, pages
from reader import Reader

from machine import ROOT, Machine

#: How many blocks of a page cannot be run here; each says why above itself. All others are run.
NOT_RUN = {
    "CONTRIBUTING.md": 1,
    "README.md": 1,
    "docs/guides/production.md": 1,
    "docs/http.md": 1,
    "docs/rest.md": 2,
    "examples/retrieval/README.md": 2,
}
COMMANDED = [page for page in pages() if any(block.is_followed for block in blocks(page))]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", COMMANDED)
def test_what_a_page_says_can_be_done(page: str, machine: Machine) -> None:
    reader = Reader(machine)
    if page.startswith("examples/"):
        example = (ROOT / page).parent
        # Without what was trained in this checkout, so that it is trained here.
        shutil.copytree(example, reader.project / example.relative_to(ROOT), ignore=shutil.ignore_patterns("model"))
    try:
        for block in blocks(page):
            if block.is_followed:
                reader.follow(block)
    finally:
        reader.leave()


def test_every_block_says_what_it_is() -> None:
    wrong = [
        f"{page}:{block.line}: `{block.language}` is none of {', '.join((*RUN, *READ))}"
        for page in pages()
        for block in blocks(page)
        if block.language not in (*RUN, *READ) or (block.language in READ and block.text.startswith("$ "))
    ]
    assert not wrong


def test_what_is_not_run_is_counted() -> None:
    counted = {page: sum(bool(block.reason) for block in blocks(page)) for page in pages()}
    assert {page: count for page, count in counted.items() if count} == NOT_RUN


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index]
    assert missing == ["README.md"]
