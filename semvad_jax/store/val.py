"""The train videos that are set aside to choose by, as val: the same in a store's class captions
and in the runs on it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def set_aside(
    labels: Sequence[str], classes: Sequence[str], fraction: float, seed: int = 0
) -> set[int]:
    """The places of a share of the train videos, stratified by their first `labels`."""
    rng = np.random.default_rng(seed)
    chosen: set[int] = set()
    for name in classes:
        group = [place for place, label in enumerate(labels) if label == name]
        order = rng.permutation(len(group))
        chosen |= {group[j] for j in order[: round(fraction * len(group))]}
    return chosen


def recorded(producers: Mapping[str, Any]) -> tuple[float, frozenset[str]] | None:
    """The share and the names of the videos that a store's class captions left out; None where
    they took all train videos.
    """
    made = producers.get("class_captions")
    if not isinstance(made, Mapping) or not isinstance(made.get("val"), list):
        return None
    return float(made.get("val_fraction", 0)), frozenset(map(str, made["val"]))
