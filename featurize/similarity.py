"""A scorer without a language model: is a caption nearer to an anomaly class or to the normal one?

With e a caption's embedding and c_m the class captions' (0 = normal), a snippet's score is

    d = max over m > 0 of cos(e, c_m) − cos(e, c_0),     score = (d + 2) / 4, from 0 to 1.

The difference has no temperature to choose: of the softmax over the best anomaly class and the
normal one it is the argument, so that every temperature ranks snippets as it does.

It trains nothing, yet class captions hold the words of train captions by their videos' labels
(§3.2) where the store has them, so it is not blind to labels as the language models' scorers are.
"""

from typing import Any

import numpy as np

from featurize.answers import Scored
from semvad_jax.store import Store


class Similarity:
    """Scores video i of a store; without texts too, since embeddings are all that it reads."""

    splits = ("train", "test")
    producer: dict[str, Any] = {
        "model": "similarity, without a language model",
        "score": "(d + 2) / 4, d = max over anomaly classes of cos(caption, class caption) - "
        "cos(caption, normal class caption)",
    }
    made: dict[str, Any] = {}

    def __init__(self, store: Store) -> None:
        self._store = store
        self._classes = unit(store.class_text["class_caption"])

    def __call__(self, i: int) -> Scored:
        """The scores of video i."""
        cosines = unit(self._store.caption_rows(i)) @ self._classes.T  # [n, C]
        return Scored((cosines[:, 1:].max(axis=1) - cosines[:, 0] + 2) / 4)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows [n, Q] at length 1 in float64; a row of zeros stays one, at a right angle to all."""
    rows = np.asarray(rows, np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)
