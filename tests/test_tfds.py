"""A store goes to TFDS and comes back to the byte, without TensorFlow and with flat memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets

from featurize import run
from semvad_jax import store
from semvad_jax.files import BadInput, json_text
from semvad_jax.store import Store, Video, tfds
from tests.support.stores import make_store

CLASSES = ("Normal", "Überfall", "Riot")
F, Q = 5, 3
ODD = "A.Beautiful.Mind__#00-25-20_label_A"
INTERVALS = (("Überfall", 8, 40), ("Riot", 0, 1))
VIDEOS = (  # train and test in turn, with everything that a line of videos.jsonl can say
    Video(ODD, "train", ("Normal",), 40, 29.97, 3, crops=2),
    Video("c/ü 真", "test", CLASSES[1:], 40, 30000 / 1001, 3, crops=2, intervals=INTERVALS),
    Video("lost", "train", ("Riot",), 0, 0.0, 0, error="keine Datei: 'ü'"),
    Video("silent", "test", ("Normal",), 16, 25.0, 1),
    Video("binned", "train", ("Überfall", "Riot"), 150, 25, 4, binned_from=10),
    Video("coarse", "train", ("Normal",), 100, 25.0, 2, snippet_frames=60),
    Video("untold", "test", ("Riot",), 0, 0.0, 0, error=""),
)


def make(path: Path, *, captions: bool = True) -> Store:
    rng = np.random.default_rng(0)
    with store.Writer(path, dataset="t", classes=CLASSES, producers={"a": ["ü", 1.5]}) as writer:
        for video in VIDEOS:
            if video.error is not None:
                writer.add(video)
                continue
            texts = ["", 'two "words"\n', "ß\0", "x"][: video.snippets]
            writer.add(
                video,
                rng.normal(size=(video.crops, video.snippets, F)),
                rng.normal(size=(video.snippets, Q)),
                texts if captions and video.video != "silent" else None,
            )
        shapes = {"class_caption": (3, Q), "class_name": (3, 7), "tower": (2, 2)}
        tensors = {k: rng.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}
        return store.open(writer.finish(tensors, {"Riot": [{"word": "schlägt", "score": 0.1}]}))


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return make(tmp_path / "store")


@pytest.fixture
def exported(source: Store, tmp_path: Path) -> Path:
    tfds.export(source, tmp_path / "exported")
    return tmp_path / "exported"


def files(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(path.iterdir())}


def records(path: Path) -> dict[str, list[dict]]:
    """What TFDS reads in each split."""
    sources = tensorflow_datasets.builder_from_directory(path).as_data_source()
    return {name: list(rows) for name, rows in sources.items()}


def refusal(directory: Path, features: Path) -> str:
    with pytest.raises(BadInput) as caught:
        tfds.open(directory, features)
    assert not features.exists() or not any(features.iterdir())
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- there and back


@pytest.mark.parametrize("captions", [True, False])
def test_round_trip(tmp_path: Path, captions: bool):
    source = make(tmp_path / "store", captions=captions)
    assert bool((source.path / "captions.jsonl").stat().st_size) == captions
    tfds.export(source, tmp_path / "exported")
    rebuilt = tfds.open(tmp_path / "exported", tmp_path / "features")
    assert rebuilt.info["sha256"] == source.info["sha256"]
    assert files(rebuilt.path) == files(source.path)
    assert rebuilt.videos == VIDEOS
    assert rebuilt.path.parent == tmp_path / "features"
    assert rebuilt.path.name[:5] == "tfds-" and int(rebuilt.path.name[5:], 16) < 16**12
    assert [p.name for p in (tmp_path / "features").iterdir()] == [rebuilt.path.name]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["exported", "features", "store"]


def test_round_trip_of_many_videos(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tfds, "SPLIT_BYTES", 3000)
    source = make_store(tmp_path / "store", crops=3, multi_label=True)
    tfds.export(source, tmp_path / "exported")
    assert len(records(tmp_path / "exported")) > 20
    rebuilt = tfds.open(tmp_path / "exported", tmp_path / "features")
    assert files(rebuilt.path) == files(source.path)


def test_records_are_what_tfds_users_read(source: Store, exported: Path):
    found = records(exported)
    assert {name: [row["place"] for row in rows] for name, rows in found.items()} == {
        "train_000": [0, 2, 4, 5],
        "test_000": [1, 3, 6],
    }
    row = found["test_000"][0]
    np.testing.assert_array_equal(row["visual"], source.visual[6:12])
    np.testing.assert_array_equal(row["caption_embedding"], source.caption_rows(1))
    assert row["visual"].dtype == np.float16 and row["visual"].shape == (6, F)
    assert row["video"].decode() == "c/ü 真" and float(row["fps"]) == 30000 / 1001
    assert [label.decode() for label in row["labels"]] == ["Überfall", "Riot"]
    assert row["intervals"]["start"] == [8, 0] and row["intervals"]["end"] == [40, 1]
    assert [text.decode() for text in row["captions"]] == source.texts(1)
    assert row["error"] is None and found["train_000"][1]["visual"].shape == (0, F)
    for name in tfds.SIDE_FILES:
        assert (exported / name).read_bytes() == (source.path / name).read_bytes()
    info = json.loads((exported / "dataset_info.json").read_text())
    assert info["fileFormat"] == "array_record" and info["disableShuffling"]


@pytest.mark.parametrize(
    ("size", "train", "test"),
    [
        (10**6, [[0, 2, 4, 5]], [[1, 3, 6]]),
        (130, [[0, 2], [4, 5]], [[1, 3, 6]]),
        (20, [[0], [2], [4], [5]], [[1], [3, 6]]),  # a larger video has a split of its own
    ],
)
def test_splits_are_cut_by_size(source: Store, tmp_path: Path, monkeypatch, size, train, test):
    monkeypatch.setattr(tfds, "SPLIT_BYTES", size)
    tfds.export(source, tmp_path / "e")
    places = {
        name: [row["place"] for row in rows] for name, rows in records(tmp_path / "e").items()
    }
    assert places == {
        **{f"train_{i:03d}": split for i, split in enumerate(train)},
        **{f"test_{i:03d}": split for i, split in enumerate(test)},
    }
    assert files(tfds.open(tmp_path / "e", tmp_path / "f").path) == files(source.path)


def test_equal_stores_give_equal_bytes(source: Store, exported: Path, tmp_path: Path):
    tfds.export(source, tmp_path / "again")
    assert files(tmp_path / "again") == files(exported)


def test_no_tensorflow_jax_or_torch(source: Store, tmp_path: Path):
    code = (
        "import sys; from pathlib import Path\n"
        "from semvad_jax import store; from semvad_jax.store import tfds\n"
        "tfds.export(store.open(sys.argv[1]), Path('e')); tfds.open('e')\n"
        "print([name for name in ('tensorflow', 'jax', 'torch') if name in sys.modules])"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(source.path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    (rebuilt,) = (tmp_path / "features").iterdir()
    assert files(rebuilt) == files(source.path)


def test_a_rebuilt_store_is_used_again(exported: Path, tmp_path: Path, monkeypatch):
    first = tfds.open(exported, tmp_path / "f")
    with monkeypatch.context() as patch:
        patch.setattr(tfds, "Writer", None)  # nothing is written
        assert tfds.open(exported, tmp_path / "f").path == first.path
    before = files(first.path)
    with (first.path / "visual.npy").open("r+b") as file:
        file.truncate(200)
    assert files(tfds.open(exported, tmp_path / "f").path) == before


# ---- folders that are not as they should be


def test_an_earlier_export_is_replaced_by_a_finished_one(exported: Path, tmp_path: Path):
    tfds.export(make_store(tmp_path / "other"), exported)
    assert len(tfds.open(exported, tmp_path / "f").videos) == 32
    assert sorted(p.name for p in tmp_path.iterdir()) == ["exported", "f", "other", "store"]


def test_a_folder_of_something_else_is_left_alone(source: Store, tmp_path: Path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    for path in (tmp_path / "notes", tmp_path / "notes/mine.txt", source.path):
        with pytest.raises(BadInput, match="holds something else than an export"):
            tfds.export(source, path)
    assert (tmp_path / "notes/mine.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "store"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("write() failed: No space left on device; writing x"), BadInput),
        (OSError(28, "No space left on device"), BadInput),
        (RuntimeError("something else"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_stopped_export_leaves_the_earlier_one(
    source: Store, exported: Path, tmp_path: Path, monkeypatch, error, told
):
    def stop(*_):
        raise error

    before = files(exported)
    monkeypatch.setattr(tensorflow_datasets.core.SequentialWriter, "close_splits", stop)
    with pytest.raises(told) as caught:
        tfds.export(source, exported)
    assert told is not BadInput or f"disk of {exported} is full" in str(caught.value)
    assert files(exported) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["exported", "store"]


def test_no_export_is_refused(source: Store, exported: Path, tmp_path: Path):
    assert "is not an export" in refusal(tmp_path / "nowhere", tmp_path / "f")
    assert "no dataset_info.json" in refusal(source.path, tmp_path / "f")
    for name in tfds.SIDE_FILES:
        kept = (exported / name).read_bytes()
        (exported / name).unlink()
        assert f"no {name}" in refusal(exported, tmp_path / "f")
        (exported / name).write_bytes(kept)
    for name in tfds.CLASS_FILES:
        kept = (exported / name).read_bytes()
        (exported / name).write_bytes(kept + b" ")
        assert f"{name} differs from its checksum" in refusal(exported, tmp_path / "f")
        (exported / name).write_bytes(kept)
    tfds.open(exported, tmp_path / "f")


@pytest.mark.parametrize("damage", ["changed", "cut", "emptied", "removed"])
def test_damaged_records_are_refused(exported: Path, tmp_path: Path, damage: str):
    (file,) = exported.glob("*train_000*")
    content = file.read_bytes()
    if damage == "removed":
        file.unlink()
    elif damage == "changed":
        middle = int(np.median(np.flatnonzero(np.frombuffer(content, np.uint8))))
        file.write_bytes(content[:middle] + b"?!" + content[middle + 2 :])
    else:
        file.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    message = refusal(exported, tmp_path / "f")
    assert f"records in {exported} cannot be read" in message and "export the store" in message


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "store.json"])
def test_damaged_descriptions_are_refused(exported: Path, tmp_path: Path, name: str):
    (exported / name).write_text("{")
    assert str(exported) in refusal(exported, tmp_path / "f")


def test_another_content_than_the_checksums_say(exported: Path, tmp_path: Path):
    info = json.loads((exported / "store.json").read_text())
    info["sha256"]["captions.jsonl"] = 64 * "0"
    (exported / "store.json").write_bytes(json_text(info))
    assert "gives another captions.jsonl than it was made from" in refusal(exported, tmp_path / "f")


def test_a_folder_in_the_way_of_the_rebuilt_store(exported: Path, tmp_path: Path):
    rebuilt = tfds.open(exported, tmp_path / "f").path
    shutil.rmtree(rebuilt)
    rebuilt.mkdir()
    (rebuilt / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="something else than a feature store"):
        tfds.open(exported, tmp_path / "f")
    assert files(rebuilt) == {"notes.txt": b"mine"}


# ---- featurize/run.py


def test_featurize_exports_a_store_that_stands(source: Store, tmp_path: Path, capsys):
    command = ["--dataset", "ucf", "--out", str(source.path), "--stages", "export"]
    assert run.main([*command, "--export-tfds", str(tmp_path / "e")]) == 0
    assert capsys.readouterr().out == f"export -> {tmp_path / 'e'}\n"
    assert files(tfds.open(tmp_path / "e", tmp_path / "f").path) == files(source.path)


def test_featurize_exports_what_its_stages_made(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(run, "_work", lambda request: make(request.out))
    command = ["--dataset", "demo", "--out", str(tmp_path / "s"), "--stages", "text,pack"]
    assert run.main(command) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert run.main([*command, "--export-tfds", str(tmp_path / "e")]) == 0
    assert files(tfds.open(tmp_path / "e", tmp_path / "f").path) == files(tmp_path / "s")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--stages", "export"], "--stages export needs --export-tfds DIR"),
        (["--stages", "pack,export"], "--stages export needs --export-tfds DIR"),
        (["--stages", "export", "--export-tfds", "{tmp}/e"], "s is not a feature store"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_2(tmp_path: Path, capsys, flags, words: str):
    flags = [flag.format(tmp=tmp_path) for flag in flags]
    assert run.main(["--dataset", "demo", "--out", str(tmp_path / "s"), *flags]) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not any(tmp_path.iterdir())


# ---- memory

ROUND_TRIP = """
import sys, threading
from semvad_jax import store
from semvad_jax.store import tfds

peak, done = 0, threading.Event()  # KiB of the program's own, without the mapped files' pages

def watch():
    global peak
    while not done.wait(0.005):
        status = open("/proc/self/status").read()
        peak = max(peak, int(status.split("RssAnon:")[1].split()[0]))

thread = threading.Thread(target=watch)
thread.start()
try:
    source = store.open("store")
    tfds.export(source, "exported")
    same = tfds.open("exported").info["sha256"] == source.info["sha256"]
finally:
    done.set()
    thread.join()
print(same, peak)
"""


def peak_mib(folder: Path, videos: int) -> float:
    """Most anonymous memory in the round trip of a store of 2.7 MB videos of ten crops."""
    rng = np.random.default_rng(0)
    visual, captions = (rng.normal(size=s).astype(np.float16) for s in ((10, 256, 512), (256, 64)))
    text = {"class_caption": np.ones((1, 64), np.float32), "class_name": np.ones((1, 4))}
    folder.mkdir()
    try:
        with store.Writer(folder / "store", dataset="t", classes=("N",), producers={}) as writer:
            for i in range(videos):
                split = "test" if i % 3 == 0 else "train"
                video = Video(f"v{i}", split, ("N",), 4096, 25.0, 256, crops=10)
                writer.add(video, np.roll(visual, i, axis=0), captions, ["a caption"] * 256)
            writer.finish(text, {"N": []})
        command = [sys.executable, "-c", ROUND_TRIP]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        same, peak = done.stdout.split()
        assert same == "True"
        return int(peak) / 1024
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_stays_flat(tmp_path: Path):
    small, large = peak_mib(tmp_path / "small", 4), peak_mib(tmp_path / "large", 180)
    print(f"small {small:.0f} MiB, large (0.5 GiB) {large:.0f} MiB")
    assert large < small + 128
