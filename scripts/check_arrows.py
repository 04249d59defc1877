"""Which way dependencies run: between crates, and between the files of one crate or of the Python package.

Part of `make lint`. The arrows between crates are a table here, so that a new one is a decision and not an accident;
the three that are missing on purpose are named in ARCHITECTURE.md. Between files, one that uses another may not be used
by it, directly or around a circle: whoever reads either would have to read both. A circle that stays is listed with its
reason, and one that is gone must leave the list.

A file uses another when it names something of it: in Rust by `use` or a path, followed through re-exports to the file
that defines the name; `mod` alone is no use, and a part of a module (`core/queue.rs`) may name what the module's own
file has (`core.rs`), since that is what makes it a part. In Python by an import, also one inside a function, which
makes a start quicker and unties no circle; one under TYPE_CHECKING is gone when the program runs.
"""

import ast
import re
import sys

from project import ROOT, say

# What each crate may use, besides crates that others make. `*`: everything.
ARROWS = {
    "types": (),
    "autoscaler": (),
    "config": ("types",),
    "logs": (),
    "metrics": (),
    "series": ("metrics",),
    "wire": ("types",),
    "router": ("types", "wire"),
    "client": ("types", "wire", "router", "metrics"),
    "proxy": ("types", "wire", "router", "logs", "metrics"),
    "replica": ("types", "wire", "metrics"),
    "controller": ("types", "autoscaler", "config", "wire", "metrics"),
    "rest": ("types", "config", "wire", "logs", "series"),
    "supervisor": ("types", "wire", "logs"),
    "cli": ("types", "wire", "config", "supervisor"),
    "py": ("types", "config", "wire", "client", "replica", "metrics"),
    "testkit": ("types", "wire", "router", "replica"),
    "node": "*",
}

# Circles that stay, by crate: which files each has, and why. There is none.
CIRCLES: dict[str, list[tuple[str, ...]]] = {}

USE = re.compile(r"(?<![\w:])((?:crate|super|self)(?:::(?:\w+|\*|\{[^;]*?\}(?=\s*;)))+)", re.DOTALL)
USE_CHILD = re.compile(r"^\s*(?:pub(?:\([^)]*\))?\s+)?use\s+(\w+::[^;]+);", re.MULTILINE)
REEXPORT = re.compile(r"^\s*pub(?:\([^)]*\))?\s+use\s+([^;]+);", re.MULTILINE)
TESTS = re.compile(r"#\[cfg\((?:all\()?(?:test|loom|kani)\b.*", re.DOTALL)


def crate_arrows():
    """Every dependency between crates stands in the table, and the table names nothing that is gone."""
    for manifest in sorted((ROOT / "crates").glob("*/Cargo.toml")):
        crate = manifest.parent.name
        text = manifest.read_text().split("[dev-dependencies]")[0]
        found = set(re.findall(r"^eagleray-(\w+) = ", text, re.MULTILINE))
        allowed = ARROWS.get(crate)
        if allowed is None:
            yield "%s: not in ARROWS of scripts/check_arrows.py" % manifest.relative_to(ROOT)
        elif allowed != "*":
            for other in sorted(found - set(allowed)):
                yield "%s: uses %s, which is no arrow of scripts/check_arrows.py" % (manifest.relative_to(ROOT), other)
            for other in sorted(set(allowed) - found):
                yield "scripts/check_arrows.py: %s does not use %s any more" % (crate, other)


class Crate:
    """The modules of one crate's `src`, by path, and what each names."""

    def __init__(self, source):
        self.files = {}
        for file in sorted(source.rglob("*.rs")):
            parts = file.relative_to(source).with_suffix("").parts
            if "tests" in parts or parts == ("main",):
                continue
            self.files[() if parts == ("lib",) else parts] = file
        self.texts = {path: without_comments(file.read_text()) for path, file in self.files.items()}
        self.exports = {path: dict(self.reexports(path)) for path in self.files}

    def reexports(self, path):
        for found in REEXPORT.finditer(self.texts[path]):
            for names in flatten(found.group(1)):
                target = self.absolute(path, names)
                if target and target[-1] != "*":
                    yield target[-1], target

    def absolute(self, path, names):
        """A path as written in the file `path`, from the crate's root; None if it leads outside."""
        names = list(names)
        if names[0] == "crate":
            return tuple(names[1:])
        if names[0] == "self":
            return path + tuple(names[1:])
        if names[0] == "super":
            while names and names[0] == "super":
                path = path[:-1] if path else path
                names.pop(0)
            return path + tuple(names)
        return path + tuple(names) if (*path, names[0]) in self.files else None

    def defining(self, target, depth=0):
        """The file that defines what `target` names."""
        for length in range(len(target), -1, -1):
            module = target[:length]
            if module in self.files:
                rest = target[length:]
                exported = self.exports[module].get(rest[0]) if rest else None
                if exported and exported != target and depth < 8:
                    return self.defining(exported + rest[1:], depth + 1)
                return module
        return ()

    def uses(self):
        """(file, file) for each use of one by the other."""
        for path, text in self.texts.items():
            found = [match.group(1) for match in USE.finditer(text)]
            found += [match.group(1) for match in USE_CHILD.finditer(text)]
            for written in found:
                for names in flatten(written):
                    target = self.absolute(path, names)
                    if target is not None:
                        used = self.defining(target)
                        # `core.rs` and `core/*.rs` are one module: what its parts share stands in the first.
                        if used != path[: len(used)]:
                            yield self.files[path], self.files[used]


def flatten(written):
    """`a::{b, c::d}` as (a, b) and (a, c, d)."""
    written = re.sub(r"\s+as\s+\w+", "", written)
    written = re.sub(r"\s+", "", written)
    opened = written.find("{")
    if opened < 0:
        yield tuple(name for name in written.split("::") if name)
        return
    before = [name for name in written[:opened].split("::") if name]
    depth, start = 0, opened + 1
    for at in range(opened + 1, len(written)):
        if written[at] == "{":
            depth += 1
        elif written[at] == "}" and depth:
            depth -= 1
        elif written[at] in ",}" and not depth:
            if written[start:at]:
                for rest in flatten(written[start:at]):
                    yield tuple(before) + (() if rest == ("self",) else rest)
            start = at + 1
            if written[at] == "}":
                return


def without_comments(text):
    """A file as its product sees it: no comments, no tests at its end."""
    text = re.sub(r"//[^\n]*", "", text)
    return TESTS.sub("", text)


def python_uses(package):
    """(file, file) for each import in a file of the package."""
    files = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        files[parts[:-1] if parts[-1] == "__init__" else parts] = file
    for name, file in files.items():
        here = name if file.name == "__init__.py" else name[:-1]
        for node in imports(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                base = here[: len(here) - node.level + 1] if node.level else ()
                base += tuple(node.module.split(".")) if node.module else ()
                targets = [(*base, alias.name) for alias in node.names]
            else:
                targets = [tuple(alias.name.split(".")) for alias in node.names]
            for target in targets:
                used = files.get(target) or files.get(target[:-1])
                if used and used != file:
                    yield file, used


def imports(node):
    """The import statements in a syntax tree that run when the program does."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield node
        return
    for_types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    for child in node.orelse if for_types else ast.iter_child_nodes(node):
        yield from imports(child)


def circles(edges):
    """Groups of files that use each other around a circle, each sorted (Tarjan's strongly connected components)."""
    graph = {}
    for user, used in edges:
        graph.setdefault(user, set()).add(used)
        graph.setdefault(used, set())
    index, low, on_stack, stack, found = {}, {}, set(), [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on_stack.add(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on_stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = set()
            while node not in group:
                group.add(stack.pop())
            on_stack.difference_update(group)
            if len(group) > 1:
                found.append(tuple(sorted(str(file.relative_to(ROOT)) for file in group)))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def file_circles():
    """Circles that are not listed, and listed ones that are gone."""
    found = set()
    for source in sorted((ROOT / "crates").glob("*/src")):
        found.update(circles(Crate(source).uses()))
    found.update(circles(python_uses(ROOT / "python" / "eagleray")))
    listed = {
        tuple(sorted(f"crates/{crate}/src/{file}" for file in files))
        for crate, groups in CIRCLES.items()
        for files in groups
    }
    for group in sorted(found - listed):
        yield "%s: a circle of %d files: %s" % (group[0], len(group), ", ".join(group))
    for group in sorted(listed - found):
        yield "scripts/check_arrows.py: this circle is gone: " + ", ".join(group)


def main():
    """Prints every finding; 1 if there is one."""
    findings = [*crate_arrows(), *file_circles()]
    for finding in findings:
        say(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
