"""Small pictures of a video's moments, as JPEG."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from featurize.videos import pictures

SIZE = (160, 160)  # pixels; wide and high at most
QUALITY = 70


def of_files(
    files: Mapping[str, Path],
) -> Callable[[str, Sequence[tuple[int, float]]], list[bytes | None]]:
    """What gives the pictures of these videos, by a video's name and ascending moments; see
    `thumbnails`.
    """
    return lambda video, moments: thumbnails(files[video], moments)


def thumbnails(path: Path, moments: Sequence[tuple[int, float]]) -> list[bytes | None]:
    """A picture of each of the ascending moments (a frame's number, and a second within it); None
    where it cannot be decoded.
    """
    return [None if frame is None else thumbnail(frame) for frame in pictures(path, moments)]


def thumbnail(frame: np.ndarray) -> bytes:
    """A JPEG of a picture, uint8 [H, W, 3], made no larger than SIZE."""
    picture = Image.fromarray(frame)
    picture.thumbnail(SIZE)
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=QUALITY)
    return file.getvalue()
