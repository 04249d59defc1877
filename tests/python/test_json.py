"""`eagleray._json` gives what the standard library gives: the same values of the same types, the same errors."""

import json
import math
import os
import random

import pytest

from eagleray import _core, _json

SEEDS = range(int(os.environ.get("EAGLERAY_SEEDS", "8")))
STRINGS = ["", "a", "sepal length", "é", "日本", "\U0001f600", 'q"b\\', "\n\t\x00\x1f", "\x7f", "\ud800", "k" * 70]
NUMBERS = ["0", "-0", "1", "-17", "1.5", "-0.0", "1e5", "1E-7", "1e400", "-1e400", "0.1", "1234567890" * 3]
NUMBERS += ["9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "5e-324"]
NUMBERS += ["2.2250738585072011e-308", "1.7976931348623157e308", "0.30000000000000004", "NaN", "Infinity", "-Infinity"]
# What is near to JSON: other parsers take some of it.
ODD = [
    *(b"", b" ", b"nul", b"nan", b"-NaN", b"inf", b"+1", b"01", b"-", b"1.", b".5", b"1e", b"1e+", b"0x1", b"1_0"),
    *(b"[1,]", b"{,}", b'{"a":1,}', b'{"a" 1}', b"{1:2}", b"[1 2]", b"[", b"]", b"{", b'"', b"'a'", b"//", b"1 2"),
    *(b"True", b"None", b"[1]x", b"1\x00", b"\x00", b"\x0b1", b"\xc2\xa01", b"1\r\n", b"\t[ 1 ,\n2 ]\r"),
    *(b'"\\x"', b'"\\u12"', b'"\\ud83d\\ude00"', b'"\\ud83d"', b'"\\ude00\\ud83d"', b'"\\ud83dx"', b'"\t"', b'"\x00"'),
    *(b"\xef\xbb\xbf[1]", b"\xff", b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"'),
    *('["é"]'.encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")),
    *(b'{"a":1,"a":2}', b'{"a":{"a":1},"a":[]}'),
    *(b"9" * 4300, b"9" * 4301, b"-" + b"9" * 5000, b"1" + b"0" * 400 + b".5"),
    *(b"[" * 150 + b"]" * 150, b"[" * 300 + b"]" * 300, b'{"a":' * 250 + b"1" + b"}" * 250),
]


def outcome(parse, data):
    """What came of it, so that it can be compared: `repr` tells 1 from 1.0 and True, and NaN equals itself in it."""
    try:
        return "value", repr(parse(data))
    except Exception as error:
        return "error", type(error), str(error)


def text_of(random_, depth=0):
    """JSON text, with every liberty that whitespace and escapes leave."""
    space = random_.choice(["", "", " ", "\n\t"])
    kind = random_.randrange(8 if depth < 5 else 5)
    if kind == 0:
        return random_.choice(["null", "true", "false"]) + space
    if kind in (1, 2):
        return random_.choice(NUMBERS) + space
    if kind == 3:
        return repr(random_.uniform(-1e6, 1e6) * 10 ** random_.randrange(-30, 30)) + space
    if kind == 4:
        return json.dumps(random_.choice(STRINGS), ensure_ascii=random_.random() < 0.5) + space
    inner = [text_of(random_, depth + 1) for _ in range(random_.randrange(5))]
    if kind < 7:
        return "[" + space + ",".join(inner) + "]" + space
    names = [json.dumps(random_.choice(STRINGS), ensure_ascii=random_.random() < 0.5) for _ in inner]
    return "{" + space + ",".join(f"{name}{space}:{space}{one}" for name, one in zip(names, inner, strict=True)) + "}"


def mutated(random_, data):
    """The same with one byte changed, left out or put in, or cut off."""
    if not data:
        return data
    at = random_.randrange(len(data))
    byte = bytes([random_.choice(b'{}[],:"\\0123456789eE+-.tfnu \x00\xff\xc3')])
    return random_.choice(
        [data[:at], data[:at] + data[at + 1 :], data[:at] + byte + data[at + 1 :], data[:at] + byte + data[at:]]
    )


@pytest.mark.parametrize("data", ODD, ids=lambda data: repr(data[:24]))
def test_odd_texts_are_what_the_standard_library_makes_of_them(data):
    assert outcome(_json.loads, data) == outcome(json.loads, data)


@pytest.mark.parametrize("seed", SEEDS)
def test_texts_are_read_as_the_standard_library_reads_them(seed):
    random_ = random.Random(seed)
    taken = 0
    for _ in range(300):
        data = text_of(random_).encode("utf-8", "surrogatepass")
        for one in (data, mutated(random_, data), mutated(random_, mutated(random_, data))):
            assert outcome(_json.loads, one) == outcome(json.loads, one), one
            taken += outcome(_core.parse_json, one)[0] == "value"
    # The fast one did the work: it is not the fallback that is compared with itself.
    assert taken > 250


def test_a_body_of_a_model_needs_no_fallback():
    body = json.dumps({"sepal length": 1.2, "ids": [1, -2, None], "text": "é\n", "nested": {"ok": True, "big": 2**70}})
    assert _core.parse_json(body.encode()) == json.loads(body)


def values(random_, depth=0):
    kind = random_.randrange(9 if depth < 5 else 6)
    if kind < 2:
        return random_.choice(STRINGS)
    if kind == 2:
        return random_.choice([None, True, False])
    if kind == 3:
        return random_.randrange(-(10**30), 10**30)
    if kind in (4, 5):
        return random_.choice([random_.random(), -0.0, math.inf, -math.inf, math.nan, 1e22, 5e-324])
    inner = [values(random_, depth + 1) for _ in range(random_.randrange(5))]
    if kind < 7:
        return random_.choice([list, tuple])(inner)
    return {random_.choice([*STRINGS, 1, 2.5, True, None]): one for one in inner}


@pytest.mark.parametrize("seed", SEEDS)
def test_values_are_written_as_the_standard_library_writes_them(seed):
    random_ = random.Random(seed)
    for _ in range(300):
        value = values(random_)
        assert _json.dumps(value) == json.dumps(value, separators=(",", ":"))


@pytest.mark.parametrize("value", [{1, 2}, [object()], {"a": b"b"}, {(1, 2): 3}, 1j])
def test_what_is_no_plain_data_is_refused_in_the_same_words(value):
    assert outcome(_json.dumps, value) == outcome(lambda one: json.dumps(one, separators=(",", ":")), value)


def test_a_value_that_contains_itself_ends_in_an_error_and_leaves_nothing_behind():
    circle = [1]
    circle.append({"again": circle})
    with pytest.raises(RecursionError):
        _json.dumps(circle)
    assert _json.dumps([1, {"again": [1]}]) == '[1,{"again":[1]}]'
