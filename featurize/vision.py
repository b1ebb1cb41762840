"""Image embeddings by CLIP's image tower: one row for each snippet and crop.

As in VadCLIP's features, a frame is resized to 340 × 256, ten squares of 224 are cut from it and
embedded, and no row is normalised. How those features reduce the 16 frames of a snippet to one row
is not known; here `middle` embeds one frame, `mean` all of them.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from featurize import arithmetic, clip
from featurize.sources import SNIPPET_FRAMES

WIDTH, HEIGHT, SIDE = 340, 256, 224
RIGHT, BOTTOM = WIDTH - SIDE, HEIGHT - SIDE
# (left, top), in VadCLIP's order; five more are their mirror images
CORNERS = ((RIGHT // 2, BOTTOM // 2), (0, 0), (RIGHT, 0), (0, BOTTOM), (RIGHT, BOTTOM))
CROPS = "centre, top left, top right, bottom left, bottom right, and their mirror images"
BATCH = 64  # images
MEAN, SD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


class ClipImages:
    """Embeds 1 or 10 crops of every snippet; `pool` is "middle" or "mean"."""

    def __init__(self, name: str, weights: Path | None, crops: int, pool: str) -> None:
        self._name, self._weights = name, weights
        self.frames = SNIPPET_FRAMES if pool == "mean" else 1  # of a snippet that it looks at
        self.crops, self.width, self.batch = crops, clip.width(name), BATCH
        self.per_snippet = self.frames * crops  # images
        self.producer: dict[str, Any] = {
            **clip.producer(name, weights),
            "frame": {
                "middle": "the middle one of each snippet",
                "mean": f"the mean of the embeddings of {SNIPPET_FRAMES} frames of each snippet",
            }[pool],
            "input": f"{WIDTH} x {HEIGHT}, bicubic; {SIDE} x {SIDE} crops; CLIP's mean and SD",
            "crops": "centre" if crops == 1 else CROPS,
            "batch": f"{BATCH} images",
            **arithmetic.RECORD,
        }

    @cached_property
    def _model(self) -> Any:
        model = clip.load(self._name, self._weights)
        return model.visual.to(arithmetic.device())

    def snippet(self, frames: list[np.ndarray]) -> np.ndarray:
        """The rows of one snippet from its `frames` frames, float32 [crops, F], in no batch with
        another's.
        """
        images = self.cut(frames)
        batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
        return self.pooled([row for batch in batches for row in self.embed(batch)])

    def pooled(self, rows: list[np.ndarray]) -> np.ndarray:
        """A snippet's row of each crop, from those of its images."""
        return np.stack(rows).reshape(self.frames, self.crops, -1).mean(axis=0)

    def cut(self, frames: list[np.ndarray]) -> list[np.ndarray]:
        """The images that are embedded, of a snippet's frames."""
        return [image for frame in frames for image in crops(frame)[: self.crops]]

    @torch.inference_mode()
    def embed(self, images: list[np.ndarray]) -> np.ndarray:
        """A row of each image, float32 [n, F]."""
        pixels = torch.from_numpy(np.stack(images)).to(arithmetic.device())
        scaled = pixels.permute(0, 3, 1, 2).float() / 255
        mean, sd = (torch.tensor(v, device=scaled.device)[:, None, None] for v in (MEAN, SD))
        with arithmetic.autocast():
            return self._model((scaled - mean) / sd).float().cpu().numpy()


def crops(frame: np.ndarray) -> list[np.ndarray]:
    """The ten crops of a frame, uint8 [224, 224, 3] each, in VadCLIP's order."""
    resized = Image.fromarray(frame).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    pixels = np.asarray(resized)
    five = [pixels[top : top + SIDE, left : left + SIDE] for left, top in CORNERS]
    return five + _mirrored(five)


def _mirrored(images: Iterable[np.ndarray]) -> list[np.ndarray]:
    return [image[:, ::-1] for image in images]
