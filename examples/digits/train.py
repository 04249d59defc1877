"""Trains a classifier of handwritten digits, judged on images that it has not seen.

`python examples/digits/train.py` writes `model/` beside this file, in a few seconds.
"""

import json
import pickle
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MODEL_DIRECTORY = Path(__file__).resolve().parent / "model"
SEED = 0


def train() -> float:
    """Trains and stores the model; returns its accuracy on the images that were held back."""
    digits = load_digits()
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        digits.data, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )
    network = MLPClassifier(hidden_layer_sizes=(64,), max_iter=300, random_state=SEED)
    model = make_pipeline(StandardScaler(), network).fit(seen, seen_labels)
    accuracy = float(model.score(unseen, unseen_labels))
    MODEL_DIRECTORY.mkdir(exist_ok=True)
    (MODEL_DIRECTORY / "model.pkl").write_bytes(pickle.dumps(model))
    # Last: whoever finds it finds the rest.
    (MODEL_DIRECTORY / "facts.json").write_text(json.dumps({"validation_accuracy": accuracy}) + "\n")
    return accuracy


def trained() -> float:
    """Trains once; later calls read the accuracy that was measured then."""
    facts = MODEL_DIRECTORY / "facts.json"
    return float(json.loads(facts.read_text())["validation_accuracy"]) if facts.exists() else train()


if __name__ == "__main__":
    print(f"validation accuracy: {train():.3f}")
