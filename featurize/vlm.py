"""VideoLLaMA 3 asked for a score itself, as Holmes-VAD and VERA ask their models; neither of the
two is this, since both learn something (an adapter, questions) and this does not.

The model sees what it sees for a caption (captions.py): 12 frames of three snippets, with their
times. Its answer is one of 11 levels; what cannot be read is interpolated.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from featurize.answers import KEEP_SECONDS, PIECE, Scored, interpolated, level, unread
from featurize.captions import Prompts, VideoLlama3
from featurize.job import Job
from featurize.pieces import Pieces
from featurize.request import CAPTIONERS, Request
from featurize.sources import UnreadableVideo, edges
from semvad_jax.files import BadInput
from semvad_jax.store import Store

PROMPTS: Prompts = {
    "source": "ours; a model asked for a score, as Holmes-VAD and VERA do",
    "system": "You watch videos of surveillance cameras.",
    "user": "You are given three consecutive clips. How likely is it that something abnormal or "
    "criminal happens in the middle clip? Answer with one number of this list and nothing else, as "
    "a Python list that begins with '[' and ends with ']': [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, "
    "0.8, 0.9, 1.0]",
}


def looker(request: Request) -> VideoLlama3:
    """The model whose folder `--weights` names, else videollama3-7b from the hub, asked for a
    score.
    """
    named = [name for name in CAPTIONERS if name in request.weights]
    name = (named or CAPTIONERS)[0]
    return VideoLlama3(name.rpartition("-")[2], request.weights.get(name), prompts=PROMPTS)


class Vlm:
    """Scores video i of a store whose videos are at hand, by `looker`."""

    splits = ("test",)
    made: dict[str, Any] = {}

    def __init__(self, store: Store, request: Request) -> None:
        self._store, self._request, self._job = store, request, Job(request)
        self._entries = {entry.video: entry for entry in self._job.source.entries}
        self._model = looker(request)
        self.producer: dict[str, Any] = {
            "kind": "VideoLLaMA 3 asked for a score, Holmes-VAD's and VERA's way; neither of them",
            **self._model.producer,
        }

    def __call__(self, i: int) -> Scored:
        """The scores of video i; BadInput where its file is missing, unreadable or of another
        length than in the store.
        """
        video = self._store.videos[i]
        if video.video not in self._entries:
            raise BadInput(
                f"{self._request.videos} does not list {video.video} of {self._store.path}; give "
                "the videos that the store was made from with --dataset and --videos."
            )
        entry = self._entries[video.video]
        try:
            if not entry.path.is_file():
                raise UnreadableVideo(f"{entry.path.name} is missing")
            source, entry = self._job.made_from("visual", entry), self._job.known(entry)
            if entry.frames != video.frames:
                raise UnreadableVideo(f"it has {entry.frames} frames, in the store {video.frames}")
            answers = self._kept(
                video.video, source, lambda start: self._model.blocks(entry, start)
            )
        except UnreadableVideo as error:
            raise BadInput(f"{video.video} cannot be scored: {error}.") from None
        levels = [level(answer) for answer in answers]
        scores = interpolated(levels)
        # of the snippet of 16 frames in which the middle of each of the store's lies
        borders = video.frame_edges
        middles = (borders[:-1] + borders[1:]) // 2
        places = np.searchsorted(edges(entry.frames), middles, side="right") - 1
        return Scored(scores[places], len(levels), unread(levels))

    def _kept(self, video: str, source: str, blocks: Callable[[int], Any]) -> list[str]:
        """The answers of a video from its first snippet to its last; kept ones are not asked again,
        and those of a long video survive an interrupt.
        """
        whole = Pieces(self._request.work, PIECE, self.producer)
        begun = Pieces(self._request.work, f"begun-{PIECE}", self.producer)
        if self._request.resume and (texts := whole.load(video, source)) is not None:
            return texts
        texts: list[str] = (begun.load(video, source) or []) if self._request.resume else []
        saved = time.monotonic()
        for block in blocks(len(texts)):
            texts += block
            if time.monotonic() - saved > KEEP_SECONDS:
                begun.save(video, source, texts)
                saved = time.monotonic()
        whole.save(video, source, texts)
        begun.drop(video, source)
        return texts
