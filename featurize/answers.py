"""Answers of a language model: asked for once and kept, read as numbers, interpolated where they
cannot be read.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featurize.pieces import Pieces, digest

BATCH = 8  # prompts; the model fills up the last ones
KEEP_SECONDS = 60  # of answers may be lost in an interrupt
PIECE = "answers"
LEVELS = tuple(k / 10 for k in range(11))  # of an anomaly score that a model is asked for
NEUTRAL = 0.5  # of a video without one answer that can be read


class Scored(NamedTuple):
    """What a scorer makes of one video."""

    scores: np.ndarray  # [n], from 0 to 1
    asked: int = 0  # answers that were to be read as a score or a verdict
    unread: int = 0  # of these, those that could not be


class Answers:
    """The answers of `llm` under STORE.work, a piece a video; what is kept is not asked again.

    `llm` has `producer`, all that its answers depend on, and generate(prompts, new_tokens) ->
    texts, of at most BATCH prompts. Without `resume` what an earlier call kept is dropped.
    """

    def __init__(self, llm: Any, work: Path, resume: bool = True) -> None:
        self.producer: dict[str, Any] = llm.producer
        self._llm, self._resume = llm, resume
        self._kept = Pieces(work, PIECE, llm.producer)
        self._begun = set[str]()

    def __call__(self, name: str, prompts: Sequence[str], new_tokens: int) -> list[str]:
        """An answer a prompt, of at most `new_tokens` tokens; equal prompts are asked once.

        `name` is the video's. Batches are the same after an interrupt, since one counts as a whole.
        """
        if not self._resume and name not in self._begun:
            self._kept.drop(name, PIECE)
        self._begun.add(name)
        keys = [digest([prompt, new_tokens]) for prompt in prompts]
        distinct = list(dict(zip(keys, prompts, strict=True)).items())
        known: dict[str, str] = self._kept.load(name, PIECE) or {}
        saved, new = time.monotonic(), False
        for start in range(0, len(distinct), BATCH):
            batch = dict(distinct[start : start + BATCH])
            if batch.keys() <= known.keys():
                continue
            texts = self._llm.generate(list(batch.values()), new_tokens)
            known |= zip(batch, texts, strict=True)
            new = True
            if time.monotonic() - saved > KEEP_SECONDS:
                self._kept.save(name, PIECE, known)
                saved, new = time.monotonic(), False
        if new:
            self._kept.save(name, PIECE, known)
        return [known[key] for key in keys]


def level(answer: str) -> float | None:
    """One of LEVELS, in brackets anywhere or alone: "[0.3]", "0.3", "1."; None for all else."""
    found = re.search(r"\[\s*([01](?:\.\d+)?)\s*\]", answer)
    found = found or re.fullmatch(r"\s*([01](?:\.\d+)?)\s*\.?\s*", answer)
    value = float(found[1]) if found else None
    return value if value in LEVELS else None


def verdict(answer: str) -> float | None:
    """1 of an answer that begins with "anomaly", 0 of one that begins with "normal"; else None.

    Further on either word may stand in "no anomaly" or "not normal".
    """
    found = re.match(r"\W*(?:answer\W+)?(anomaly|normal)\b", answer, re.IGNORECASE)
    return None if found is None else float(found[1].lower() == "anomaly")


def unread(values: Sequence[float | None]) -> int:
    """How many of the answers could not be read."""
    return sum(value is None for value in values)


def interpolated(values: Sequence[float | None]) -> np.ndarray:
    """The values of a video's snippets, float64 [n]: between the known ones on a straight line,
    before the first and after the last as these; NEUTRAL where none is known.
    """
    known = [place for place, value in enumerate(values) if value is not None]
    if not known:
        return np.full(len(values), NEUTRAL)
    there = [value for value in values if value is not None]
    return np.interp(np.arange(len(values)), known, there)
