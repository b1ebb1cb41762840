"""Captions read from a file: a row a snippet as in a store, or a line of captions a video."""

import json
from collections.abc import Sequence
from pathlib import Path

from featurize.sources import SNIPPET_FRAMES, Entry, without_ending
from semvad_jax.files import BadInput, json_lines, sha256

SPANS = 16


class FileCaptions:
    """The captions of a data set's videos from one JSON Lines file, in either of two forms.

    {"video": ID, "snippet": I, "text": TEXT}     rows of a store: snippets of 16 frames
    {"Class/ID.mp4": [TEXT, ...]}                 each spans ⌈frames/spans⌉ frames, spans = 16

    `spans` fixes the number for both forms. A missing last caption repeats the one before it and
    is counted in `repeated`. Raises BadInput for other lines, and for a video whose number of
    captions does not fit its frames.
    """

    def __init__(self, path: Path, spans: int | None, entries: Sequence[Entry]) -> None:
        if not path.is_file():
            raise BadInput(f"{path} is missing; --captioner file:PATH reads JSON Lines from there.")
        if spans is not None and spans < 1:
            raise BadInput(f"--caption-spans {spans} is no number of captions; give 1 or more.")
        listed, rows = _read(path)
        self._spans = spans if rows else spans or SPANS
        self.repeated = 0
        self._captions = {}
        for entry in entries:
            captions = listed.get(entry.video)
            if captions is None:
                raise BadInput(f"{path} has no captions of {entry.video}; every video needs some.")
            self._captions[entry.video] = self._fit(path, entry, captions)
        self.producer = {
            "model": "captions on file",
            "file": path.name,
            "sha256": sha256(path),
            "snippets": f"{self._spans} a video" if self._spans else f"{SNIPPET_FRAMES} frames",
            "repeated_last_captions": self.repeated,
        }

    def snippet_frames(self, entry: Entry) -> int:
        """How many frames each of the video's captions spans."""
        return -(-entry.frames // self._spans) if self._spans else SNIPPET_FRAMES

    def __call__(self, entry: Entry) -> list[str]:
        """The video's captions, one a snippet."""
        return self._captions[entry.video]

    def _fit(self, path: Path, entry: Entry, captions: list[str]) -> list[str]:
        if not entry.frames:
            raise BadInput(
                f"{path}: the frames of {entry.video} are not known; captions on file need a "
                "videos.csv with frame counts in the folder of --videos."
            )
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
