"""Class captions C^(m): the words that set the captions of one class apart (paper §3.2, eq. 1).

With n_m(w) the number of times that word w occurs in the train captions of class m, and 0 the
normal class,

    P_m(w) = n_m(w) / (n_0(w) + eps)                 for an anomaly class m
    P_0(w) = n_0(w) / (sum over m > 0 of n_m(w) + eps)

The top x % of the words of class m by P_m are its candidates. Those of an anomaly class are ranked
again by the cosine of the word's embedding to that of the class label; those of the normal class
stay in the order of P_0. Words are taken in this order while the caption fits the text encoder.
With eps this small a word that the other side never says comes first, however rare it is.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import ceil

import numpy as np

EPSILON = 1e-6
MAX_TOKENS = 77  # the text encoder's context, its start and end token included
COSINE_DIGITS = 6  # so that rounding on another machine cannot change an order
PRODUCER = {
    "scores": "paper §3.2, eq. 1",
    "epsilon": EPSILON,
    "words": "lower-case runs of letters and digits, two or more; no stop words, no stemming",
    "max_tokens": MAX_TOKENS,
    "captions": "train videos",
}


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
    counts: Sequence[Counter[str]], m: int, top_percent: float
) -> list[tuple[str, float]]:
    """The top ⌈x · |words of class m|⌉ words with P_m, best first, equal ones alphabetically."""
    others = counts[1:] if m == 0 else counts[:1]
    scores = {w: n / (sum(c[w] for c in others) + EPSILON) for w, n in counts[m].items()}
    keep = ceil(Fraction(str(top_percent)) / 100 * len(scores))
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:keep]


def class_words(
    counts: Sequence[Counter[str]],
    label_texts: Sequence[str],
    embed: Callable[[Sequence[str]], np.ndarray],
    count_tokens: Callable[[str], int],
    top_percent: float,
) -> list[list[dict]]:
    """The words of each C^(m) in order, as {"word", "score", "cosine"} (no cosine for normal).

    `embed` maps strings to rows, [n, Q]; `count_tokens` gives a text's length
    without the encoder's start and end token.
    """
    captions = []
    for m, label in enumerate(label_texts):
        rows: list[dict] = [{"word": w, "score": p} for w, p in candidates(counts, m, top_percent)]
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
