"""LAVAD: a language model scores what captions say of the ten seconds around a snippet.

Harnessing Large Language Models for Training-free Video Anomaly Detection (CVPR 2024). For every
snippet of a video:

    1. cleaning     the caption nearest to it, of those within ± 10 s
    2. summary      by the model, of at most 10 cleaned captions of the 10 s around it
    3. score        by the model, of the summary: one of 11 levels from 0 to 1
    4. refinement   Σ_k softmax(cos)_k · score_k over the 10 nearest cleaned captions of the video

"Nearest" goes by image and caption where the same CLIP embedded both, as LAVAD's goes by ImageBind;
else by caption and caption, which `producer` tells: then a caption is cleaned by the nearest
*other* one, since it is nearest to itself.

Beside the authors' program: one captioner in place of five; candidates for cleaning from ± 10 s
in place of the whole video; refinement by the captions behind the summaries, not by the summaries'
own embeddings. The prompts are ours, after theirs.
"""

from typing import Any

import numpy as np

from featurize.answers import Answers, Scored, interpolated, level, unread
from featurize.similarity import unit
from semvad_jax.files import BadInput
from semvad_jax.store import Store

SECONDS = 10.0  # a caption that cleans another is at most as far away
WINDOW = 10.0  # seconds that a summary is about
SAMPLES = 10  # captions in it
NEIGHBOURS = 10
BLOCK = 256  # snippets whose neighbours are looked for in one go
SUMMARY_TOKENS, SCORE_TOKENS = 128, 16
PROMPTS = {
    "summary": "These captions describe, in the order of time, a few seconds of a video. Tell in "
    "a few sentences what happens. Leave out what does not matter.\n\n{captions}",
    "score": "Imagine that you work for a law enforcement agency. On a scale from 0, an ordinary "
    "scene, to 1, a scene with suspicious activities, how do you rate the scene below? Answer with "
    "one number of this list and nothing else, as a Python list that begins with '[' and ends with "
    "']': [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]\n\n{summary}",
}


class Lavad:
    """Scores video i of a store whose captions are texts."""

    splits = ("test",)

    def __init__(self, store: Store, answers: Answers) -> None:
        self._store, self._answers = store, answers
        self._by_image = by_image(store)
        self.made: dict[str, Any] = {}
        self.producer: dict[str, Any] = {
            "llm": answers.producer,
            "prompts": PROMPTS,
            "nearest": "image to caption" if self._by_image else "caption to caption",
            "cleaning": f"the nearest within {SECONDS:g} s"
            + ("" if self._by_image else ", but for the caption itself"),
            "summary": f"at most {SAMPLES} cleaned captions of {WINDOW:g} s, evenly",
            "refinement": f"{NEIGHBOURS} nearest of the video, softmax of their cosines",
            "new_tokens": {"summary": SUMMARY_TOKENS, "score": SCORE_TOKENS},
        }

    def __call__(self, i: int) -> Scored:
        """The scores of video i; BadInput where its captions are not on file as texts."""
        video, texts = self._store.videos[i], texts_of(self._store, i)
        captions = unit(self._store.caption_rows(i))
        looked = self._images(i) if self._by_image else captions
        edges = video.second_edges
        middles = (edges[:-1] + edges[1:]) / 2
        nearest = cleaned(looked, captions, middles, texts, with_itself=self._by_image)
        summaries = self._answers(
            video.video,
            [
                PROMPTS["summary"].format(captions="\n".join(texts[nearest[k]] for k in window))
                for window in windows(middles)
            ],
            SUMMARY_TOKENS,
        )
        prompts = [PROMPTS["score"].format(summary=summary) for summary in summaries]
        levels = [level(a) for a in self._answers(video.video, prompts, SCORE_TOKENS)]
        scores = refined(interpolated(levels), looked, captions[nearest])
        return Scored(scores, len(levels), unread(levels))

    def _images(self, i: int) -> np.ndarray:
        """The mean over video i's crops of its image embeddings, [n, F]."""
        crops = range(self._store.videos[i].crops)
        return unit(np.mean([unit(self._store.visual_rows(i, crop)) for crop in crops], axis=0))


def by_image(store: Store) -> bool:
    """Whether images and captions lie in one space: the same CLIP embedded both."""
    made = [store.info["producers"].get(name) for name in ("visual", "text")]
    if not all(isinstance(producer, dict) for producer in made):
        return False
    image, text = ((p.get("model"), p.get("revision")) for p in made)
    return image == text and str(image[0]).startswith("clip-")


def texts_of(store: Store, i: int) -> list[str]:
    """The captions of video i; raises BadInput where none is on file."""
    texts = store.texts(i)
    if not any(texts):
        raise BadInput(
            f"{store.path} has no captions of {store.videos[i].video} as texts, which a language "
            "model is to read; give a store whose captions.jsonl has them."
        )
    return texts


def cleaned(
    looked: np.ndarray,
    captions: np.ndarray,
    middles: np.ndarray,
    texts: list[str],
    with_itself: bool,
) -> np.ndarray:
    """Which caption stands for each snippet, [n]: the nearest to its row of `looked`, of those that
    are said within SECONDS of it; its own where there is no other.

    Args:
        looked, captions: [n, Q] of length 1.
        middles: [n] ascending seconds.
        texts: n; an empty one stands for nothing.
    """
    said = np.array([bool(text) for text in texts])
    first = np.searchsorted(middles, middles - SECONDS, side="left")
    last = np.searchsorted(middles, middles + SECONDS, side="right")
    chosen = np.arange(len(middles))
    for i, (start, end) in enumerate(zip(first, last, strict=True)):
        allowed = said[start:end].copy()
        allowed[i - start] &= with_itself
        if allowed.any():
            cosines = np.where(allowed, captions[start:end] @ looked[i], -np.inf)
            chosen[i] = start + int(np.argmax(cosines))
    return chosen


def windows(middles: np.ndarray) -> list[np.ndarray]:
    """For each snippet the places of those that its summary is of: at most SAMPLES, evenly taken
    from the WINDOW seconds around it.
    """
    first = np.searchsorted(middles, middles - WINDOW / 2, side="left")
    last = np.searchsorted(middles, middles + WINDOW / 2, side="right")
    return [
        np.unique(np.linspace(a, b - 1, min(b - a, SAMPLES)).round().astype(int))
        for a, b in zip(first, last, strict=True)
    ]


def refined(scores: np.ndarray, looked: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """Each snippet's mean of the scores of its NEIGHBOURS nearest captions, weighted by the softmax
    of their cosines to it, [n]; of equally near ones the earlier.
    """
    means = np.empty(len(scores))
    for start in range(0, len(scores), BLOCK):
        cosines = looked[start : start + BLOCK] @ captions.T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS]
        weights = np.exp(np.take_along_axis(cosines, nearest, axis=1))
        means[start : start + BLOCK] = (weights * scores[nearest]).sum(1) / weights.sum(1)
    return means
