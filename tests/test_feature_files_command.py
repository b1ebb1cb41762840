"""Features on file by the real command: one store of any layout, its rows' captions and truth."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from featurize import run
from featurize.caption_files import FileCaptions
from featurize.feature_files import DROPPED, REPEATED, FeatureFiles
from featurize.pack import _in_the_middle
from featurize.sources import Entry
from semvad_jax import evaluate, store
from semvad_jax.files import BadInput
from semvad_jax.store import Video, tfds
from tests.test_feature_files import (
    FEATURES,
    FRAMES,
    LAYOUTS,
    ROWS,
    WIDTH,
    command,
    said,
    save,
    spans,
    write_list,
    write_spans,
)

rng = np.random.default_rng(1)
CROPS = {name: rng.random((10, ROWS, WIDTH)).astype(np.float16) for name in FRAMES}
NEEDED = {name: -(-frames // 16) for name, frames in FRAMES.items()}


def apart(to: Path, name: str, crops: np.ndarray) -> None:
    for k, crop in enumerate(crops):
        save(to / f"{k}/{name}__{k}.npy", crop)


STACKS = {
    "apart": apart,
    "crops first": lambda to, name, x: save(to / f"{name}.npy", x),
    "rows first": lambda to, name, x: save(to / f"{name}_i3d.npy", x.swapaxes(0, 1)),
}


@pytest.mark.parametrize(
    ("layouts", "features"), [(LAYOUTS, FEATURES), (STACKS, CROPS)], ids=["one crop", "ten crops"]
)
def test_any_layout_makes_the_same_store(tmp_path, layouts, features):
    folder, made = write_list(tmp_path), {}
    for layout, write in layouts.items():
        shutil.rmtree(folder / "features", ignore_errors=True)
        for name, rows in features.items():
            write(folder / "features", name, rows)
        assert run.main(command(folder, tmp_path / "store", "--rows", "even")) == 0
        made[layout] = store.open(tmp_path / "store").info["sha256"]
    assert len({json.dumps(sums) for sums in made.values()}) == 1, made
    opened = store.open(tmp_path / "store")
    for i, rows in enumerate(features.values()):
        for crop, of_crop in enumerate(rows.reshape(-1, ROWS, WIDTH)):
            np.testing.assert_array_equal(opened.visual_rows(i, crop), of_crop)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A list, captions and features of 16 frames a row."""
    write_list(tmp_path)
    for name, n in NEEDED.items():
        save(tmp_path / f"features/{name}.npy", rng.random((n, WIDTH)))
    return tmp_path


def change_rows(folder: Path, name: str, n: int) -> np.ndarray:
    rows = rng.random((n, WIDTH)).astype(np.float16)
    save(folder / f"features/{name}.npy", rows)
    return rows


def test_a_row_of_16_frames_too_few_or_too_many_is_counted_in_the_report(folder, capsys):
    few = [change_rows(folder, name, NEEDED[name] - 1) for name in ("Fight_1", "Fight_t")]
    many = change_rows(folder, "Calm_t", NEEDED["Calm_t"] + 1)
    assert run.main(command(folder, folder / "store")) == 0
    made = store.open(folder / "store")
    told = [f"2 videos {REPEATED}", f"1 video {DROPPED}"]
    assert sorted(made.info["producers"]["notes"]) == sorted(told)
    printed = " ".join(capsys.readouterr().out.split())
    assert all(note in printed for note in told)
    names = [video.video for video in made.videos]
    for name, rows in zip(("Fight_1", "Fight_t"), few, strict=True):
        np.testing.assert_array_equal(made.visual_rows(names.index(name)), [*rows, rows[-1]])
    np.testing.assert_array_equal(made.visual_rows(names.index("Calm_t")), many[:-1])
    lines = (made.path / "videos.jsonl").read_text().splitlines()
    assert all("edges" not in line and '"snippet_frames": 16' in line for line in lines)


def test_a_dry_run_reads_the_files_and_writes_nothing(folder, capsys):
    before = sorted(folder.rglob("*"))
    assert run.main(command(folder, folder / "store", "--dry-run")) == 0
    assert "Nothing was written" in capsys.readouterr().out
    assert sorted(folder.rglob("*")) == before


def stack(folder: Path, shape: tuple[int, ...]) -> None:
    for name in FRAMES:
        save(folder / f"features/{name}.npy", rng.random((*shape, WIDTH)))


WRONG = {
    "two too few": (
        lambda to: change_rows(to, "Fight_1", NEEDED["Fight_1"] - 2),
        [],
        "Fight_1 has 42 rows of features, but 700 frames make 44 snippets of 16",
    ),
    "two too many": (
        lambda to: change_rows(to, "Calm.2_x264", NEEDED["Calm.2_x264"] + 2),
        [],
        "Calm.2_x264 has 43 rows of features, but 641 frames make 41 snippets of 16",
    ),
    "more rows than frames": (
        lambda to: change_rows(to, "Fight_t", 501),
        ["--rows", "even"],
        "Fight_t has 501 rows of features, but 500 frames",
    ),
    "unclear axes": (
        lambda to: stack(to, (5, 10)),
        ["--rows", "even"],
        "does not tell crops from rows; give --layout n,crops,F or --layout crops,n,F",
    ),
    "no third axis": (
        lambda to: None,
        ["--layout", "n,crops,F"],
        "--layout n,crops,F is for arrays of three axes",
    ),
    "crops of two lengths": (
        lambda to: [
            save(to / "features/Fight_1__1.npy", rng.random((9, WIDTH))),
            *(
                save(to / f"features/{x}__1.npy", rng.random((NEEDED[x], WIDTH)))
                for x in FRAMES
                if x != "Fight_1"
            ),
        ],
        [],
        "Fight_1__1.npy has 9 rows, Fight_1.npy has 44",
    ),
    "a text that is a pointer": (
        lambda to: [
            (to / "features/Fight_1.npy").unlink(),
            (to / "features/Fight_1.txt").write_text("version https://git-lfs.github.com/spec/v1"),
        ],
        [],
        "Fight_1.txt is a Git LFS pointer",
    ),
    "a head cut short": (
        lambda to: (to / "features/Fight_1.npy").write_bytes(b"\x93NUMPY\x01\x00v"),
        [],
        "Fight_1.npy is damaged",
    ),
    "too large for float16": (
        lambda to: save(to / "features/Fight_1.npy", np.full((44, WIDTH), 1e6)),
        [],
        "Fight_1.npy holds a number that is not finite",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_fit_ends_the_call_in_one_sentence(folder, capsys, kind):
    damage, flags, sentence = WRONG[kind]
    damage(folder)
    assert run.main(command(folder, folder / "store", *flags)) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1 and "Traceback" not in told
    assert not (folder / "store").exists()


def test_crops_without_the_first_are_refused_though_no_other_video_has_it(tmp_path):
    for k in range(1, 10):
        save(tmp_path / f"a__{k}.npy", FEATURES["Fight_1"])
    with pytest.raises(BadInput) as caught:
        FeatureFiles(tmp_path, [entry("a", 700)], True, None)
    assert "a has no features of crop 0" in str(caught.value)
    assert "other videos" not in str(caught.value)


# ---- captions by the middle frame of each row


def entry(name: str, frames: int) -> Entry:
    return Entry(name, "test", ("Normal",), frames, 30.0, Path("none"))


def test_the_caption_of_a_rows_middle_frame_by_a_slow_loop():
    for _ in range(200):
        frames = int(rng.integers(2, 400))
        rows, captions = (
            np.array([0, *np.sort(rng.permutation(np.arange(1, frames))[:k]), frames])
            for k in rng.integers(0, 30, 2)
        )
        said_of = [k for k, (a, b) in enumerate(pairwise(captions)) for _ in range(a, b)]
        slow = [said_of[(a + b) // 2] for a, b in pairwise(rows)]
        assert _in_the_middle(rows, captions, len(captions) - 1).tolist() == slow


@pytest.mark.parametrize("flags", [[], ["--rows", "even"]], ids=["snippets", "even"])
def test_spans_of_frames_give_each_row_its_caption(folder, flags):
    borders = {n: [0, *range(37, f - 20, 61), f - 1] for n, f in FRAMES.items()}
    path = write_spans(folder / "c.json", **{n: spans(*pairwise(b)) for n, b in borders.items()})
    asked = command(folder, folder / "store", *flags, captions=path.name)
    assert run.main(asked) == 0
    made = store.open(folder / "store")
    for i, video in enumerate(made.videos):
        middles = [(a + b) // 2 for a, b in pairwise(video.frame_edges.tolist())]
        begun = [max(first for first in borders[video.video][:-1] if first <= m) for m in middles]
        assert made.texts(i) == [f"from {first}" for first in begun]


def test_a_file_without_a_split_leaves_its_videos_out_and_says_so(folder, capsys):
    whole = {n: spans((0, f)) for n, f in FRAMES.items() if n.endswith("_t")}
    write_spans(folder / "c.json", **whole)
    asked = command(folder, folder / "store", captions="c.json")
    assert run.main(asked) == 0
    told, reason = said(capsys), "c.json has captions of no train video"
    assert "3 videos could not be read" in told and reason in told
    made = store.open(folder / "store")
    assert [video.error for video in made.videos] == [reason] * 3 + [None] * 2
    write_spans(folder / "c.json", Fight_t=whole["Fight_t"])
    assert run.main(asked) == 2
    assert "c.json has no captions of Calm_t; every video of a split needs some" in said(capsys)


@pytest.mark.parametrize(
    ("pairs", "frames"),
    [
        ([(a, a + 16) for a in range(0, 1000, 16)], 100),
        ([(a, a + 16) for a in range(0, 96, 16)], 1000),
        ([(0, 16), (16, 10)], 20),
        ([(0, 50), (0, 100)], 100),
    ],
    ids=["of a longer video", "of a shorter video", "reversed", "twice from the first frame"],
)
def test_spans_of_another_video_are_refused(tmp_path, pairs, frames):
    path = write_spans(tmp_path / "c.json", a=spans(*pairs))
    with pytest.raises(BadInput, match="c.json: the spans of a do not follow one another"):
        FileCaptions(path, None, [entry("a", frames)])


def test_a_span_of_thousands_of_digits_is_refused(tmp_path):
    path = write_spans(tmp_path / "c.json", a={f"0, {'9' * 5000}": "text"})
    with pytest.raises(BadInput, match="a.mp4 has a span '0, 999"):
        FileCaptions(path, None, [entry("a", 100)])


# ---- edges in the store


def test_truth_and_times_go_by_the_edges_and_survive_an_export(tmp_path):
    save(tmp_path / "a.npy", rng.random((4, WIDTH)))
    rows, edges, _ = FeatureFiles(tmp_path, [entry("a", 10)], True, None).fitted(entry("a", 10))
    intervals = (("Fighting", 3, 6), ("Fighting", 9, 10))
    about = {"snippet_frames": None, "edges": tuple(edges.tolist()), "intervals": intervals}
    even = Video("a", "test", ("Fighting",), 10, 5.0, 4, **about)
    plain = Video("b", "train", ("Normal",), 20, 5.0, 2)
    lost = Video("c", "train", ("Normal",), 0, 0.0, 0, error="c.npy is missing")
    classes = ("Normal", "Fighting")
    with store.Writer(tmp_path / "s", dataset="t", classes=classes, producers={}) as writer:
        writer.add(even, rows, np.ones((4, 3)), ["w", "x", "y", "z"])
        writer.add(plain, rng.random((1, 2, WIDTH)), np.ones((2, 3)))
        writer.add(lost)
        tensors = {"class_caption": np.ones((2, 3)), "class_name": np.ones((2, 3))}
        made = store.open(writer.finish(tensors, {}))
    assert made.videos == (even, plain, lost)
    assert made.videos[0].frame_edges.tolist() == [0, 2, 5, 7, 10]
    np.testing.assert_allclose(made.videos[0].second_edges, [0, 0.4, 1, 1.4, 2])
    truth = evaluate.frame_truth(made, [0])
    assert truth.positive.tolist() == [0, 2, 1, 1] and truth.frames.tolist() == [2, 3, 2, 3]
    tfds.export(made, tmp_path / "export")
    again = tfds.open(tmp_path / "export", tmp_path)
    assert again.info["sha256"] == made.info["sha256"] and again.videos == made.videos
