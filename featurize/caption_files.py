"""Captions read from a file: a row a snippet as in a store, a line of captions a video, or spans of
frames.
"""

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from featurize.sources import SNIPPET_FRAMES, Entry, UnreadableVideo, edges, some, without_ending
from semvad_jax.files import BadInput, json_lines, read_json, require, sha256

SPANS = 16
BY_FRAMES = "vid_captions"  # the one key of a file of spans
SPAN = re.compile(r"\s*(\d{1,18})\s*,\s*(\d{1,18})\s*")  # FIRST, LAST
Spans = list[tuple[int, int, str]]  # (first frame, last frame, caption)


class FileCaptions:
    """The captions of a data set's videos from one file, in one of three forms.

    {"video": ID, "snippet": I, "text": TEXT}     rows of a store: snippets of 16 frames
    {"Class/ID.mp4": [TEXT, ...]}                 each spans ⌈frames/spans⌉ frames, spans = 16
    {"vid_captions": {"ID.mp4": {"FIRST, LAST": TEXT, ...}, ...}}     spans of frames

    The first two are JSON Lines. `spans` fixes the number for both of them. A missing last caption
    repeats the one before it and is counted in `repeated`. A file may leave out all videos of a
    split: these have no captions then. Raises BadInput for other contents, for a video that is
    missing among others of its split, and for captions that do not fit a video's frames.
    """

    def __init__(self, path: Path, spans: int | None, entries: Sequence[Entry]) -> None:
        if not path.is_file():
            raise BadInput(f"{path} is missing; --captioner file:PATH reads captions from there.")
        if spans is not None and spans < 1:
            raise BadInput(f"--caption-spans {spans} is no number of captions; give 1 or more.")
        by_frames = _read_spans(path)
        listed, rows = ({}, True) if by_frames is not None else _read(path)
        self.path = path
        self._spans = spans if rows else spans or SPANS
        self.repeated = 0
        self._captions: dict[str, list[str]] = {}
        self._edges: dict[str, np.ndarray] = {}
        named = listed if by_frames is None else by_frames
        self._require_whole_splits(entries, set(named))
        for entry in entries:
            if entry.video not in named:
                continue
            self._require_frames(entry)
            if by_frames is None:
                self._captions[entry.video] = self._fit(path, entry, listed[entry.video])
                self._edges[entry.video] = edges(entry.frames, self.snippet_frames(entry))
            else:
                fitted = _fit_spans(path, entry, by_frames[entry.video])
                self._captions[entry.video], self._edges[entry.video] = fitted
        each = f"{self._spans} a video" if self._spans else f"{SNIPPET_FRAMES} frames"
        self.producer = {
            "model": "captions on file",
            "file": path.name,
            "sha256": sha256(path),
            "snippets": each if by_frames is None else "spans of frames on file",
            "repeated_last_captions": self.repeated,
        }

    def _require_whole_splits(self, entries: Sequence[Entry], named: set[str]) -> None:
        """BadInput where a video is missing and others of its split are there, or all are."""
        has = {entry.split for entry in entries if entry.video in named}
        missing = [e.video for e in entries if e.video not in named and (e.split in has or not has)]
        require(
            not missing,
            f"{self.path} has no captions of {some(missing)}; every video of a split needs some.",
        )

    def snippet_frames(self, entry: Entry) -> int:
        """How many frames a snippet has that is cut for these captions."""
        return -(-entry.frames // self._spans) if self._spans else SNIPPET_FRAMES

    def edges(self, entry: Entry) -> np.ndarray:
        """The frames at which the video's captions begin and the last one ends, [captions + 1]."""
        return self._edges[entry.video]

    def __call__(self, entry: Entry) -> list[str]:
        """The video's captions in order; UnreadableVideo where the file has none of its split."""
        if entry.video not in self._captions:
            raise UnreadableVideo(f"{self.path.name} has captions of no {entry.split} video")
        return self._captions[entry.video]

    def _require_frames(self, entry: Entry) -> None:
        require(
            entry.frames > 0,
            f"{self.path}: the frames of {entry.video} are not known; captions on file need a "
            "videos.csv with frame counts in the folder of --videos.",
        )

    def _fit(self, path: Path, entry: Entry, captions: list[str]) -> list[str]:
        needed = -(-entry.frames // self.snippet_frames(entry))
        if captions and len(captions) == needed - 1:
            self.repeated += 1
            return [*captions, captions[-1]]
        if len(captions) != needed:
            raise BadInput(
                f"{path} has {len(captions)} captions of {entry.video}, whose {entry.frames} "
                f"frames need {needed}; --caption-spans sets how many captions a video has."
            )
        return captions


def _read_spans(path: Path) -> dict[str, Spans] | None:
    """Captions with their spans of frames by video id; None where the file has another form."""
    with path.open("rb") as file:
        if BY_FRAMES.encode() not in file.read(4096):
            return None
    form = dict[str, dict[str, dict[str, str]]]
    refusal = f'does not hold {{"{BY_FRAMES}": {{"NAME.mp4": {{"FIRST, LAST": caption}}}}}}'
    content = read_json(path, form, refusal)
    require(list(content) == [BY_FRAMES], f"{path} {refusal} alone.")
    listed: dict[str, Spans] = {}
    for name, captions in content[BY_FRAMES].items():
        video, spans = without_ending(name), []
        require(video not in listed, f"{path} lists the captions of {name} a second time.")
        for span, text in captions.items():
            if not (found := SPAN.fullmatch(span)):
                raise BadInput(f"{path}: {name} has a span {span[:40]!r}; give FIRST, LAST.")
            spans.append((int(found[1]), int(found[2]), text))
        listed[video] = sorted(spans)
    return listed


def _fit_spans(path: Path, entry: Entry, spans: Spans) -> tuple[list[str], np.ndarray]:
    """The captions of a video and the frames at which they begin, the video's end last.

    Raises BadInput for spans that do not follow one another from the first frame to the last.
    """
    inside = [span for span in spans if span[0] < entry.frames]
    borders = [(last, begin) for (_, last, _), (begin, _, _) in pairwise(spans)]
    require(
        bool(inside)
        and inside[0][0] <= 1
        and all(begin - last in (0, 1) for last, begin in borders)
        and all(first <= last for first, last, _ in spans)
        and all(a < b for a, b in pairwise(first for first, _, _ in spans))
        and abs(spans[-1][1] - entry.frames) <= SNIPPET_FRAMES,
        f"{path}: the spans of {entry.video} do not follow one another from frame 0 to its "
        f"{entry.frames} frames; correct them or its frames in videos.csv.",
    )
    starts = [0, *(first for first, _, _ in inside[1:])]
    return [text for _, _, text in inside], np.array([*starts, entry.frames])


def _read(path: Path) -> tuple[dict[str, list[str]], bool]:
    """Captions by video id, and whether the file has the rows of a store."""
    listed: dict[str, list[str]] = {}
    by_row: dict[str, dict[int, str]] = {}
    for where, line in json_lines(path):
        match line:
            case {"video": str(video), "snippet": int(snippet), "text": str(text)}:
                if snippet in by_row.setdefault(video, {}):
                    raise BadInput(f"{where} is a second caption of snippet {snippet} of {video}.")
                by_row[video][snippet] = text
            case {} if line and all(_is_texts(texts) for texts in line.values()):
                for name, texts in line.items():
                    video = without_ending(name)
                    if video in listed:
                        raise BadInput(f"{where} lists the captions of {name} a second time.")
                    listed[video] = texts
            case _:
                raise BadInput(
                    f'{where} is neither {{"video", "snippet", "text"}} nor '
                    f'{{"Class/NAME.mp4": [captions]}}: {json.dumps(line)[:60]}.'
                )
    if by_row and listed:
        raise BadInput(f"{path} mixes rows of a store with lists of captions; keep one form.")
    for video, rows in by_row.items():
        if sorted(rows) != list(range(len(rows))):
            raise BadInput(f"{path} lacks a caption between others of {video}; add its snippet.")
        listed[video] = [rows[snippet] for snippet in range(len(rows))]
    return listed, bool(by_row)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
