"""`make reference`: writes the pages of docs/reference that are made of tables.

| page | made of |
|---|---|
| config.md | docs/config.schema.json, which a test of `crates/config` compares with the table of keys |
| environment-variables.md | docs/reference/environment-variables.toml, which a test compares with the source |
| log-files.md | docs/reference/log-files.toml, which a test compares with what a node writes |

So a name, a default or a limit is stated once. command-line.md and openapi.json beside them are made by the executable
and by the tests of `crates/rest`. `--check` writes nothing and fails if a page is not what would be written.
"""

import difflib
import json
import sys
import tomllib

from project import ROOT, say

FOLDER = ROOT / "docs" / "reference"
SCHEMA = ROOT / "docs" / "config.schema.json"
NOTE = "<!-- Made by `make reference` from %s; do not edit. -->\n"
CONFIG = """# Keys of a config

%s
A config is a YAML or JSON file for `eagleray deploy`, or the body of a `PUT` to the [control API](../rest.md). What the
keys do together is said in [config.md](../config.md). A key that is not here is refused, and the nearest one is named;
keys that begin with `x-` are yours.
"""
VARIABLES = """# Environment variables

%s
Every variable that Eagleray reads or sets. A test compares the list with the source. What reaches replicas is said in
[files-and-environment.md](../files-and-environment.md#environment-of-replicas).

## Those you can set

*node* means: read once, when the node starts, by `eagleray start`, or by the script or `eagleray run` that starts a
node of its own. An empty variable counts as not set. A number that cannot be read stops the start with a message that
names the variable.

| variable | default | read by | meaning |
|---|---|---|---|
"""
OWN = """
## Those that Eagleray sets for its own processes

Do not set these. They are listed so that you know them when you see them in `/proc/PID/environ`.

| variable | in | meaning |
|---|---|---|
"""
LOGS = """# Log files

%s
Every file in the directory of a node's logs. A test compares the list with what a node writes. Where the directory is
is said in [files-and-environment.md](../files-and-environment.md#where-the-directories-are); how lines look, how to
search them and how large files get, in [logs.md](../logs.md).

| file | written by | has |
|---|---|---|
"""


def config_page():
    """Every key of a config, a section for each object."""
    schema = json.loads(SCHEMA.read_text())
    out = [CONFIG % (NOTE % "docs/config.schema.json")]
    for path, node in objects("", schema):
        out.append("\n## %s\n\n" % ("Top level" if not path else "`%s`" % path))
        out.append("%s\n\n| key | type | default | meaning |\n|---|---|---|---|\n" % node["description"])
        required = node.get("required", [])
        for key, value in sorted(node["properties"].items(), key=lambda item: (item[0] not in required, item[0])):
            default = "required" if key in required else default_of(value)
            row = ("`%s`" % key, kind(value), default, value.get("description", ""))
            out.append("| %s |\n" % " | ".join(map(cell, row)))
    return "".join(out)


def objects(path, node):
    """(path, node) of an object with keys, and of those in it, in their order."""
    node, lists = unwrapped(node)
    if "properties" not in node:
        return
    path += "[]" * lists
    yield path, node
    for key, value in sorted(node["properties"].items()):
        yield from objects("%s.%s" % (path, key) if path else key, value)


def unwrapped(node):
    """What is in lists and beside null, and in how many lists."""
    lists = 0
    while True:
        if node.get("type") == "array":
            node, lists = node.get("items", {}), lists + 1
        elif "anyOf" in node and any("properties" in one for one in node["anyOf"]):
            node = next(one for one in node["anyOf"] if "properties" in one)
        else:
            return node, lists


def kind(node):
    """The type of a value in words, with its bounds."""
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(kind(one) for one in node["anyOf"]))
    if "enum" in node:
        return ", ".join("`%s`" % one for one in node["enum"])
    if "const" in node:
        return "`%s`" % json.dumps(node["const"])
    if node.get("type") == "array":
        return "list of %s" % kind(node.get("items", {}))
    names = node.get("type", "anything")
    name = " or ".join(names) if isinstance(names, list) else names
    return name + bounds(node)


def bounds(node):
    """` from 1 to 5`, as far as there are any."""
    words = [
        text % number(node[key])
        for key, text in (
            ("minimum", "from %s"),
            ("exclusiveMinimum", "above %s"),
            ("maximum", "to %s"),
            ("exclusiveMaximum", "below %s"),
            ("maxLength", "of at most %s characters"),
        )
        if key in node
    ]
    return "".join(" " + word for word in words)


def number(value):
    """Without the `.0` of what is whole."""
    return "%d" % value if value == int(value) else str(value)


def default_of(node):
    """The default as it would be written; empty: not stated, so what the code says holds."""
    return "`%s`" % json.dumps(node["default"]) if "default" in node else ""


def variables_page():
    """Every environment variable."""
    table = tomllib.loads((FOLDER / "environment-variables.toml").read_text())
    out = [VARIABLES % (NOTE % "docs/reference/environment-variables.toml")]
    for one in table["variable"]:
        row = ("`%s`" % one["name"], one.get("default", ""), one["by"], one["text"])
        out.append("| %s |\n" % " | ".join(map(cell, row)))
    out.append(OWN)
    for one in table["own"]:
        out.append("| %s |\n" % " | ".join(map(cell, ("`%s`" % one["name"], one["in"], one["text"]))))
    return "".join(out)


def logs_page():
    """Every file below the log directory."""
    table = tomllib.loads((FOLDER / "log-files.toml").read_text())
    out = [LOGS % (NOTE % "docs/reference/log-files.toml")]
    for one in table["file"]:
        out.append("| %s |\n" % " | ".join(map(cell, ("`%s`" % one["name"], one["by"], one["text"]))))
    return "".join(out)


def cell(text):
    """Text that does not end its cell."""
    return str(text).replace("|", "\\|").replace("\n", " ")


PAGES = {"config.md": config_page, "environment-variables.md": variables_page, "log-files.md": logs_page}


def main(arguments):
    """Writes the pages, or compares them."""
    wrong = False
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        before = path.read_text() if path.exists() else ""
        if "--check" not in arguments:
            path.write_text(text)
        elif before != text:
            wrong = True
            lines = difflib.unified_diff(before.splitlines(), text.splitlines(), name, "as it would be", lineterm="")
            say("\n".join(lines))
            say("docs/reference/%s is not what its table makes: make reference" % name)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
