"""What people wrote of a store's test videos, beside the store's captions of the same frames.

Sentences come in UCA's format, a JSON file of moments in seconds for each video:

    {"VIDEO": {"duration": s, "timestamps": [[start, end], …], "sentences": [text, …]}}
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from semvad_jax.files import BadInput
from semvad_jax.store import Store

FORM = '{"VIDEO": {"duration": s, "timestamps": [[start, end], …], "sentences": [text, …]}}'
FIELDS = ("duration", "timestamps", "sentences")
LONGEST = 1e9  # seconds; a number beyond it is none
CLOCK = 0.05  # a duration that differs by a larger share may mean another frame rate


class Timed(NamedTuple):
    """What people wrote of a video, from `start` to `end` in seconds."""

    start: float
    end: float
    text: str


class Described(NamedTuple):
    """A test video with captions and sentences; frames are [first, last), whole numbers."""

    video: str
    captions: list[str]
    caption_frames: np.ndarray  # [n, 2]
    sentences: list[str]
    sentence_frames: np.ndarray  # [m, 2]
    anomalous: np.ndarray  # [m], whether a true anomaly overlaps the sentence


def read_sentences(path: Path) -> dict[str, tuple[float, list[Timed]]]:
    """{video: (duration in seconds, its sentences)} from a file in UCA's format, or from all
    UCA_*.json of a folder.

    Raises BadInput: nothing there, no JSON of that form, a video that is there twice.
    """
    files = sorted(path.glob("UCA_*.json")) if path.is_dir() else [path]
    if not (files and files[0].is_file()):
        raise BadInput(
            f"{path} has no sentences; give a JSON file {FORM} or a folder of UCA_*.json"
        )
    found: dict[str, tuple[float, list[Timed]]] = {}
    for file in files:
        try:
            rows = json.loads(file.read_bytes(), object_pairs_hook=tuple)  # a key twice stays twice
        except (ValueError, RecursionError):
            rows = None
        if not isinstance(rows, tuple):
            raise BadInput(f"{file} is no JSON {FORM}; correct it")
        for video, row in rows:
            if video in found:
                raise BadInput(f"{file} describes {video} a second time; keep one of the two")
            try:
                fields = dict(row)
                found[video] = _timed(*(fields[name] for name in FIELDS))
            except (ValueError, LookupError, TypeError):
                raise BadInput(f"{file}: {video} is not of the form {FORM}; correct it") from None
    return found


def _timed(duration: Any, timestamps: Any, sentences: Any) -> tuple[float, list[Timed]]:
    """ValueError or TypeError where these are not what they should be."""
    rows = [Timed(a, b, t) for (a, b), t in zip(timestamps, sentences, strict=True)]
    for number in (duration, *(x for row in rows for x in row[:2])):
        if type(number) not in (int, float) or not abs(number) < LONGEST:
            raise ValueError
    if not (isinstance(sentences, list) and duration > 0):
        raise ValueError
    "".join(sentences).encode()  # a lone surrogate is no text
    return duration, rows


def described(
    features: Store, written: Mapping[str, tuple[float, list[Timed]]]
) -> tuple[list[Described], dict[str, int]]:
    """The test videos with captions and sentences, and what is to be told of them.

    Reversed times are put in order, times outside the video cut to it. Left out: sentences
    without a whole frame, without words, and those at whose moment no caption is known.

    Raises BadInput: a store without texts, and where no test video has both.
    """
    test = [(i, v) for i, v in enumerate(features.videos) if v.split == "test" and not v.error]
    texts = {v.video: features.texts(i) for i, v in test}
    if not any(map(any, texts.values())):
        raise BadInput(
            f"{features.path} has no captions of test videos; a store of embeddings alone cannot "
            "be held against sentences"
        )
    counts = dict.fromkeys(("reversed", "cut", "left_out", "whole_video", "other_duration"), 0)
    found = []
    for _, video in test:
        if not video.fps > 0:
            raise BadInput(f"{features.path}: {video.video} has {video.fps:g} frames a second")
        known = [k for k, text in enumerate(texts[video.video]) if text.strip()]
        if not known or video.video not in written:
            continue
        edges = video.frame_edges
        captions = np.stack([edges[:-1], edges[1:]], axis=1)[known]
        duration, rows = written[video.video]
        times = np.array([row[:2] for row in rows], np.float64).reshape(-1, 2)
        frames = np.rint(np.sort(times, axis=1) * video.fps)
        inside = frames.clip(0, video.frames).astype(np.int64)
        shared = overlap(inside, captions)
        words = np.array([bool(row.text.strip()) for row in rows], bool)
        kept = words & (shared.sum(axis=1) > 0)
        truth = np.array([span[1:] for span in video.intervals], np.int64).reshape(-1, 2)
        counts["reversed"] += int((kept & (times[:, 0] > times[:, 1])).sum())
        counts["cut"] += int((kept & (frames != inside).any(axis=1)).sum())
        counts["left_out"] += int((~kept).sum())
        counts["whole_video"] += int((kept & shared.all(axis=1)).sum())
        length = video.frames / video.fps
        counts["other_duration"] += abs(duration - length) > CLOCK * length
        if kept.any():
            found.append(
                Described(
                    video.video,
                    [texts[video.video][k] for k in known],
                    captions,
                    [row.text for row, keep in zip(rows, kept, strict=True) if keep],
                    inside[kept],
                    overlap(inside[kept], truth).sum(axis=1) > 0,
                )
            )
    if not found:
        raise BadInput(
            f"not one test video of {features.path} has both captions and sentences; the "
            "sentences' videos need the store's names"
        )
    total = {"test_videos": len(test), "videos": len(found)}
    total["sentences"] = sum(len(v.sentences) for v in found)
    return found, total | counts


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Frames that each of the spans [m, 2] shares with each of [n, 2], whole numbers [m, n]."""
    first, last = (f(a[:, None, k], b[None, :, k]) for k, f in ((0, np.maximum), (1, np.minimum)))
    return (last - first).clip(0)
