"""The fenced blocks of a page, and which of them a reader would run.

| block | is |
|---|---|
| `python` or `yaml` whose first line is `# NAME.py`, `# NAME.yaml` | a file that the reader saves under that name |
| any other `python` | a script that runs to its end with status 0 |
| `console` | commands after `$ `, and below each what it prints; `...` stands for anything |
| `sh` | commands alone, which end with status 0 |

Everything else (`text`, `json`, ...) is to be read. A block below a line `<!-- not run: REASON -->` is not run.
"""

import re
from pathlib import Path
from typing import NamedTuple

from machine import ROOT

RUN = ("python", "console", "sh")
READ = ("text", "diff", "mermaid", "json", "toml", "yaml", "ini", "nginx", "rust")
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n+)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
FILE = re.compile(r"# ([\w/.-]+\.(?:py|env|yaml|json))\n")
COMMENT = re.compile(r"\s+#\s.*$")


class Block(NamedTuple):
    line: int
    language: str
    text: str
    #: Why it is not run; empty if it is.
    reason: str

    @property
    def file(self) -> str:
        """The name under which the reader saves it; empty for a script."""
        found = FILE.match(self.text)
        return found.group(1) if found else ""

    @property
    def is_followed(self) -> bool:
        """Whether a reader does something with it."""
        return (self.language in RUN or bool(self.file)) and not self.reason


class Command(NamedTuple):
    text: str
    #: What the page shows below it; None if it shows nothing.
    output: str | None

    @property
    def in_background(self) -> bool:
        return self.text.endswith(" &")


def pages() -> list[str]:
    """Every page for readers, by its path in the repository. Generated ones too."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def blocks(page: str) -> list[Block]:
    text = Path(ROOT / page).read_text()
    return [
        Block(text.count("\n", 0, found.start("language")) + 1, found["language"], found["text"], found["reason"] or "")
        for found in FENCE.finditer(text)
    ]


def commands(block: Block) -> list[Command]:
    """The commands of a `console` or `sh` block."""
    lines = block.text.splitlines()
    if block.language == "sh":
        lines = [f"$ {line}" for line in lines if line and not line.startswith("#")]
    found: list[Command] = []
    for line in lines:
        if line.startswith("$ "):
            found.append(Command(COMMENT.sub("", line[2:]), None))
        elif found and found[-1].output is None and found[-1].text.endswith("\\"):
            found[-1] = Command(f"{found[-1].text}\n{line}", None)
        elif found:
            shown = found[-1].output
            found[-1] = found[-1]._replace(output=line if shown is None else f"{shown}\n{line}")
        else:
            raise ValueError(f"line {block.line}: a console block begins with `$ `")
    return found
