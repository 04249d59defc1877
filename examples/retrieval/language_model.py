"""A language model small enough to be trained in a second: the next word from the two before it.

Word counts of the whole corpus, and of the passages at hand, each smoothed by absolute discounting (Ney, Essen and
Kneser, 1994), are mixed. The corpus knows how sentences go; the passages say what this one is about. It is no match for
a large model, and what surrounds it (prompt, tokens that stream, a stop) is the same.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator

START, STOP = "<s>", "</s>"
DISCOUNT = 0.75
PASSAGE_SHARE = 0.85  # of the mix; the rest is the corpus
ASKED_BONUS = 0.6  # in natural logarithms, for a word of the question that has not been said yet
REPEATED_PENALTY = 4.0  # for a pair of words that has been said already
MOST_WORDS = 60


class Trigrams:
    """Counts of one, two and three words in a row, with discounted probabilities."""

    def __init__(self, sentences: list[list[str]]):
        self._after: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for sentence in sentences:
            padded = [START, START, *sentence, STOP]
            for place in range(2, len(padded)):
                for length in range(3):
                    self._after[tuple(padded[place - length : place])][padded[place]] += 1
        self._words = max(len(self._after[()]), 1)

    def followers(self, history: tuple[str, str]) -> set[str]:
        """What was seen after these two words, or after the last of them."""
        return set(self._after.get(history, ())) | set(self._after.get(history[1:], ()))

    def probability(self, word: str, history: tuple[str, ...]) -> float:
        """Of a word after this history of at most two words."""
        counts = self._after.get(history)
        if not history:
            total = sum(self._after[()].values())
            return (self._after[()][word] + 1) / (total + self._words + 1)
        shorter = self.probability(word, history[1:])
        if not counts:
            return shorter
        total = sum(counts.values())
        kept = max(counts[word] - DISCOUNT, 0.0) / total
        return kept + DISCOUNT * len(counts) / total * shorter


class LanguageModel:
    """Trained on sentences; `generate` yields an answer word by word."""

    def __init__(self, texts: list[str]):
        self._corpus = Trigrams([text.split() for text in texts])

    def generate(self, question: str, passages: list[str]) -> Iterator[str]:
        """Words of an answer: the likeliest next word, drawn to words of the question, until the model stops.

        The first passage is the best one and counts twice.
        """
        local = Trigrams([passage.split() for passage in (*passages[:1], *passages)])
        asked = {bare(word) for word in question.split() if len(bare(word)) > 3}
        said: set[str] = set()
        pairs: set[tuple[str, str]] = set()
        history = (START, START)
        for _ in range(MOST_WORDS):
            candidates = sorted(local.followers(history) | {STOP})

            def score(word: str, history: tuple[str, str] = history) -> float:
                mixed = PASSAGE_SHARE * local.probability(word, history)
                mixed += (1 - PASSAGE_SHARE) * self._corpus.probability(word, history)
                bonus = ASKED_BONUS if bare(word) in asked - said else 0.0
                penalty = REPEATED_PENALTY if (history[1], word) in pairs else 0.0
                return math.log(mixed) + bonus - penalty

            word = max(candidates, key=score)
            if word == STOP:
                return
            yield word
            said.add(bare(word))
            pairs.add((history[1], word))
            history = (history[1], word)


def bare(word: str) -> str:
    """A word without the marks around it."""
    return word.strip(".,;:!?()\"'").lower()
