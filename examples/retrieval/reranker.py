"""Which of the passages that an embedding found answers best: a classifier over pairs of question and passage.

It sees what one vector a text cannot: which words they share, and how rare those are. It is trained on questions made
from the passages themselves (a few words of a sentence, out of order), each with its passage and with passages that
look alike, and it is judged on sources that training has not seen.
"""

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier

from minilm import words

QUESTION_WORDS = (4, 9)  # least and most of a made question
QUESTIONS_PER_PASSAGE = 2
LOOK_ALIKES = 8  # wrong passages beside a right one
# Of BM25: how soon a word counts no more, and how much a long passage is held against it (Robertson et al., 1994).
SATURATION, LENGTH_WEIGHT = 1.2, 0.75


class Rarity:
    """How much a word says, from how few passages have it."""

    def __init__(self, texts: list[str]):
        having = Counter(word for text in texts for word in set(words(text)))
        self._weights = {word: math.log(1 + (len(texts) - n + 0.5) / (n + 0.5)) for word, n in having.items()}
        self._unknown = math.log(1 + len(texts) / 0.5)
        self._length = sum(len(words(text)) for text in texts) / len(texts)

    def weight(self, word: str) -> float:
        """Of one word; a word that no passage has is the rarest."""
        return self._weights.get(word, self._unknown)

    def bm25(self, question: list[str], passage: list[str]) -> float:
        """The classic score of a passage for a question."""
        counts = Counter(passage)
        room = SATURATION * (1 - LENGTH_WEIGHT + LENGTH_WEIGHT * len(passage) / self._length)
        return sum(
            self.weight(word) * counts[word] * (SATURATION + 1) / (counts[word] + room) for word in set(question)
        )


@dataclass
class Reranker:
    """The trained classifier with what it looks words up in."""

    rarity: Rarity
    classifier: GradientBoostingClassifier

    def score(self, question: str, texts: list[str], similarities: list[float]) -> list[float]:
        """Probability of each passage that it answers, given how close its vector is to the question's."""
        rows = [features(self.rarity, question, *pair) for pair in zip(texts, similarities, strict=True)]
        return [float(one) for one in self.classifier.predict_proba(np.array(rows))[:, 1]]


def features(rarity: Rarity, question: str, text: str, similarity: float) -> list[float]:
    """What the classifier sees of a pair."""
    asked, said = [word for word in words(question) if word.isalnum()], words(text)
    total = sum(rarity.weight(word) for word in set(asked)) or 1.0
    shared = sum(rarity.weight(word) for word in set(asked) & set(said))
    return [similarity, rarity.bm25(asked, said), shared / total, float(len(set(asked) & set(said))), len(said)]


def made_question(text: str, dice: random.Random) -> str:
    """A few longer words of a passage, out of order: what somebody may ask who remembers it half."""
    useful = [word for word in words(text) if word.isalpha() and len(word) > 3]
    count = min(len(useful), dice.randint(*QUESTION_WORDS))
    return " ".join(dice.sample(useful, count))


def train(
    texts: list[str],
    vectors: np.ndarray,
    held_out: list[bool],
    encode: Callable[[list[str]], np.ndarray],
    seed: int = 0,
) -> tuple[Reranker, float]:
    """A reranker from passages with their vectors, and the share of unseen questions whose passage it puts first."""
    dice = random.Random(seed)
    rarity = Rarity(texts)
    made = [
        (number, made_question(text, dice)) for number, text in enumerate(texts) for _ in range(QUESTIONS_PER_PASSAGE)
    ]
    closeness = encode([question for _, question in made]) @ vectors.T
    rows: dict[bool, list[list[float]]] = {True: [], False: []}
    labels: dict[bool, list[int]] = {True: [], False: []}
    for (number, question), similarities in zip(made, closeness, strict=True):
        wrong = [int(other) for other in np.argsort(-similarities)[: LOOK_ALIKES + 1] if other != number]
        for other in (number, *wrong[:LOOK_ALIKES]):
            rows[held_out[number]].append(features(rarity, question, texts[other], float(similarities[other])))
            labels[held_out[number]].append(int(other == number))
    classifier = GradientBoostingClassifier(random_state=seed).fit(np.array(rows[False]), labels[False])
    chances = classifier.predict_proba(np.array(rows[True]))[:, 1]
    groups = np.flatnonzero(np.array(labels[True]))
    ends = [*groups[1:], len(chances)]
    first = [chances[start] >= chances[start:end].max() for start, end in zip(groups, ends, strict=True)]
    return Reranker(rarity, classifier), float(np.mean(first))
