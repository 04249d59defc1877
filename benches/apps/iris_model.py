"""The model of the iris rows, the same in every system: `python iris_model.py PATH` trains and stores it.

Each environment trains its own, since a pickle belongs to the scikit-learn that wrote it.
"""

import os
import pickle
import sys
from pathlib import Path

CHUNKS = [f"chunk-{number:03d}\n" for number in range(100)]
FEATURES = ("sepal length", "sepal width", "petal length", "petal width")


class Iris:
    """What every server does with a request: one prediction of one row."""

    def __init__(self):
        self.model, self.names = pickle.loads(Path(os.environ["BENCH_IRIS_MODEL"]).read_bytes())

    def answer(self, payload):
        label = self.model.predict([[payload[feature] for feature in FEATURES]])[0]
        return {"result": self.names[int(label)]}

    def answers(self, payloads):
        """The same for many requests at once."""
        labels = self.model.predict([[payload[feature] for feature in FEATURES] for payload in payloads])
        return [{"result": self.names[int(label)]} for label in labels]


def train(path):
    from sklearn.datasets import load_iris
    from sklearn.ensemble import GradientBoostingClassifier

    iris = load_iris()
    model = GradientBoostingClassifier(random_state=42).fit(iris.data, iris.target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps((model, [str(name) for name in iris.target_names])))


if __name__ == "__main__":
    train(Path(sys.argv[1]))
