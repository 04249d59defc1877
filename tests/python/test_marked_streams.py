"""What is printed in a replica has its mark at the beginning of a line, and nowhere else."""

import io
import re

import pytest

from eagleray._user_code.streams import Marked


class Text(str):
    """As template engines and arrays have them."""

    __slots__ = ()


@pytest.mark.parametrize("kind", [str, Text])
def test_marks_are_at_the_beginning_of_lines(kind):
    written = io.BytesIO()
    stream = Marked(written, encoding="utf-8", write_through=True)
    for text in (kind("a"), "b\n", kind("c\nd"), "\n", kind(""), kind("e\n"), "f\n"):
        assert stream.write(text) == len(text)
    lines = re.sub(rb"\x1f \d+\x1f", b"|", written.getvalue())
    assert lines == b"|ab\n|c\n\x1f|d\n|e\n|f\n"
