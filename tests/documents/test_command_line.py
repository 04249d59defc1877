"""The reference of the command line is what the command says of itself."""

from machine import ROOT, Machine

PAGE = ROOT / "docs" / "reference" / "command-line.md"


def test_the_reference_is_up_to_date(machine: Machine) -> None:
    printed = machine.cli("reference")
    assert printed.returncode == 0, printed.stderr
    assert PAGE.read_text() == printed.stdout, "make it anew: eagleray reference > docs/reference/command-line.md"
