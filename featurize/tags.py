"""Captions by naming what an image classifier sees: the offline stand-in for VideoLLaMA 3.

It describes nothing that happens: the likeliest ImageNet labels of a snippet's middle frame in one
sentence. It is for trying the whole way without a model hub.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from tensorflow_datasets.datasets.siscore.labels import IMAGENET_LABELS_LIST

from featurize.arithmetic import RECORD, in_batches
from featurize.efficientnet import BATCH, EfficientNetLite0
from featurize.sources import SNIPPET_FRAMES, Entry, edges
from featurize.videos import snippets

LABELS = 4  # named in a sentence


class Tags:
    """The captioner `tags`: "A picture of a crowd, a street and a car." and so on."""

    frames = 1  # of a snippet that it looks at

    def __init__(self) -> None:
        self._model = EfficientNetLite0(projected=False)
        self.producer = {
            "model": f"tags: the {LABELS} likeliest ImageNet labels by efficientnet-lite0",
            "revision": self._model.producer["revision"],
            "frame": "the middle one of each snippet",
            "snippets": f"{SNIPPET_FRAMES} frames",
            "batch": f"{BATCH} images",
            **RECORD,
        }

    def snippet_frames(self, entry: Entry) -> int:
        """16, of every video."""
        return SNIPPET_FRAMES

    def __call__(self, entry: Entry) -> list[str]:
        """A sentence a snippet; raises UnreadableVideo."""
        return [text for block in self.blocks(entry) for text in block]

    def blocks(
        self, entry: Entry, start: int = 0, decoded: Iterator[list[np.ndarray]] | None = None
    ) -> Iterator[list[str]]:
        """The sentences from snippet `start`, a multiple of BATCH, on: BATCH at a time. `decoded`
        are the frames of all snippets, where another decodes the video.
        """
        if decoded is None:
            decoded = snippets(entry.path, edges(entry.frames), self.frames)
        frames = (frame for (frame,) in islice(decoded, start, None))
        rows = in_batches(self._model.classify, frames, BATCH)
        while block := list(islice(rows, BATCH)):
            yield [_named(row) for row in block]

    def in_turn(self, fps: float, live: bool = False) -> Callable[[list[np.ndarray]], str]:
        """A function of a snippet's middle frame that gives its sentence, in a batch of its own."""
        return lambda frames: _named(self._model.classify(frames)[0])


def _named(logits: np.ndarray) -> str:
    return sentence(np.argsort(-logits, kind="stable"))


def sentence(ranked: np.ndarray) -> str:
    """The first labels of a ranking of the 1,000 classes, each by its first name."""
    names = [IMAGENET_LABELS_LIST[i].split(",")[0] for i in ranked[:LABELS]]
    return f"A picture of {', '.join(names[:-1])} and {names[-1]}."
