"""Class captions C^(m): the words that set the captions of one class apart (paper §3.2, eq. 1).

With n_m(w) the number of times that word w occurs in the train captions of class m, and 0 the
normal class,

    P_m(w) = n_m(w) / (n_0(w) + eps)                 for an anomaly class m
    P_0(w) = n_0(w) / (sum over m > 0 of n_m(w) + eps)

The top x % of the words of class m by P_m are its candidates. Those of an anomaly class are ranked
again by the cosine of the word's embedding to that of the class label; those of the normal class
stay in the order of P_0. Words are taken in this order while the caption fits the text encoder.
With the usual eps of 1e-6 a word that the other side never says comes first, however rare it is;
--epsilon 1, --min-count and --stop-words keep such words back (`Rules`).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from featurize.sources import read_list
from semvad_jax.files import BadInput, require, sha256

MAX_TOKENS = 77  # the text encoder's context, its start and end token included
COSINE_DIGITS = 6  # so that rounding on another machine cannot change an order


@dataclass(frozen=True)
class Rules:
    """How words are chosen; the paper names none of these, and the defaults leave all in."""

    epsilon: float = 1e-6
    min_count: int = 1  # how often a class must say a word
    stop_words: frozenset[str] = frozenset()
    stop_list: str = "no stop words"  # what they are called

    @property
    def producer(self) -> dict[str, Any]:
        """What a store records of its class captions."""
        recorded: dict[str, Any] = {
            "scores": "paper §3.2, eq. 1",
            "epsilon": self.epsilon,
            "words": "lower-case runs of letters and digits, two or more; "
            f"{self.stop_list}, no stemming",
            "max_tokens": MAX_TOKENS,
            "captions": "train videos",
        }
        return recorded | ({"min_count": self.min_count} if self.min_count > 1 else {})


ALL_WORDS = Rules()


def stop_words(asked: str) -> tuple[frozenset[str], str]:
    """The words of --stop-words FILE|english, and what the list is called.

    `english` is scikit-learn's list; a file has words between blanks or lines. Raises BadInput
    where the file is missing, or scikit-learn is.
    """
    if asked != "english":
        path = Path(asked)
        require(path.is_file(), f"--stop-words {path} is no file; give one, or english.")
        listed = frozenset(words(read_list(path)))
        return listed, f"the {len(listed)} stop words of {path.name}, SHA-256 {sha256(path)[:12]}"
    try:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
    except ModuleNotFoundError:
        raise BadInput(
            "--stop-words english needs scikit-learn; run pip install scikit-learn"
        ) from None
    return ENGLISH_STOP_WORDS, f"scikit-learn's {len(ENGLISH_STOP_WORDS)} English stop words"


def words(caption: str) -> list[str]:
    """Lower-case runs of letters and digits, those of one character dropped."""
    return [word for word in re.findall(r"[^\W_]+", caption.lower()) if len(word) > 1]


def count_words(
    labelled: Iterable[tuple[Sequence[str], Sequence[str]]], classes: Sequence[str]
) -> list[Counter[str]]:
    """n_m(w) of every class from (labels, captions) of train videos.

    A caption counts for every label of its video.
    """
    counts = {name: Counter() for name in classes}
    for labels, captions in labelled:
        said = Counter(word for caption in captions for word in words(caption))
        for label in labels:
            counts[label].update(said)
    return [counts[name] for name in classes]


def candidates(
    counts: Sequence[Counter[str]], m: int, top_percent: float, rules: Rules = ALL_WORDS
) -> list[tuple[str, float]]:
    """The top ⌈x · |words of class m|⌉ words with P_m, best first, equal ones alphabetically; of
    the words that the rules leave in.
    """
    others = counts[1:] if m == 0 else counts[:1]
    scores = {
        word: n / (sum(c[word] for c in others) + rules.epsilon)
        for word, n in counts[m].items()
        if n >= rules.min_count and word not in rules.stop_words
    }
    keep = ceil(Fraction(str(top_percent)) / 100 * len(scores))
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:keep]


def class_words(
    counts: Sequence[Counter[str]],
    label_texts: Sequence[str],
    embed: Callable[[Sequence[str]], np.ndarray],
    count_tokens: Callable[[str], int],
    top_percent: float,
    rules: Rules = ALL_WORDS,
) -> list[list[dict]]:
    """The words of each C^(m) in order, as {"word", "score", "cosine"} (no cosine for normal).

    `embed` maps strings to rows, [n, Q]; `count_tokens` gives a text's length
    without the encoder's start and end token.
    """
    captions = []
    for m, label in enumerate(label_texts):
        rows: list[dict] = [
            {"word": w, "score": p} for w, p in candidates(counts, m, top_percent, rules)
        ]
        if m > 0 and rows:
            vectors = embed([label, *(row["word"] for row in rows)]).astype(np.float64)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            for row, cosine in zip(rows, vectors[1:] @ vectors[0], strict=True):
                row["cosine"] = round(float(cosine), COSINE_DIGITS)
            rows.sort(key=lambda row: (-row["cosine"], row["word"]))
        captions.append(fitting(rows, count_tokens))
    return captions


def caption(rows: Sequence[dict]) -> str:
    """The text of C^(m)."""
    return " ".join(row["word"] for row in rows)


def fitting(rows: Sequence[dict], count_tokens: Callable[[str], int]) -> list[dict]:
    """The first of the words, as many as fit the text encoder together; one that would not fit even
    alone is passed over.
    """
    taken: list[dict] = []
    for row in rows:
        if count_tokens(caption([*taken, row])) + 2 <= MAX_TOKENS:
            taken.append(row)
        elif count_tokens(caption([row])) + 2 <= MAX_TOKENS:
            break
    return taken
