"""The page of compatibility: which markers of tests its script sees, and which it refuses."""

import sys
import textwrap
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_markers_are_seen_wherever_pytest_sees_them() -> None:
    import compatibility

    text = textwrap.dedent(
        """
        import pytest
        pytestmark = [pytest.mark.contract("module")]

        @pytest.mark.contract("class")
        class TestSome:
            @pytest.mark.contract("one", "two", better="differs")
            @pytest.mark.parametrize("case", [pytest.param(1, marks=pytest.mark.contract("parameter"))])
            def test_it(self): ...
        """
    )
    found = {(tuple(words), better) for _, words, better, problem in compatibility.python_markers("x", text) if words}
    expected = {(("module",), ""), (("class",), ""), (("one", "two"), "differs"), (("parameter",), "")}
    assert found == expected


@pytest.mark.parametrize("marker", ["contract(A)", "contract()", 'contract("a", beter="x")', 'contract("a", better=B)'])
def test_a_marker_that_cannot_be_read_is_an_error(marker: str) -> None:
    import compatibility

    text = f"@pytest.mark.{marker}\ndef test_it(): ...\n"
    assert [problem for *_, problem in compatibility.python_markers("x", text) if problem not in ("", "uncalled")]


def test_a_comment_above_a_rust_test_is_a_marker_and_elsewhere_an_error() -> None:
    import compatibility

    text = textwrap.dedent(
        """
        // contract: 1/a
        /// Says what.
        #[tokio::test(start_paused = true)]
        async fn it() {}

        // contract: 1/b better: sooner
        #[test]
        fn other() {}

        // contract: 1/c
        fn helper() {}
        """
    )
    found = [(*words, better, problem) for _, words, better, problem in compatibility.rust_markers(text)]
    assert found == [("1/a", "", ""), ("1/b", "sooner", ""), ("1/c", "", "stands above no #[test]")]


def test_an_unknown_row_is_named_with_the_nearest() -> None:
    import compatibility

    assert "1.1/name" in compatibility.nearest("1.1/nmae", {"1.1/name": 0, "2/root": 0})
    assert sys.modules["compatibility"].__file__ == str(SCRIPTS / "compatibility.py")
