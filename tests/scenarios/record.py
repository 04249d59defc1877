"""What scenario tests counted: one JSON file a scenario, from which `docs/reliability.md` is made.

A scenario is a number of the reliability plan. Several tests may record the same number; each line has its own name.
"""

import json
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(os.environ.get("EAGLERAY_SCENARIO_RESULTS", ROOT / "build" / "scenarios"))


def record(scenario: int, what: str, counted: dict[str, Any]) -> None:
    """Notes what a test counted, after its assertions have held.

    `what` is a short sentence on the fault and the load; `counted` maps words to numbers or short texts.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    name = "".join(letter if letter.isalnum() else "-" for letter in what.lower())[:80]
    path = FOLDER / f"{scenario:02d}-{name}.json"
    scratch = path.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps({"scenario": scenario, "what": what, "counted": counted}, sort_keys=True) + "\n")
    scratch.rename(path)
