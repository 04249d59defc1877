"""Says how PyYAML reads snippets, in the table that the parser of configs is tested against.

    .venv/bin/python scripts/yaml_table.py      # rewrites crates/config/tests/pyyaml.json

The table is its own list of snippets: for another one add a row `{"yaml": ...}`, and run this. `SafeLoader` is what
reads the same files elsewhere. Where a config cannot hold what it makes of a snippet, the row says so: dates, numbers
that JSON has not, keys that stand twice, recursive values. A test of Python compares the table with what PyYAML says
now.
"""

import json
import math

import yaml

from project import ROOT, say

TABLE = ROOT / "crates" / "config" / "tests" / "pyyaml.json"


class NotHeldError(Exception):
    """PyYAML makes something of it that a config cannot hold."""


def held(value, around=()):
    """`value` as JSON would carry it."""
    if id(value) in around:
        raise NotHeldError("recursive")
    around = (*around, id(value))
    if isinstance(value, dict):
        keys = [key_text(key) for key in value]
        if len(keys) != len(set(keys)):
            raise NotHeldError("keys that are one in JSON")
        return {key: held(item, around) for key, item in zip(keys, value.values(), strict=True)}
    if isinstance(value, list):
        return [held(item, around) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise NotHeldError(repr(value))


def key_text(key):
    """A key as `json.dumps` writes it."""
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, (bool, int, float)):
        return json.dumps(held(key))
    raise NotHeldError(repr(key))


def check_keys(node, seen=()):
    """Refuses a mapping that has a key twice, of which PyYAML would keep the last."""
    if id(node) in seen:
        return
    seen = (*seen, id(node))
    if isinstance(node, yaml.MappingNode):
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(keys) != len(set(keys)):
            raise NotHeldError("a key twice")
        for key, value in node.value:
            check_keys(key, seen)
            check_keys(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            check_keys(item, seen)


def row(text):
    """The table's row of a snippet: with `json`, or with `refused` where there is nothing that a config can hold."""
    try:
        check_keys(yaml.compose(text, Loader=yaml.SafeLoader))
        return {"yaml": text, "json": held(yaml.safe_load(text))}
    except (yaml.YAMLError, NotHeldError, ValueError, KeyError, IndexError, AttributeError, TypeError, RecursionError):
        return {"yaml": text, "refused": True}


def table():
    """The text of the table: one row a line, so that a difference shows."""
    snippets = dict.fromkeys(known["yaml"] for known in json.loads(TABLE.read_text()))
    rows = [json.dumps(row(text), ensure_ascii=True, sort_keys=True) for text in snippets]
    return "[\n%s\n]\n" % ",\n".join(rows)


if __name__ == "__main__":
    TABLE.write_text(table())
    say(str(TABLE.relative_to(ROOT)))
