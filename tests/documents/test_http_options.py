"""`docs/http.md` names every option of the HTTP server, in Python and on the command line."""

import dataclasses
import re

from eagleray.serve.config import HTTPOptions
from machine import ROOT, Machine

SECTION = (ROOT / "docs" / "http.md").read_text().split("## Options of the HTTP server", 1)[1].split("\n## ", 1)[0]


def test_every_option_of_the_http_server_is_on_the_page() -> None:
    told = set(re.findall(r"`([a-z_]+)`", SECTION)) - {"http_options"}
    assert {field.name for field in dataclasses.fields(HTTPOptions)} <= told


def test_every_option_of_the_command_line_is_on_the_page(machine: Machine) -> None:
    known = set(re.findall(r"--(?:no-http|http-[a-z-]+)", machine.cli("start", "--help").stdout))
    assert known == set(re.findall(r"--(?:no-http|http-[a-z-]*[a-z])", SECTION))
