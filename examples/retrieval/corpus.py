"""What the pipeline answers from: scikit-learn's descriptions of its datasets, cut into passages."""

import re
from dataclasses import dataclass
from importlib import resources

SHORTEST, LONGEST = 8, 60  # words of a passage


@dataclass(frozen=True)
class Passage:
    """One or a few sentences, and the description that they come from."""

    source: str
    text: str


def passages() -> list[Passage]:
    """All of them, in an order that is the same everywhere."""
    found: list[Passage] = []
    for file in sorted(resources.files("sklearn.datasets.descr").iterdir(), key=lambda one: one.name):
        if file.name.endswith(".rst"):
            source = file.name.removesuffix(".rst").replace("_", " ")
            found += [Passage(source, text) for text in cut(file.read_text(encoding="utf-8"))]
    return found


def cut(text: str) -> list[str]:
    """Paragraphs of prose as passages of whole sentences; tables, markup and references are left out."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*[-*] )", text):
        line = plain(paragraph)
        words: list[str] = []
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", line):
            if len(words) + len(sentence.split()) > LONGEST and words:
                found.append(" ".join(words))
                words = []
            words += sentence.split()[:LONGEST]
        if words:
            found.append(" ".join(words))
    return [one for one in found if len(one.split()) >= SHORTEST and one[-1] in ".!?:"]


def plain(paragraph: str) -> str:
    """One line without the marks of reStructuredText; empty where it is no prose."""
    if re.search(r"^\s*(\.\.|>>>|=====|-----|:[A-Z])", paragraph, re.MULTILINE):
        return ""
    text = re.sub(r":\w+:`~?([^`<]*)[^`]*`|`+([^`]*)`+_*|\*+", lambda found: found[1] or found[2] or "", paragraph)
    return re.sub(r"\s+", " ", text).strip(" -")
