"""What people wrote of a store's test videos, beside the store's captions of the same frames.

Sentences come in UCA's format, a JSON file of moments in seconds for each video:

    {"VIDEO": {"duration": s, "timestamps": [[start, end], …], "sentences": [text, …]}}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from semvad_jax.files import BadInput
from semvad_jax.store import Store

FORM = '{"VIDEO": {"duration": s, "timestamps": [[start, end], …], "sentences": [text, …]}}'
LONGEST = 1e9  # seconds; a number beyond it is none
CLOCK = 0.05  # a duration that differs by a larger share may mean another frame rate

Duration = Annotated[float, msgspec.Meta(gt=0, lt=LONGEST)]
Moment = Annotated[float, msgspec.Meta(gt=-LONGEST, lt=LONGEST)]


@dataclass(frozen=True)
class Entry:
    """What a file says of one video."""

    duration: Duration
    timestamps: list[tuple[Moment, Moment]]
    sentences: list[str]


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
    videos: dict[str, tuple[float, list[Timed]]] = {}
    for file in files:
        for video, value in _members(file):
            if video in videos:
                raise BadInput(f"{file} describes {video} a second time; keep one of the two")
            try:
                videos[video] = _timed(value)
            except (msgspec.ValidationError, ValueError) as error:
                raise BadInput(
                    f"{file}: {video} is not of the form {FORM}; correct it ({error})"
                ) from None
    return videos


def _members(file: Path) -> list[tuple[str, Any]]:
    """The names and values of a JSON object; a name that is there twice stays twice."""
    try:
        members = json.loads(file.read_bytes(), object_pairs_hook=_Members)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, _Members):
        raise BadInput(f"{file} is no JSON {FORM}; correct it")
    return members.pairs


class _Members(dict[str, Any]):
    """A JSON object that also knows its names as they were written."""

    def __init__(self, pairs: list[tuple[str, Any]]):
        super().__init__(pairs)
        self.pairs = pairs


def _timed(value: Any) -> tuple[float, list[Timed]]:
    """A video's duration and sentences. Raises ValueError for another form."""
    entry = msgspec.convert(value, Entry)
    if len(entry.timestamps) != len(entry.sentences):
        raise ValueError(f"{len(entry.timestamps)} timestamps, {len(entry.sentences)} sentences")
    "".join(entry.sentences).encode()  # a lone surrogate is no text
    times = zip(entry.timestamps, entry.sentences, strict=True)
    return entry.duration, [Timed(start, end, text) for (start, end), text in times]


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
    videos = []
    for _, video in test:
        known = [k for k, text in enumerate(texts[video.video]) if text.strip()]
        if not known or video.video not in written:
            continue
        edges = video.frame_edges
        captions = np.stack([edges[:-1], edges[1:]], axis=1)[known]
        duration, rows = written[video.video]
        times = np.array([row[:2] for row in rows], np.float64).reshape(-1, 2)
        frames = np.rint(video.frame_at(np.sort(times, axis=1)))
        inside = frames.clip(0, video.frames).astype(np.int64)
        shared = overlap(inside, captions)
        words = np.array([bool(row.text.strip()) for row in rows], bool)
        kept = words & (shared.sum(axis=1) > 0)
        truth = np.array([span[1:] for span in video.intervals], np.int64).reshape(-1, 2)
        counts["reversed"] += int((kept & (times[:, 0] > times[:, 1])).sum())
        counts["cut"] += int((kept & (frames != inside).any(axis=1)).sum())
        counts["left_out"] += int((~kept).sum())
        counts["whole_video"] += int((kept & shared.all(axis=1)).sum())
        length = float(video.second_edges[-1])
        counts["other_duration"] += abs(duration - length) > CLOCK * length
        if kept.any():
            videos.append(
                Described(
                    video.video,
                    [texts[video.video][k] for k in known],
                    captions,
                    [row.text for row, keep in zip(rows, kept, strict=True) if keep],
                    inside[kept],
                    overlap(inside[kept], truth).sum(axis=1) > 0,
                )
            )
    if not videos:
        raise BadInput(
            f"not one test video of {features.path} has both captions and sentences; the "
            "sentences' videos need the store's names"
        )
    total = {"test_videos": len(test), "videos": len(videos)}
    total["sentences"] = sum(len(v.sentences) for v in videos)
    return videos, total | counts


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Frames that each of the spans [m, 2] shares with each of [n, 2], whole numbers [m, n]."""
    first = np.maximum(a[:, None, 0], b[None, :, 0])
    last = np.minimum(a[:, None, 1], b[None, :, 1])
    return (last - first).clip(0)
