"""UCA's human sentences as train captions of UCF-Crime, and how near lists of words are.

UCA has a split of its own: its three files are joined with UCF-Crime's `videos.csv`, and the train
videos of that are kept.
"""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featurize import class_captions

SHARED = Path(__file__).parents[3] / "shared/data"
ABSENT = "UCA's sentences are not in ../shared/data beside this checkout"


def train_captions() -> list[tuple[tuple[str, ...], list[str]]]:
    """(labels, sentences) of every train video that UCA describes."""
    folder = SHARED / "ucf_crime"
    sentences = {}
    for part in ("Train", "Val", "Test"):
        found = json.loads((folder / f"UCA_{part}.json").read_text(encoding="utf-8"))
        assert not sentences.keys() & found.keys()
        sentences |= {name: video["sentences"] for name, video in found.items()}
    with (folder / "videos.csv").open(newline="") as file:
        train = [row for row in csv.DictReader(file) if row["split"] == "train"]
    return [
        ((row["label"],), sentences[row["video"]]) for row in train if row["video"] in sentences
    ]


def released_words() -> dict[str, list[str]]:
    """The words that the authors' program chose from their captions, per class."""
    file = SHARED / "reference/class_words_semvad_release.json"
    return json.loads(file.read_text(encoding="utf-8"))["ucf"]


def shared_words(ours: Sequence[Sequence[str]], lists: Sequence[Sequence[str]]) -> np.ndarray:
    """Jaccard index of the words of each of ours and each list, [ours, lists]."""
    return np.array([[len({*a} & {*b}) / len({*a} | {*b}) for b in lists] for a in ours])


def cut(lists: Sequence[Sequence[str]], model: Any) -> list[list[str]]:
    """The first words of each list, as many as the text encoder takes."""
    fitting = (
        class_captions.fitting([{"word": word} for word in words], model.count_tokens)
        for words in lists
    )
    return [[row["word"] for row in rows] for rows in fitting]


def text_cosines(
    ours: Sequence[Sequence[str]],
    lists: Sequence[Sequence[str]],
    embed: Callable[[Sequence[str]], np.ndarray],
) -> np.ndarray:
    """Cosine of the embeddings of both as texts, [ours, lists]."""
    left, right = (embed([" ".join(words) for words in side]) for side in (ours, lists))
    left, right = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (left, right))
    return left @ right.T


def places(nearness: np.ndarray) -> list[int]:
    """The place of list i among all lists, the nearest to ours i first; a tie counts against it."""
    own = np.diag(nearness)[:, None]
    return (nearness >= own).sum(axis=1).tolist()
