"""What no linter says: the rules that keep the tree readable, and its documents true.

Part of `make lint`. Each rule is one function that yields what is wrong, as `file:line: text`.
"""

import re
import subprocess
import sys

from project import ROOT, say

# Put together here, so that this file does not break its own rule.
FORBIDDEN = {
    re.compile(r"(?<![\w./-])/wor" + r"k/"): "a path of somebody's machine",
    re.compile("|".join(("py" + r"pi\.org", "python" + "hosted", r"(static|index)\.cra" + r"tes\.io"))): (
        "the host of a package registry; the build takes whichever is set up"
    ),
    re.compile(r"^(<{7}|>{7}) ", re.MULTILINE): "a merge conflict",
}
LONGEST_FILE = 800
LONGEST_DOCUMENT = {"README.md": 150, "CONTRIBUTING.md": 120}
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)]*))?\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
MAKE = re.compile(r"(?:^|`)make ([a-z][a-z-]*)", re.MULTILINE)


def tracked():
    """Every file that git knows or would take, as (path, text); binaries are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=str(ROOT),
        check=True,
        stdout=subprocess.PIPE,
    )
    for name in listed.stdout.decode().splitlines():
        path = ROOT / name
        if path.is_file():
            data = path.read_bytes()
            if b"\0" not in data:
                yield name, data.decode("utf-8", "replace")


def forbidden_words(name, text):
    """Nothing in the tree names machines or registries."""
    for pattern, reason in FORBIDDEN.items():
        for found in pattern.finditer(text):
            yield "%s:%d: %s" % (name, line_of(text, found), reason)


def file_length(name, text):
    """A file that nobody can hold in the head is split."""
    lines = text.count("\n")
    limit = LONGEST_DOCUMENT.get(name, LONGEST_FILE if name.endswith((".rs", ".py")) else None)
    if limit and lines > limit:
        yield "%s:%d: longer than %d lines" % (name, lines, limit)


def module_doc(name, text):
    """A Rust file with logic says first what it is."""
    source = name.startswith("crates/") and "/src/" in name and name.endswith(".rs") and not name.endswith("tests.rs")
    if source and text.count("\n") > 30 and not text.startswith("//!"):
        yield "%s:1: no module doc (`//!`)" % name


def links(name, text):
    """Links between documents lead somewhere, down to the heading."""
    if name.endswith(".md"):
        for found in LINK.finditer(text):
            target, heading = found.groups()
            if "://" in target:
                continue
            path = (ROOT / name).parent / target if target else ROOT / name
            if not path.exists():
                yield "%s:%d: broken link %s" % (name, line_of(text, found), target)
            elif heading and heading not in anchors(path.read_text()):
                yield "%s:%d: no heading #%s in %s" % (name, line_of(text, found), heading, target or name)


def anchors(text):
    """What headings of a page are called in links to it."""
    return {re.sub(r"[^\w -]", "", found.group(1).lower()).replace(" ", "-") for found in HEADING.finditer(text)}


def make_targets(name, text):
    """A document names only commands that exist."""
    if name.endswith(".md"):
        rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for found in MAKE.finditer(text):
            if found.group(1) not in rules:
                yield "%s:%d: no `make %s`" % (name, line_of(text, found), found.group(1))


def line_of(text, found):
    """The line number of a match."""
    return text.count("\n", 0, found.start()) + 1


def whole_tree(names):
    """Rules about what exists: every crate has its paragraph and the shared lints."""
    architecture = (ROOT / "ARCHITECTURE.md").read_text()
    for manifest in sorted(name for name in names if re.fullmatch(r"crates/[^/]+/Cargo\.toml", name)):
        if "[lints]\nworkspace = true" not in (ROOT / manifest).read_text():
            yield "%s:1: no `[lints] workspace = true`" % manifest
        if "`%s`" % manifest.rsplit("/", 1)[0] not in architecture:
            yield "ARCHITECTURE.md:1: no paragraph on `%s`" % manifest.rsplit("/", 1)[0]


def main():
    """Prints every finding; 1 if there is one."""
    findings, names = [], []
    for name, text in tracked():
        names.append(name)
        for rule in (forbidden_words, file_length, module_doc, links, make_targets):
            # Cargo.lock names the index in every line; cargo gives no choice.
            if name != "Cargo.lock" or rule is not forbidden_words:
                findings.extend(rule(name, text))
    findings.extend(whole_tree(names))
    for finding in findings:
        say(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
