"""A model that goes on with a text, word by word: what followed the last two words, drawn by chance.

Trained on the documentation of Python's standard library, so that it talks about that. A model of this size says little
that is true; the service around it is what a large one needs too.
"""

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator

STOP = "</s>"
LONGEST_WORD = 24  # marks; longer ones are tables and markup
# How much a history of two words counts, one, none: mixed, so that there is always a next word.
SHARES = (0.75, 0.2, 0.05)


class LanguageModel:
    """`learn` from texts, then `generate`."""

    def __init__(self) -> None:
        self._after: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)

    def learn(self, text: str) -> None:
        """Takes the sentences of one text in."""
        for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", text):
            said = [word for word in sentence.split() if len(word) <= LONGEST_WORD and word.isascii()]
            for place, word in enumerate([*said, STOP] if said else []):
                for length in range(3):
                    if place >= length:
                        self._after[tuple(said[place - length : place])][word] += 1

    def generate(self, prompt: str, most_words: int, temperature: float, seed: int | None) -> Iterator[str]:
        """Yields the words that follow the prompt, until a sentence ends or there are enough of them.

        Args:
            prompt: what has been said.
            most_words: when to stop.
            temperature: 0 for the likeliest word always, 1 for each as often as in what was learned.
            seed: of the draws; None for others each time.
        """
        dice = random.Random(seed)
        history = prompt.split()
        for _ in range(most_words):
            word = self._next(history, temperature, dice)
            if word == STOP:
                return
            yield word
            history.append(word)

    def guessed(self, texts: list[str], guesses: int = 5) -> float:
        """The share of the words in these texts that are among the model's likeliest guesses."""
        right = total = 0
        for text in texts:
            said = text.split()
            for place in range(2, min(len(said), 50)):
                chances = self._chances(said[:place])
                right += said[place] in sorted(chances, key=lambda word: (-chances[word], word))[:guesses]
                total += 1
        return right / max(total, 1)

    def _next(self, history: list[str], temperature: float, dice: random.Random) -> str:
        chances = self._chances(history)
        if temperature == 0:
            return min(chances, key=lambda word: (-chances[word], word))
        weights = [math.exp(math.log(chance) / temperature) for chance in chances.values()]
        return dice.choices(list(chances), weights)[0]

    def _chances(self, history: list[str]) -> dict[str, float]:
        chances: dict[str, float] = {}
        for length, share in zip((2, 1, 0), SHARES, strict=True):
            followers = self._after.get(tuple(history[len(history) - length :]) if length else (), Counter())
            total = sum(followers.values())
            for word, count in followers.most_common(200):
                chances[word] = chances.get(word, 0.0) + share * count / total
        return chances
