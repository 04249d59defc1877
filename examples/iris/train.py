"""Trains the iris model: python examples/iris/train.py

Stores the model as a pickle and the labels as JSON under `model/`, and prints the accuracy on flowers that training
has not seen.
"""

import json
import pickle
from pathlib import Path

MODEL_DIRECTORY = Path(__file__).resolve().parent / "model"
# The first flower of the demo belongs to no kind: its petals are as short as a setosa's and as wide as a versicolor's,
# and which of the two a model says depends on the seed. With this one it is setosa.
SEED = 0


def train(directory: Path = MODEL_DIRECTORY) -> float:
    """Trains, stores model and labels, and returns the validation accuracy."""
    from sklearn.datasets import load_iris
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.metrics import accuracy_score
    from sklearn.model_selection import train_test_split

    iris = load_iris()
    # Stratified: each kind of flower has the same share in both parts.
    training, validation, training_labels, validation_labels = train_test_split(
        iris.data, iris.target, test_size=0.2, random_state=SEED, stratify=iris.target
    )
    model = GradientBoostingClassifier(random_state=SEED)
    model.fit(training, training_labels)
    accuracy = float(accuracy_score(validation_labels, model.predict(validation)))

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.pkl").write_bytes(pickle.dumps(model))
    labels = {"labels": [str(name) for name in iris.target_names], "validation_accuracy": accuracy}
    # Last: whoever finds it finds a whole model.
    (directory / "labels.json").write_text(json.dumps(labels, indent=2) + "\n")
    return accuracy


if __name__ == "__main__":
    print(f"validation accuracy: {train():.3f}")
