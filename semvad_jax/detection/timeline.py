"""One video as all seeds of a run see it, in the digits that are written.

scores.csv, events.json and the page are made from the same rounded numbers, so that whoever
computes events from scores.csv arrives at those of events.json and of the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

DECIMALS = 6  # of a score or a probability; seconds have three


@dataclass(frozen=True)
class Timeline:
    """The n snippets of a video; scores and probabilities are means over seeds, in [0, 1].

    `sd` is the sample SD over seeds, None for one seed. `classes` names the columns of
    `probabilities`, the first one being normal; both are empty where the model has no class head.
    A caption is '' where it is not known. `truth` holds (class, start, end) in frames, half-open;
    None where it is not known where anomalies are, () where there are none.
    """

    video: str
    edges: np.ndarray  # [n + 1] boundaries of the snippets in frames
    second_edges: np.ndarray  # [n + 1] the same in seconds
    mean: np.ndarray  # [n]
    sd: np.ndarray | None  # [n]
    classes: tuple[str, ...]  # C names
    probabilities: np.ndarray  # [n, C]
    captions: tuple[str, ...]  # n texts
    truth: tuple[tuple[str, int, int], ...] | None

    @property
    def snippets(self) -> int:
        """n."""
        return len(self.mean)

    @cached_property
    def seconds(self) -> list[float]:
        """The snippets' boundaries in seconds as they are written, [n + 1]."""
        return [round(second, 3) for second in self.second_edges.tolist()]

    @cached_property
    def named(self) -> list[str]:
        """The most probable class of every snippet, '' without a class head."""
        if not self.classes:
            return [""] * self.snippets
        return [self.classes[c] for c in self.probabilities.argmax(axis=1)]


def written(values: np.ndarray) -> np.ndarray:
    """The same array of numbers, rounded as they stand in a file."""
    return np.array(list(map(written_number, values.ravel()))).reshape(values.shape)


def written_number(value: float) -> float:
    """The same of one number."""
    return float(f"{value:.{DECIMALS}f}")


def distinct(texts: Sequence[str]) -> tuple[str, ...]:
    """The texts in order, each once, without empty ones."""
    return tuple(dict.fromkeys(filter(None, texts)))
