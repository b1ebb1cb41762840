"""Captions on file: both forms, the repeated last one, and files that do not fit their videos."""

import json
from pathlib import Path

import pytest

from featurize import sources
from featurize.caption_files import FileCaptions
from semvad_jax.files import BadInput

UCF = Path(__file__).resolve().parent.parent.parent / "shared/data/ucf_crime"


def write_lines(path: Path, lines) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def entry(video: str, frames: int) -> sources.Entry:
    return sources.Entry(video, "train", ("Normal",), frames, 30.0, Path("none"))


def test_lists_of_captions_span_the_video(tmp_path: Path):
    lists = {"Normal/a.mp4": [f"a{i}" for i in range(16)], "b.mp4": [f"b{i}" for i in range(15)]}
    path = write_lines(tmp_path / "c.jsonl", [lists, {"X/c.mp4": [f"c{i}" for i in range(15)]}])
    entries = [entry("a", 2728), entry("b", 209), entry("c", 1000)]
    captions = FileCaptions(path, None, entries)
    assert [captions.snippet_frames(e) for e in entries] == [171, 14, 63]
    assert [len(captions(e)) for e in entries] == [16, 15, 16]
    assert captions(entries[2])[-2:] == ["c14", "c14"] and captions.repeated == 1
    assert captions.producer["repeated_last_captions"] == 1
    with pytest.raises(BadInput, match="--caption-spans"):
        FileCaptions(path, 4, entries)


def test_rows_of_a_store_are_snippets_of_16_frames(tmp_path: Path):
    rows = [{"video": "a", "snippet": i, "text": f"a{i}"} for i in (2, 0, 1)]
    path = write_lines(tmp_path / "c.jsonl", rows)
    for frames, expected in ((48, ["a0", "a1", "a2"]), (64, ["a0", "a1", "a2", "a2"])):
        captions = FileCaptions(path, None, [entry("a", frames)])
        assert captions(entry("a", frames)) == expected
        assert captions.snippet_frames(entry("a", frames)) == 16
    assert FileCaptions(path, 3, [entry("a", 90)]).snippet_frames(entry("a", 90)) == 30


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"b.mp4": ["x"]}], "no captions of a"),
        ([{"a.mp4": ["x"] * 14}], "14 captions of a"),
        ([{"a.mp4": "x"}], "line 1 is neither"),
        ([["x"]], "line 1 is neither"),
        ([{}], "line 1 is neither"),
        ([{"a.mp4": ["x"]}, {"K/a.mp4": ["y"]}], "a second time"),
        ([{"video": "a", "snippet": 0, "text": "x"}] * 2, "second caption of snippet 0"),
        ([{"video": "a", "snippet": 1, "text": "x"}], "lacks a caption between"),
        ([{"video": "a", "snippet": 0, "text": "x"}, {"a.mp4": ["x"]}], "mixes"),
    ],
)
def test_caption_files_that_do_not_fit(tmp_path: Path, lines, words: str):
    path = write_lines(tmp_path / "c.jsonl", lines)
    with pytest.raises(BadInput, match=words):
        FileCaptions(path, None, [entry("a", 320)])


def test_ucf_list_and_captions_add_up():
    if not UCF.is_dir():
        pytest.skip(f"needs the official lists at {UCF}")
    source = sources.ucf(UCF)
    captions = FileCaptions(UCF / "captions_swinbert_16.jsonl", None, source.entries)
    assert len(source.entries) == 1900 and captions.repeated == 1
    assert sum(e.split == "test" for e in source.entries) == 290
    assert {e.labels[0] for e in source.entries} == set(source.classes)
    assert sum(len(captions(e)) for e in source.entries) == 30396
    for e in source.entries:
        length, n = captions.snippet_frames(e), len(captions(e))
        assert (n - 1) * length < e.frames <= n * length and n in (15, 16)
        assert all(0 <= start < end <= e.frames for _, start, end in e.intervals)
