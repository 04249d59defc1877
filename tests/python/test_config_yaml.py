"""What PyYAML makes of snippets of YAML is what the table says that the parser of configs is tested against."""

import importlib.util
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_the_table_is_what_pyyaml_says(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("yaml_table", SCRIPTS / "yaml_table.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.TABLE.read_text() == script.table(), "python scripts/yaml_table.py writes it anew"
