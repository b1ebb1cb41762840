"""The words of the class captions by plain loops, from eq. 1 and method.md §7 rows 10 to 18.

It counts by bisection in the sorted words of a class and asks for one embedding at a time, so that
it shares nothing with `featurize.class_captions` and still gets through a real corpus.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

import numpy as np


class Oracle:
    """Of (labels, captions) of train videos; class 0 is the normal one."""

    def __init__(
        self, labelled: Sequence[tuple[Sequence[str], Sequence[str]]], classes: Sequence[str]
    ) -> None:
        self._said: list[list[str]] = []
        for name in classes:
            said = []
            for labels, captions in labelled:
                if name in labels:
                    for text in captions:
                        said += [word for word in _letters(text).split() if len(word) > 1]
            self._said.append(sorted(said))

    def scores(self, m: int) -> dict[str, float]:
        """P_m(w) of every word of class m."""
        against = self._said[1:] if m == 0 else self._said[:1]
        return {
            word: _count(self._said[m], word) / (sum(_count(s, word) for s in against) + 1e-6)
            for word in set(self._said[m])
        }

    def candidates(self, m: int, top_percent: float) -> list[str]:
        """The top x % of the words of class m; equal scores alphabetically."""
        ranked = sorted((-score, word) for word, score in self.scores(m).items())
        return [word for _, word in ranked[: math.ceil(top_percent * len(ranked) / 100)]]

    def class_words(
        self,
        m: int,
        label: str,
        embed: Callable[[Sequence[str]], np.ndarray],
        count_tokens: Callable[[str], int],
        top_percent: float,
    ) -> list[str]:
        """The words of C^(m)."""
        order = self.candidates(m, top_percent)
        if m > 0:
            target = embed([label])[0].tolist()
            nearness = {word: _cosine(embed([word])[0].tolist(), target) for word in order}
            order.sort(key=lambda word: (-round(nearness[word], 6), word))
        taken: list[str] = []
        for word in order:
            if count_tokens(" ".join([*taken, word])) + 2 > 77:
                break
            taken.append(word)
        return taken


def _count(words: list[str], word: str) -> int:
    return bisect_right(words, word) - bisect_left(words, word)


def _letters(text: str) -> str:
    return "".join(c if c.isalnum() else " " for c in text.lower())


def _cosine(a: list[float], b: list[float]) -> float:
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
