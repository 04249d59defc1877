"""Trains a zoo of small models: every kind of classifier on every dataset, each judged on rows that it has not seen.

`python examples/zoo/train.py` writes one file a model, and a table of accuracies, to `model/` beside this file.
"""

import json
import pickle
from pathlib import Path

from sklearn.base import ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

MODEL_DIRECTORY = Path(__file__).resolve().parent / "model"
SEED = 0
DATASETS = {"iris": load_iris, "wine": load_wine, "breast-cancer": load_breast_cancer, "digits": load_digits}
KINDS = {
    "logistic": lambda: LogisticRegression(max_iter=1000, random_state=SEED),
    "bayes": GaussianNB,
    "neighbours": KNeighborsClassifier,
    "tree": lambda: DecisionTreeClassifier(max_depth=8, random_state=SEED),
}
MODEL_IDS = [f"{dataset}-{kind}" for dataset in DATASETS for kind in KINDS]


def train() -> dict[str, float]:
    """Trains and stores every model; returns the accuracy of each."""
    MODEL_DIRECTORY.mkdir(exist_ok=True)
    accuracies: dict[str, float] = {}
    for dataset, load in DATASETS.items():
        data = load()
        seen, unseen, seen_labels, unseen_labels = train_test_split(
            data.data, data.target, test_size=0.25, random_state=SEED, stratify=data.target
        )
        names = [str(name) for name in data.target_names]
        for kind, make in KINDS.items():
            classifier: ClassifierMixin = make()
            model = make_pipeline(StandardScaler(), classifier).fit(seen, seen_labels)
            accuracies[f"{dataset}-{kind}"] = float(model.score(unseen, unseen_labels))
            (MODEL_DIRECTORY / f"{dataset}-{kind}.pkl").write_bytes(pickle.dumps((model, names)))
    # Last: whoever finds it finds the rest.
    (MODEL_DIRECTORY / "accuracies.json").write_text(json.dumps(accuracies, indent=1) + "\n")
    return accuracies


def trained() -> dict[str, float]:
    """Trains once; later calls read what was measured then."""
    table = MODEL_DIRECTORY / "accuracies.json"
    return json.loads(table.read_text()) if table.exists() else train()


if __name__ == "__main__":
    for model_id, accuracy in train().items():
        print(f"{model_id:26} {accuracy:.3f}")
