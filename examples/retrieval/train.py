"""Makes what the pipeline serves from: vectors of all passages, a reranker, a language model.

`python examples/retrieval/train.py` writes them to `model/` beside this file, in a few seconds.
"""

import json
import pickle
import sys
from pathlib import Path

import numpy as np

from corpus import passages
from language_model import LanguageModel
from minilm import MiniLM, WeightsMissingError
from reranker import train as train_reranker

MODEL_DIRECTORY = Path(__file__).resolve().parent / "model"
SEED = 0


def train() -> float:
    """Trains and stores everything; returns the share of unseen questions whose passage the reranker puts first."""
    found = passages()
    texts = [passage.text for passage in found]
    embedding = MiniLM()

    def encode(batch: list[str]) -> np.ndarray:
        return np.concatenate([embedding.encode(batch[start : start + 16]) for start in range(0, len(batch), 16)])

    vectors = encode(texts)
    # Whole sources are held out: passages of one source share words.
    sources = sorted({passage.source for passage in found})
    unseen = set(sources[::4])
    held_out = [passage.source in unseen for passage in found]
    reranker, first = train_reranker(texts, vectors, held_out, encode, SEED)

    MODEL_DIRECTORY.mkdir(exist_ok=True)
    np.save(MODEL_DIRECTORY / "vectors.npy", vectors)
    (MODEL_DIRECTORY / "reranker.pkl").write_bytes(pickle.dumps(reranker))
    (MODEL_DIRECTORY / "language_model.pkl").write_bytes(pickle.dumps(LanguageModel(texts)))
    facts = {"passages": len(texts), "sources": len(sources), "unseen_first": first}
    # Last: whoever finds it finds the rest.
    (MODEL_DIRECTORY / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    return first


def trained() -> dict[str, float]:
    """Trains once; later calls read what was measured then."""
    facts = MODEL_DIRECTORY / "facts.json"
    if not facts.exists():
        train()
    return json.loads(facts.read_text())


if __name__ == "__main__":
    try:
        print(f"right passage first, for questions about unseen sources: {train():.3f}")
    except WeightsMissingError as error:
        sys.exit(str(error))
