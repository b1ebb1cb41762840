"""What is written to a store comes back, equal input gives equal bytes, bad files are refused."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from semvad_jax import store
from semvad_jax.files import BadInput, json_text, sha256
from semvad_jax.store import Video
from semvad_jax.store.format import FILES

CLASSES = ("Normal", "Fighting")
F, Q = 5, 3


def make(path: Path) -> Path:
    """Three videos: one of two crops, one that failed, one binned; the last snippets are short."""
    rng = np.random.default_rng(0)
    first = Video(
        "a", "test", ("Fighting",), 40, 25.0, 3, crops=2, intervals=(("Fighting", 8, 40),)
    )
    failed = Video("b", "train", ("Normal",), 0, 0.0, 0, error="not a video")
    binned = Video("c/ü", "train", ("Normal",), 150, 30.0, 4, binned_from=10)
    text = {"class_name": np.ones((2, 7), np.float32), "class_caption": np.ones((2, Q), np.float32)}
    with store.Writer(path, dataset="t", classes=CLASSES, producers={"vision": "none"}) as writer:
        writer.add(first, rng.normal(size=(2, 3, F)), rng.normal(size=(3, Q)), ["x", "", "ß"])
        writer.add(failed)
        writer.add(binned, rng.normal(size=(1, 4, F)), rng.normal(size=(4, Q)), None)
        return writer.finish(text, {"Fighting": [["hit", 1.5]]})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path / "store")


def reseal(path: Path) -> None:
    """Make the checksums agree with the files again, so that only the deeper checks can object."""
    info = json.loads((path / "store.json").read_bytes())
    info["sha256"] = {name: sha256(path / name) for name in FILES}
    (path / "store.json").write_bytes(json_text(info))


def edit_video(path: Path, index: int, **fields: object) -> None:
    lines = [json.loads(line) for line in (path / "videos.jsonl").read_text().splitlines()]
    lines[index] |= fields
    (path / "videos.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    reseal(path)


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        store.open(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_round_trip(path: Path):
    opened = store.open(path)
    rng = np.random.default_rng(0)
    visual, captions = rng.normal(size=(2, 3, F)), rng.normal(size=(3, Q))
    assert [v.video for v in opened.videos] == ["a", "b", "c/ü"]
    assert opened.videos[0].intervals == (("Fighting", 8, 40),)
    assert opened.videos[1].error == "not a video"
    assert (opened.feature_dim, opened.caption_dim, opened.classes) == (F, Q, CLASSES)
    assert opened.visual.shape == (10, F) and opened.visual.dtype == np.float16
    np.testing.assert_array_equal(opened.visual_rows(0, 1), visual[1].astype(np.float16))
    np.testing.assert_array_equal(opened.caption_rows(0), captions.astype(np.float16))
    assert opened.visual_rows(1).shape == (0, F)
    assert opened.visual_rows(2).shape == (4, F) and opened.caption_rows(2).shape == (4, Q)
    assert opened.texts(0) == ["x", "", "ß"] and opened.texts(2) == []
    assert opened.class_text["class_name"].shape == (2, 7)
    with pytest.raises(BadInput, match="no crop 1"):
        opened.visual_rows(2, 1)


def test_frame_edges_count_real_frames(path: Path):
    videos = store.open(path).videos
    assert videos[0].frame_edges.tolist() == [0, 16, 32, 40]
    assert videos[1].frame_edges.tolist() == [0]
    assert videos[2].frame_edges.tolist() == [0, 2 * 16, 5 * 16, 7 * 16, 150]


def test_equal_input_gives_equal_bytes(path: Path, tmp_path: Path):
    again = make(tmp_path / "again")
    assert sorted(p.name for p in again.iterdir()) == sorted((*FILES, "store.json"))
    for name in (*FILES, "store.json"):
        assert (path / name).read_bytes() == (again / name).read_bytes(), name


def test_an_earlier_store_is_replaced_only_by_a_finished_one(path: Path):
    before = (path / "store.json").read_bytes()
    video = Video("a", "train", ("Normal",), 16, 25.0, 1)
    with pytest.raises(KeyboardInterrupt):
        with store.Writer(path, dataset="t", classes=CLASSES, producers={}) as writer:
            writer.add(video, np.zeros((1, 1, F)), np.zeros((1, Q)))
            raise KeyboardInterrupt
    assert (path / "store.json").read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with store.Writer(path, dataset="t", classes=CLASSES, producers={}) as writer:
        writer.add(video, np.zeros((1, 1, F)), np.zeros((1, Q)))
        writer.finish({"class_caption": np.ones((2, Q)), "class_name": np.ones((2, 2))}, {})
    assert len(store.open(path).videos) == 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_whoever_may_read_one_file_may_read_all(path: Path):
    assert len({file.stat().st_mode for file in path.iterdir()}) == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="something else"):
        store.Writer(tmp_path, dataset="t", classes=CLASSES, producers={})
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.store._GrowingArray, "append", full)
    with pytest.raises(BadInput, match="disk of .* is full"):
        make(tmp_path / "store")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_missing_or_changed_files_are_named(path: Path, name: str):
    content = (path / name).read_bytes()
    (path / name).write_bytes(content + b" ")
    assert name in refusal(path) and "checksum" in refusal(path)
    (path / name).unlink()
    assert f"{name} is missing" in refusal(path)


def test_other_schema_or_no_store(path: Path, tmp_path: Path):
    assert "not a feature store" in refusal(tmp_path / "nowhere")
    info = json.loads((path / "store.json").read_bytes())
    (path / "store.json").write_bytes(json_text(info | {"schema": 99}))
    assert "schema 99" in refusal(path)
    del info["classes"]
    (path / "store.json").write_bytes(json_text(info))
    assert "missing required field `classes`" in refusal(path)
    (path / "store.json").write_text("[]")
    assert "does not describe" in refusal(path)


def test_numbers_that_are_not_finite_name_the_video(path: Path):
    array = np.load(path / "visual.npy")
    array[7, 2] = np.nan
    np.save(path / "visual.npy", array)
    reseal(path)
    assert "visual.npy, row 7 (c/ü)" in refusal(path)


def test_arrays_of_objects_or_of_another_shape(path: Path):
    rows = np.load(path / "caption_embedding.npy")
    np.save(path / "caption_embedding.npy", rows[:-1])
    reseal(path)
    assert "caption_embedding.npy is float16 [6, 3]" in refusal(path)
    np.save(path / "caption_embedding.npy", np.array([{}], object), allow_pickle=True)
    reseal(path)
    assert "not an array of plain numbers" in refusal(path)


@pytest.mark.parametrize(
    ("index", "fields", "words"),
    [
        (0, {"labels": ["Fihgting"]}, "a has label 'Fihgting'"),
        (0, {"intervals": [["Arson", 1, 2]]}, "a has label 'Arson'"),
        (0, {"intervals": [["Fighting", 8, 41]]}, "outside its 40 frames"),
        (0, {"split": "val"}, "a has split 'val'"),
        (0, {"frames": 64}, "64 frames in snippets of 16 make 4"),
        (0, {"crops": 0}, "a has no frames, no crops"),
        (1, {"snippets": 2}, "b has an error and 2 snippets"),
        (1, {"video": "a"}, "a is there twice"),
        (2, {"intervals": [["Normal", 0, 1]]}, "c/ü is a train video with intervals"),
        (2, {"labels": []}, "c/ü has no label"),
        (2, {"binned_from": 9}, "c/ü has 9 snippets"),
        (2, {"colour": "red"}, "line 3 does not describe a video"),
    ],
)
def test_videos_that_do_not_add_up(path: Path, index: int, fields: dict, words: str):
    edit_video(path, index, **fields)
    assert words in refusal(path)


def test_class_text_that_does_not_fit(path: Path):
    from safetensors.numpy import save_file

    target = path / "class_text.safetensors"
    save_file({"class_caption": np.ones((2, Q + 1)), "class_name": np.ones((2, 2))}, target)
    reseal(path)
    assert "class_caption has shape [2, 4], not [2, 3]" in refusal(path)
    save_file({"class_caption": np.ones((2, Q)), "class_name": np.full((2, 2), np.inf)}, target)
    reseal(path)
    assert "class_name holds a number that is not finite" in refusal(path)


@pytest.mark.parametrize(
    ("visual", "captions", "texts", "words"),
    [
        (np.zeros((1, 2, F)), np.zeros((1, Q)), None, "has shape"),
        (None, np.zeros((1, Q)), None, "has shape None"),
        (np.full((1, 1, F), 1e6), np.zeros((1, Q)), None, "not finite"),
        (np.zeros((1, 1, F + 1)), np.zeros((1, Q)), None, "another width"),
        (np.zeros((1, 1, F)), np.zeros((1, Q)), ["one", "two"], "2 captions for 1 snippets"),
    ],
)
def test_entries_that_break_the_format(tmp_path: Path, visual, captions, texts, words: str):
    good, bad = (Video(name, "train", ("Normal",), 9, 25.0, 1) for name in "ab")
    with pytest.raises(BadInput, match=words):
        with store.Writer(tmp_path / "s", dataset="t", classes=CLASSES, producers={}) as writer:
            writer.add(good, np.zeros((1, 1, F)), np.zeros((1, Q)))
            writer.add(bad, visual, captions, texts)
    assert not any(tmp_path.iterdir())
