"""What `eagleray build` writes is what readers of YAML get back."""

import random
import string

import pytest
import yaml

from eagleray._driver import yaml_text

TEXTS = [
    "", " ", "a", "a b", "a ", " a", "yes", "No", "ON", "y", "N", "null", "~", "Null", "true", "<<", "=", "<", "-",
    "--", "- a", "-a", "?",
    "? a", ":", "a:", "a: b", "a:b", "a #b", "a#b", "#a", "&a", "*a", "!a", "|", ">", "'", "it's", '"', "%a", "@a",
    "`a", "[a]", "{a}", "a, b", ",a", "1", "-1", "+1", "1_0", "010", "0o7", "0x1F", "0b1", "1.5", "1.", ".5", "1e3",
    "1e+3", "1.0e3", "1.5e+3", "190:20:30", "190:20:30.15", ".inf", "-.Inf", ".NaN", "2026-01-02", "2026-1-2",
    "2026-01-02 03:04:05", "2026-01-02T03:04:05Z", "0.0.0.0", "1.2.3", "a\nb", "a\n", "\n", "\t", "a\tb", "é", "日本",
    "\u2028", "\x85", "\x7f", "\x00", "\x1b", "\ufeff", "😀", "a\\b", "---", "...", "--- a", "shop.main:app", "/app1",
    "http://host:8000/", "__", "_1", "0", "00", "08", "1:30", "A1", "e5", "1a", "!!str a", "a\r", "\ud7ff", "\ue000",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back(text: str) -> None:
    document = {"value": text, text: [text, {text: text}]}
    assert yaml.safe_load(yaml_text.document(document)) == document


def test_any_text_comes_back() -> None:
    made = random.Random(7)
    alphabet = string.ascii_letters + string.digits + string.punctuation * 3 + "   \n\té\u2029😀"
    for _ in range(3000):
        text = "".join(made.choices(alphabet, k=made.randrange(8)))
        assert yaml.safe_load(yaml_text.document({"key": text})) == {"key": text}, repr(text)


def test_numbers_come_back() -> None:
    values = [0, -1, 10**17, 0.0, -0.5, 1.5, 1e300, 1e-7, 1e22, 1.5e-9, float("inf"), float("-inf"), True, False, None]
    assert yaml.safe_load(yaml_text.document({"values": values})) == {"values": values}


@pytest.mark.contract("6/build")
def test_it_is_written_as_pyyaml_writes_it() -> None:
    document = {
        "one": {"a": 1, "b": [1, "yes", None, 1.5, {"c": {}, "d": []}], "e": {"f": "a: b", "g": "it's"}, "h": "é"},
        "two": [{"name": "x", "list": [[1, 2], []]}, "0.0.0.0", "2026-01-02", "plain text"],
        "three": 5.0,
    }
    theirs = yaml.safe_dump(document, sort_keys=False, width=80, default_flow_style=False)
    assert yaml_text.document(document).replace("\n\n", "\n") == theirs
