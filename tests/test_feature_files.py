"""Features on file in every layout; rows of equal parts; captions of another pace."""

import json
from pathlib import Path

import numpy as np
import pytest

from featurize import run
from featurize.caption_files import FileCaptions
from featurize.feature_files import FeatureFiles
from featurize.pack import _in_the_middle
from featurize.sources import Entry, UnreadableVideo
from semvad_jax import config, data, evaluate, store
from semvad_jax.files import BadInput
from semvad_jax.store import tfds

XD = "v=2lXh2n0aPyw__#1_label_A"
FRAMES = {"Fight_1": 700, "Calm.2_x264": 641, XD: 333, "Fight_t": 500, "Calm_t": 1000}
ROWS, WIDTH = 32, 12
rng = np.random.default_rng(0)
FEATURES = {name: rng.random((ROWS, WIDTH)).astype(np.float16) for name in FRAMES}


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def entries(**changes: int) -> list[Entry]:
    frames = FRAMES | changes
    return [Entry(n, "test", ("Normal",), f, 30.0, Path("none")) for n, f in frames.items()]


def write_list(folder: Path, captions: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["video,split,label,frames,anomaly_intervals"]
    for name, frames in FRAMES.items():
        label = "Fighting" if name.startswith("Fight") else "Normal"
        split = "test" if name.endswith("_t") else "train"
        lines.append(f"{name},{split},{label},{frames},{'90-222' if name == 'Fight_t' else ''}")
    (folder / "videos.csv").write_text("\n".join(lines))
    texts = {f"{name}.mp4": [f"{name} part {i}" for i in range(16)] for name in FRAMES}
    (folder / "captions.jsonl").write_text(
        "".join(json.dumps({name: list_}) + "\n" for name, list_ in texts.items())
    )
    return folder


def command(folder: Path, out: Path, *more: str, captions: str = "captions.jsonl") -> list[str]:
    made = ["--vision", f"npy:{folder / 'features'}", "--captioner", f"file:{folder / captions}"]
    return ["--dataset", "folder", "--videos", str(folder), *made, "--text", "minilm-l6"] + [
        "--out",
        str(out),
        *more,
    ]


def said(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


def write_text(path: Path, rows: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(" ".join(repr(float(x)) for x in row) + "\n" for row in rows))


LAYOUTS = {
    "npy": lambda to, name, x: save(to / f"{name}.npy", x),
    "float64": lambda to, name, x: save(to / f"a/{name}.npy", x.astype(np.float64)),
    "fortran": lambda to, name, x: save(
        to / f"{name}.npy", np.asfortranarray(x.astype(np.float32))
    ),
    "big-endian": lambda to, name, x: save(to / f"{name}.npy", x.astype(">f4")),
    "one stacked crop": lambda to, name, x: save(to / f"{name}.npy", x[:, None]),
    "one crop first": lambda to, name, x: save(to / f"{name}.npy", x[None]),
    "crop suffix": lambda to, name, x: save(to / f"{name}__5.npy", x),
    "i3d": lambda to, name, x: save(to / f"{name}_i3d.npy", x),
    "c3d": lambda to, name, x: save(to / f"{name}_c3d.npy", x),
    "ending": lambda to, name, x: save(to / f"{name}.mp4.npy", x),
    "txt": lambda to, name, x: write_text(to / f"{name}.txt", x),
    "c3d txt": lambda to, name, x: write_text(to / f"b/{name}_c3d.txt", x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_set_of_features_in_any_layout(tmp_path, layout):
    for name, rows in FEATURES.items():
        LAYOUTS[layout](tmp_path, name, rows)
    files = FeatureFiles(tmp_path, entries(), True, None)
    for name, rows in FEATURES.items():
        found = files.rows(name)
        assert found.dtype == np.float16 and files.snippets(name) == ROWS
        np.testing.assert_array_equal(found, rows[None])


@pytest.mark.parametrize("layout", ["n,crops,F", "crops,n,F", "apart"])
def test_ten_crops(tmp_path, layout):
    crops = {name: rng.random((10, ROWS + k, WIDTH)) for k, name in enumerate(FRAMES)}
    for name, rows in crops.items():
        if layout == "apart":
            for k, crop in enumerate(rows):
                save(tmp_path / f"{name}__{k}.npy", crop)
        else:
            save(tmp_path / f"{name}.npy", rows if layout[0] == "c" else rows.swapaxes(0, 1))
    files = FeatureFiles(tmp_path, entries(), True, None)
    assert files.layout == (None if layout == "apart" else layout)
    for name, rows in crops.items():
        np.testing.assert_array_equal(files.rows(name), rows.astype(np.float16))
        assert files.snippets(name) == rows.shape[1]


def test_crops_that_do_not_tell_are_asked_for(tmp_path):
    for name in FRAMES:
        save(tmp_path / f"{name}.npy", rng.random((5, 10, WIDTH)))
    with pytest.raises(BadInput, match="does not tell crops from rows; give --layout n,crops,F or"):
        FeatureFiles(tmp_path, entries(), True, None)
    for layout, n in (("n,crops,F", 5), ("crops,n,F", 10)):
        files = FeatureFiles(tmp_path, entries(), True, layout)
        assert files.rows("Fight_1").shape == (15 - n, n, WIDTH)
    save(tmp_path / "Fight_1.npy", rng.random((5, 7, WIDTH)))
    with pytest.raises(BadInput, match="no one number of crops under --layout n,crops,F"):
        FeatureFiles(tmp_path, entries(), True, "n,crops,F")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> store.Store:
    folder = write_list(tmp_path_factory.mktemp("even"))
    for name, rows in FEATURES.items():
        save(folder / f"features/{name}.npy", rows)
    assert run.main(command(folder, folder / "store", "--rows", "even")) == 0
    return store.open(folder / "store")


def test_equal_parts_in_the_store(made):
    lines = [json.loads(line) for line in (made.path / "videos.jsonl").read_text().splitlines()]
    for line, video, frames in zip(lines, made.videos, FRAMES.values(), strict=True):
        borders = [i * frames // ROWS for i in range(ROWS + 1)]
        assert line["edges"] == borders and "snippet_frames" not in line
        assert video.frame_edges.tolist() == borders
        np.testing.assert_allclose(video.second_edges, np.array(borders) / video.fps)
    fight = [v.video for v in made.videos].index("Fight_t")
    truth = evaluate.frame_truth(made, [fight])
    borders = [i * 500 // ROWS for i in range(ROWS + 1)]
    inside = [
        sum(90 <= frame < 222 for frame in range(a, b))
        for a, b in zip(borders, borders[1:], strict=False)
    ]
    assert truth.positive.tolist() == inside and truth.frames.sum() == 500
    np.testing.assert_array_equal(made.visual_rows(fight), FEATURES["Fight_t"])
    assert made.info["producers"]["visual"]["snippets"] == "equal parts of the video"


def test_captions_of_another_pace_are_those_of_the_middle_frame(made):
    for i, (name, frames) in enumerate(FRAMES.items()):
        span = -(-frames // 16)
        for row, text in enumerate(made.texts(i)):
            middle = (row * frames // ROWS + (row + 1) * frames // ROWS) // 2
            assert text == f"{name} part {middle // span}"


def test_an_export_keeps_the_edges(made, tmp_path):
    tfds.export(made, tmp_path / "export")
    again = tfds.open(tmp_path / "export", tmp_path)
    assert again.info["sha256"] == made.info["sha256"] and again.videos == made.videos


@pytest.mark.parametrize("change", ["[0, 3]", "descending", "both", "past the end"])
def test_edges_that_do_not_fit_are_refused(made, change):
    line = json.loads((made.path / "videos.jsonl").read_text().splitlines()[0])
    if change == "both":
        line["snippet_frames"] = 16
    elif change == "[0, 3]":
        line["edges"] = [0, 3]
    elif change == "descending":
        line["edges"][2] = line["edges"][1]
    else:
        line["edges"][-1] += 1
    path = made.path.parent / "changed.jsonl"
    path.write_text(json.dumps(line))
    with pytest.raises(BadInput, match="Fight_1 has edges"):
        store.store.read_videos(path, made.classes)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_rows_of_16_frames_may_be_one_off(tmp_path, extra):
    needed = {name: -(-frames // 16) for name, frames in FRAMES.items()}
    rows = {name: rng.random((n + extra, WIDTH)).astype(np.float16) for name, n in needed.items()}
    for name, array in rows.items():
        save(tmp_path / f"{name}.npy", array)
    files = FeatureFiles(tmp_path, entries(), False, None)
    for entry in entries():
        found, borders, note = files.fitted(entry)
        n = needed[entry.video]
        assert borders.tolist() == [*range(0, entry.frames, 16), entry.frames]
        np.testing.assert_array_equal(
            found[0], rows[entry.video][np.minimum(range(n), n + extra - 1)]
        )
        assert (note is None) == (extra == 0)
    with pytest.raises(BadInput, match="Fight_1 has .* but 900 frames make 57 snippets"):
        files.fitted(entries(Fight_1=900)[0])
    with pytest.raises(BadInput, match="Fight_1 has .* rows of features, but 20 frames"):
        FeatureFiles(tmp_path, entries(), True, None).fitted(entries(Fight_1=20)[0])


def damage(folder: Path, name: str) -> None:
    path = folder / "Fight_1.npy"
    match name:
        case "objects":
            np.save(path, np.array([{}], dtype=object), allow_pickle=True)
        case "whole numbers":
            save(path, np.ones((ROWS, WIDTH), np.int64))
        case "cut short":
            path.write_bytes(path.read_bytes()[:-40])
        case "31 lines":
            path.unlink()
            write_text(folder / "Fight_1.txt", FEATURES["Fight_1"][:-1])
        case "a line cut short":
            path.unlink()
            write_text(folder / "Fight_1.txt", FEATURES["Fight_1"])
            text = (folder / "Fight_1.txt").read_text()
            (folder / "Fight_1.txt").write_text(text[: text.rindex(" ")])
        case "another width":
            save(path, rng.random((ROWS, WIDTH + 1)))
        case "one axis":
            save(path, rng.random(WIDTH))
        case "a crop too few":
            for name in FRAMES:
                (folder / f"{name}.npy").unlink()
                for k in range(5):
                    save(folder / f"{name}__{k}.npy", FEATURES[name])
            (folder / "Fight_1__3.npy").unlink()
        case "not finite":
            save(path, np.full((ROWS, WIDTH), np.inf))
        case "a pointer":
            path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        case "two files":
            save(folder / "Fight_1_i3d.npy", FEATURES["Fight_1"])


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("objects", "Fight_1.npy holds Python objects"),
        ("whole numbers", "Fight_1.npy holds int64, not floating-point numbers"),
        ("cut short", "Fight_1.npy is damaged"),
        ("31 lines", "Fight_1.txt has 31 lines, not 32"),
        ("a line cut short", "Fight_1.txt has no lines of equally many numbers"),
        ("another width", "Fight_1.npy has rows of 13 numbers, and 4 of 5 files have 12"),
        ("one axis", "Fight_1.npy has shape [12], not [n, F]"),
        ("a crop too few", "Fight_1 has no features of crop 3"),
        ("not finite", "Fight_1.npy holds a number that is not finite"),
        ("a pointer", "Fight_1.npy is a Git LFS pointer"),
        ("two files", "Fight_1.npy and Fight_1_i3d.npy; keep one of the two"),
    ],
)
def test_what_is_wrong_with_a_file_ends_the_call_by_its_name(tmp_path, capsys, kind, sentence):
    folder = write_list(tmp_path)
    for name, rows in FEATURES.items():
        save(folder / f"features/{name}.npy", rows)
    damage(folder / "features", kind)
    assert run.main(command(folder, tmp_path / "store", "--rows", "even")) == 2
    told = said(capsys)
    assert sentence in told and "Traceback" not in told
    assert not (tmp_path / "store").exists()


def test_a_video_without_features_is_told_and_left_out(tmp_path, capsys):
    folder = write_list(tmp_path)
    for name, rows in list(FEATURES.items())[1:]:
        save(folder / f"features/{name}.npy", rows)
    save(folder / "features/of no listed video.npy", np.ones(3))
    assert run.main(command(folder, tmp_path / "store", "--rows", "even")) == 0
    assert "Fight_1: Fight_1.npy is missing" in said(capsys)
    assert store.open(tmp_path / "store").videos[0].error == "Fight_1.npy is missing"


def test_what_does_not_go_together(tmp_path, capsys):
    folder = write_list(tmp_path)
    (folder / "features").mkdir()
    assert run.main(command(folder, tmp_path / "store")) == 2
    assert "has features of none of the 5 listed videos" in said(capsys)
    for flags in (["--rows", "even"], ["--layout", "n,crops,F"]):
        asked = ["--dataset", "ucf", "--vision", "none", "--captioner", "tags", *flags]
        assert run.main(asked) == 2
        assert "--layout and --rows are for --vision npy:DIR" in said(capsys)


def spans(*pairs: tuple[int, int]) -> dict[str, str]:
    return {f"{first}, {last}": f"from {first}" for first, last in pairs}


def write_spans(path: Path, **videos: dict[str, str]) -> Path:
    content = {"vid_captions": {f"{name}.mp4": texts for name, texts in videos.items()}}
    path.write_text(json.dumps(content, indent=1))
    return path


def test_captions_with_spans_of_frames(tmp_path):
    path = write_spans(tmp_path / "c.json", a=spans((0, 577), (577, 580), (580, 884), (884, 1411)))
    video = Entry("a", "test", ("Normal",), 1412, 30.0, Path("none"))
    captions = FileCaptions(path, None, [video])
    assert captions(video) == ["from 0", "from 577", "from 580", "from 884"]
    assert captions.edges(video).tolist() == [0, 577, 580, 884, 1412]
    assert captions.snippet_frames(video) == 16
    rows = np.arange(0, 1413, 353)
    assert _in_the_middle(rows, captions.edges(video), 4).tolist() == [0, 0, 2, 3]


@pytest.mark.parametrize(
    "wrong",
    [
        spans((0, 100), (200, 999)),
        spans((0, 500), (300, 999)),
        spans((100, 999)),
        spans((0, 700)),
        spans((0, 500), (500, 5000)),
        {},
    ],
)
def test_spans_that_do_not_follow_one_another_are_refused(tmp_path, wrong):
    video = Entry("a", "test", ("Normal",), 1000, 30.0, Path("none"))
    with pytest.raises(BadInput, match="the spans of a do not follow one another"):
        FileCaptions(write_spans(tmp_path / "c.json", a=wrong), None, [video])


def test_spans_that_are_none_are_refused(tmp_path):
    video = Entry("a", "test", ("Normal",), 1000, 30.0, Path("none"))
    with pytest.raises(BadInput, match="a.mp4 has a span 'x'; give FIRST, LAST"):
        FileCaptions(write_spans(tmp_path / "c.json", a={"x": "text"}), None, [video])
    (tmp_path / "d.json").write_text('{"vid_captions": {"a.mp4": ["text"]}}')
    with pytest.raises(BadInput, match="does not hold"):
        FileCaptions(tmp_path / "d.json", None, [video])


def test_a_file_may_lack_a_split_and_no_video_of_another(tmp_path):
    both = [
        Entry(name, split, ("Normal",), 1000, 30.0, Path("none"))
        for name, split in (("a", "train"), ("b", "test"))
    ]
    path = write_spans(tmp_path / "c.json", b=spans((0, 999)))
    captions = FileCaptions(path, None, both)
    assert captions(both[1]) == ["from 0"]
    with pytest.raises(UnreadableVideo, match="c.json has captions of no train video"):
        captions(both[0])
    third = Entry("c", "test", ("Normal",), 1000, 30.0, Path("none"))
    with pytest.raises(BadInput, match="has no captions of c; every video of a split"):
        FileCaptions(path, None, [*both, third])


def test_val_videos_give_no_words_and_are_the_runs_val(tmp_path):
    folder = tmp_path
    names = [f"{kind}_{i}" for i in range(10) for kind in ("Calm", "Fight")]
    lines = ["video,split,label,frames,anomaly_intervals"]
    for name in names:
        lines.append(f"{name},train,{'Normal' if name[0] == 'C' else 'Fighting'},64,")
        save(folder / f"features/{name}.npy", rng.random((4, WIDTH)))
    (folder / "videos.csv").write_text("\n".join(lines))
    said = {name: [f"common word{name.replace('_', '')}"] * 16 for name in names}
    (folder / "captions.jsonl").write_text(
        "".join(json.dumps({name: list_}) + "\n" for name, list_ in said.items())
    )
    asked = ["--top-percent", "100", "--val-fraction", "0.3"]
    assert run.main(command(folder, folder / "store", "--rows", "even", *asked)) == 0
    features = store.open(folder / "store")
    made = features.info["producers"]["class_captions"]
    assert made["val_fraction"] == 0.3 and len(made["val"]) == 6
    words = json.loads((features.path / "class_words.json").read_text())
    heard = {row["word"] for rows in words.values() for row in rows}
    assert heard == {"common"} | {
        f"word{name.replace('_', '').lower()}" for name in names if name not in made["val"]
    }
    cfg = config.resolve(config.load("demo", [f"data.store={features.path}"]), features)
    train, val, _ = data.split(cfg, features)
    assert cfg.data.val_fraction == 0.3
    assert sorted(features.videos[i].video for i in val) == made["val"] and len(train) == 14
