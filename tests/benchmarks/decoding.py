"""python tests/benchmarks/decoding.py FOLDER [--videos N]: decoding and embedding, on one core.

Ours against the plain way: OpenCV reads every frame, each snippet's middle one is embedded alone.
Needs pip install opencv-python-headless. FOLDER holds mp4 files.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"

import cv2
import numpy as np

from featurize.efficientnet import EfficientNetLite0
from featurize.rows import of_video
from featurize.videos import probe, snippets

ROUNDS = 3


def edges_of(frames: int) -> np.ndarray:
    return np.append(np.arange(0, frames, 16), frames)


def opencv_frames(path: Path) -> list[np.ndarray]:
    """The middle frame of every snippet; every frame is decoded and converted."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        readable, frame = capture.read()
        if not readable:
            break
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    edges = edges_of(len(frames))
    return [frames[(a + b) // 2] for a, b in zip(edges, edges[1:], strict=False)]


def timed(contenders: dict[str, Callable[[Path], int]], paths: list[Path]) -> dict[str, float]:
    """Units a second, the median of interleaved rounds."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            begun = time.perf_counter()
            units = sum(run(path) for path in paths)
            rates[name].append(units / (time.perf_counter() - begun))
    return {name: statistics.median(found) for name, found in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=20)
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.rglob("*.mp4"))[: arguments.videos]
    lengths = {path: probe(path)[0] for path in paths}
    cv2.setNumThreads(1)
    model = EfficientNetLite0(projected=False)

    def ours(count: int) -> Callable[[Path], int]:
        def run(path: Path) -> int:
            assert len(list(snippets(path, edges_of(lengths[path]), count))) > 0
            return lengths[path]

        return run

    def opencv(path: Path) -> int:
        opencv_frames(path)
        return lengths[path]

    def embed(path: Path) -> int:
        return of_video(model, path, edges_of(lengths[path])).shape[1]

    def embed_plainly(path: Path) -> int:
        return len(np.concatenate([model.embed([frame]) for frame in opencv_frames(path)]))

    first = paths[0]
    plain = np.concatenate([model.embed([frame]) for frame in opencv_frames(first)])
    print(
        "cosine of both rows:", cosine(plain, of_video(model, first, edges_of(lengths[first]))[0])
    )
    decoding = {
        "ours, the middle frame of each snippet": ours(1),
        "ours, all 16": ours(16),
        "OpenCV, every frame": opencv,
    }
    embedding = {"ours": embed, "OpenCV, one frame after the other": embed_plainly}
    table("frames decoded a second", timed(decoding, paths))
    table("snippets embedded a second", timed(embedding, paths))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b.astype(np.float64), axis=1)
    return float(np.min((a * b).sum(axis=1) / norms))


def table(title: str, rates: dict[str, float]) -> None:
    best = next(iter(rates.values()))
    print(f"\n| {title}, one core | | ratio |\n| --- | ---: | ---: |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.0f} | {best / rate:.2f} |")


if __name__ == "__main__":
    main()
