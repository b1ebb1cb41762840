"""The image features of one video, made while it is decoded."""

from pathlib import Path
from typing import Any

import numpy as np

from featurize.progress import Told, nobody


class Rows:
    """Takes a video's snippets in order and embeds their images in batches of one shape, of which
    the last is filled up with repeats.

    The model has cut(frames) -> images, embed(images) -> rows, `batch`, pooled(rows of a snippet)
    -> [crops, F], `per_snippet` (images), `crops` and `width`.
    """

    def __init__(self, model: Any, snippets: int) -> None:
        self._model = model
        self._features = np.empty((model.crops, snippets, model.width), np.float16)
        self._images, self._rows, self._done = [], [], 0

    def add(self, frames: list[np.ndarray]) -> None:
        """The next snippet's frames."""
        self._images += self._model.cut(frames)
        while len(self._images) >= self._model.batch:
            self._embed(self._model.batch)

    def features(self) -> np.ndarray:
        """Of all snippets, float16 [crops, n, F], once they are all there."""
        if self._images:
            self._embed(len(self._images))
        return self._features

    def _embed(self, count: int) -> None:
        images, self._images = self._images[:count], self._images[count:]
        filled = images + images[-1:] * (self._model.batch - count)
        self._rows += list(self._model.embed(filled))[:count]
        each = self._model.per_snippet
        while len(self._rows) >= each:
            of_one, self._rows = self._rows[:each], self._rows[each:]
            self._features[:, self._done] = self._model.pooled(of_one)
            self._done += 1


def of_video(model: Any, path: Path, edges: np.ndarray, told: Told = nobody) -> np.ndarray:
    """The features of a video whose snippets begin at these frames, float16 [crops, n, F]; `told`
    is called for each. Raises UnreadableVideo.
    """
    from featurize.videos import snippets

    rows = Rows(model, len(edges) - 1)
    for frames in snippets(path, edges, model.frames):
        rows.add(frames)
        told(1)
    return rows.features()
