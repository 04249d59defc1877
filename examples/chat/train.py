"""Trains the language model on the documentation that is in Python itself, and measures it on text it has not seen.

`python examples/chat/train.py` writes `model/` beside this file, in a few seconds.
"""

import ast
import json
import pickle
import sysconfig
from pathlib import Path

from language_model import LanguageModel

MODEL_DIRECTORY = Path(__file__).resolve().parent / "model"
HELD_OUT = 50  # every so many documents one is only for measuring


def documents() -> list[str]:
    """The docstrings of the standard library's modules, classes and functions, in an order that stays the same."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.append(ast.get_docstring(node) or "")
    return [text for text in found if len(text.split()) > 8]


def train() -> float:
    """Trains and stores the model; returns the share of unseen words that were among its first guesses."""
    model, unseen = LanguageModel(), []
    for number, text in enumerate(documents()):
        if number % HELD_OUT:
            model.learn(text)
        else:
            unseen.append(text)
    guessed = model.guessed(unseen)
    MODEL_DIRECTORY.mkdir(exist_ok=True)
    (MODEL_DIRECTORY / "model.pkl").write_bytes(pickle.dumps(model))
    # Last: whoever finds it finds the rest.
    (MODEL_DIRECTORY / "facts.json").write_text(json.dumps({"guessed": guessed}) + "\n")
    return guessed


def trained() -> float:
    """Trains once; later calls read what was measured then."""
    facts = MODEL_DIRECTORY / "facts.json"
    return float(json.loads(facts.read_text())["guessed"]) if facts.exists() else train()


if __name__ == "__main__":
    print(f"next word among the five likeliest, in text that training has not seen: {train():.3f}")
