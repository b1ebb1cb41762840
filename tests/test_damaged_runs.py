"""RUN directories that are damaged, somebody else's, or written by two at once; runs on stores
whose truth is partly unknown or that have no test videos.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import main
from semvad_jax import checkpoint, store
from semvad_jax.detection import detect as detection
from semvad_jax.detection.thresholds import Asked
from semvad_jax.files import BadInput
from semvad_jax.report.summary import read_summary
from tests.support.command_line import refused, words
from tests.support.stores import make_store
from tests.support.watched import HOOK

ROOT = Path(__file__).parents[1]
CONFIG = """
from semvad_jax.config import *
config = Config(
    data=DataConfig(dataset="synthetic", val_fraction=0.25),
    model=ModelConfig(dim=4, length=8, layers=1),
    train=TrainConfig(batch=8, epochs=1, lr=1e-3),
    eval=EvalConfig(every=0, crop=0),
)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("damaged")
    make_store(place / "store", train=32, test=8, lengths=(5, 8))
    (place / "tiny.py").write_text(CONFIG)
    main.main(command(place, place / "run"))
    return place


def command(place, out, *more, data="store"):
    argv = ["--config", place / "tiny.py", "--data", place / data, "--out", out, *more]
    return [str(word) for word in argv]


@pytest.fixture
def run(place, tmp_path):
    return shutil.copytree(place / "run", tmp_path / "run")


def opened(run):
    """All that the files of a run say, as --eval, --detect and the studies read them."""
    cfg, _, meta = checkpoint.read(run)
    origin = detection.origin(run, cfg, len(meta.weight_seeds), Asked())
    summary = read_summary(run / "summary.json")
    return cfg, meta, origin.threshold, summary, checkpoint.metrics_lines(run / "metrics.jsonl")


JSON_FILES = (
    "config.json",
    "metrics.jsonl",
    "summary.json",
    "checkpoint/meta.json",
    "checkpoint/thresholds.json",
    "checkpoint/checksums.json",
    "checkpoint/3/checksums.json",
)


def mutated(content, data):
    """Bytes of a file with something cut out, put in or changed."""
    place = data.draw(st.integers(0, len(content) - 1))
    length = data.draw(st.sampled_from([0, 1, 7, len(content)]))
    new = data.draw(
        st.sampled_from([b"", b"0", b"9", b"[", b"null", b'"..\\u0000"', b"\xff", b"1e999"])
    )
    return content[:place] + new + content[place + length :]


@pytest.fixture(scope="module")
def copies(place):
    """Copies to be damaged: with records of checksums, and as runs were before there were any."""
    old = shutil.copytree(place / "run", place / "old")
    for path in old.rglob("checksums.json"):
        path.unlink()
    return {True: shutil.copytree(place / "run", place / "recorded"), False: old}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(JSON_FILES), st.booleans(), st.data())
def test_changed_json_says_the_same_or_is_refused(copies, place, name, recorded, data):
    path = copies[recorded] / name
    if not path.exists():
        return
    before = path.read_bytes()
    try:
        path.write_bytes(mutated(before, data))
        found = opened(copies[recorded])
        if recorded and name != "checkpoint/checksums.json":
            assert found == opened(place / "run")
    except BadInput as error:
        assert str(copies[recorded]) in str(error) and "\n" not in str(error)
    finally:
        path.write_bytes(before)


def test_a_flipped_bit_of_a_checkpoint_is_named(place, run, capsys):
    chance = random.Random(0)
    files = [p for p in (run / "checkpoint").rglob("*") if p.is_file()]
    files = [p for p in files if p.stat().st_size and p.name != "checksums.json"]
    cfg, _, meta = checkpoint.read(run)
    for path in [*files, *chance.choices(files, k=10)]:
        before = path.read_bytes()
        bit = chance.randrange(8 * len(before))
        damaged = bytearray(before)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(BadInput) as told:
            opened(run)
            checkpoint.last_weights(run, cfg, meta)
        assert str(path) in str(told.value) and "checksum" in str(told.value)
        path.write_bytes(before)
    missing = next(p for p in files if p.parent.name == "d")
    missing.unlink()
    assert f"{missing} is missing" in refused(capsys, ["--restore", run, "--eval"])


def test_a_run_of_before_opens_and_says_once_that_it_has_no_checksums(copies, place, capsys):
    old = shutil.copytree(copies[False], place / "older")
    path = old / "checkpoint" / "meta.json"
    meta = json.loads(path.read_text())
    del meta["store_sha256"]
    path.write_text(json.dumps(meta))
    main.main(["--restore", str(old), "--eval"])
    told = capsys.readouterr().err
    assert told.count(f"{old} carries no checksums of its files") == 1
    assert told.count("carries no checksums of its store") == 1
    again = json.loads((old / "eval.json").read_text())["metrics"]
    assert again == json.loads((place / "run" / "summary.json").read_text())["metrics"]


@pytest.mark.parametrize("whole", [True, False])
def test_metrics_that_are_cut_in_their_middle_are_told(place, run, capsys, whole):
    path = run / "metrics.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:40] + content[60:])
    if not whole:
        (run / "checkpoint" / "3" / "checksums.json").unlink()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main.main(command(place, run, "--resume"))
    assert f"error: {path} is damaged" in capsys.readouterr().err


def test_a_checkpoint_without_its_settings_is_not_continued(place, run, capsys):
    (run / "config.json").unlink()
    told = refused(capsys, command(place, run))
    assert f"{run} already holds a run" in told and "--resume" in told and "--out" in told
    assert "no config.json" in refused(capsys, command(place, run, "--resume"))


def test_another_store_in_the_same_place_is_refused(place, tmp_path, capsys):
    run = shutil.copytree(place / "run", tmp_path / "run")
    folder = shutil.copytree(place / "store", tmp_path / "store")
    reseat(run, str(folder))
    main.main(["--restore", str(run), "--eval"])
    assert f"features, as {run} names them: {folder}" in words(capsys)
    other = make_store(tmp_path / "other", train=32, test=8, lengths=(5, 8), seed=1)
    shutil.rmtree(folder)
    shutil.copytree(other.path, folder)
    told = refused(capsys, ["--restore", run, "--eval"])
    assert "trained on other features" in told and "visual.npy" in told
    main.main(["--restore", str(run), "--eval", "--data", str(folder)])
    assert f"judged on {folder}, which {run} was not trained on" in words(capsys)


def reseat(run, address):
    """Another path of the store in a run's settings, as somebody else may write it."""
    path = run / "config.json"
    values = json.loads(path.read_text())
    values["data"]["store"] = address
    path.write_text(json.dumps(values))
    checkpoint.record(run, "config.json")


@pytest.mark.parametrize("address", ["", "tfds:x", "gs://bucket/x", "nothing\nhere\x1b[2J"])
def test_features_that_a_run_names_and_that_are_no_folder_are_refused(run, address, capsys):
    reseat(run, address)
    assert "no folder is there" in refused(capsys, ["--restore", run, "--eval"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data.feature_dim", None),
        ("data.classes", None),
        ("data.classes", 3),
        ("model.window", 0),
        ("model.dim", 10**30),
        ("model.dim", "DELETED"),
        ("eval.metric", ["auc"]),
        ("train.lr", 1e308 * 10),
    ],
)
def test_a_setting_that_cannot_be_is_refused_without_checksums(copies, field, value):
    path = copies[False] / "config.json"
    before = path.read_bytes()
    values, (section, name) = json.loads(before), field.split(".")
    values[section][name] = value
    if value == "DELETED":
        del values[section][name]
    path.write_text(json.dumps(values))
    try:
        with pytest.raises(BadInput, match="does not hold a run's settings"):
            opened(copies[False])
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", ["convert", "layers", "..os", "../semvad", "os", ""])
def test_a_run_names_a_model_and_nothing_else(run, name, capsys):
    path = run / "config.json"
    values = json.loads(path.read_text())
    values["model"]["name"] = name
    path.write_text(json.dumps(values))
    checkpoint.record(run, "config.json")
    assert f"unknown model {name!r}" in refused(capsys, ["--restore", run, "--eval"])


WATCHED = f"""{HOOK}
import main
sys.path.insert(0, sys.argv[2])  # as where a user starts Python beside the RUN
sys.addaudithook(hook)
for words in sys.argv[3:]:
    try:
        main.main(words.split("|"))
    except SystemExit as error:
        print("status", error.code)
print("seen:", seen)
"""


@pytest.mark.slow
def test_a_run_makes_nothing_happen_elsewhere(place, tmp_path):
    """RUNs that name programs, other people's stores and addresses, judged and detected with."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "hostile.py").write_text("DEFAULTS = {}\n")
    runs, calls = tmp_path / "runs", []
    changes = [
        {"model": {"name": str(elsewhere / "hostile")}},
        {"model": {"name": "hostile"}},
        {"data": {"store": f"tfds:{elsewhere}"}},
        {"data": {"store": "http://127.0.0.1:9/store"}},
        {},
    ]
    for number, change in enumerate(changes):
        run = shutil.copytree(place / "run", runs / str(number))
        settings = json.loads((run / "config.json").read_text())
        for section, fields in change.items():
            settings[section] |= fields
        (run / "config.json").write_text(json.dumps(settings))
        checkpoint.record(run, "config.json")
        calls.append(f"--restore|{run}|--eval")
        calls.append(f"--restore|{run}|--detect|{place / 'store'}|--out|{tmp_path / 'out'}")
    cache = os.environ["JAX_COMPILATION_CACHE_DIR"]
    allowed = os.pathsep.join([str(runs), str(tmp_path / "out"), str(tmp_path / ".out"), cache])
    script = [sys.executable, "-c", WATCHED, allowed, str(elsewhere), *calls]
    found = subprocess.run(script, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("status 2") == 6 and "seen: []" in found.stdout, found.stdout
    assert [p.name for p in elsewhere.iterdir()] == ["hostile.py"]


HOLD = """
import sys, time
from pathlib import Path
from semvad_jax.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_is_written_by_one_program_at_a_time(place, run, capsys):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, cwd=ROOT
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        for argv in (command(place, run, "--resume"), ["--restore", run, "--eval"]):
            told = refused(capsys, argv)
            assert f"{run} is being written by process {holder.pid} on " in told
        holder.send_signal(signal.SIGKILL)
    main.main(command(place, run, "--resume"))  # a dead process's lock is taken over
    assert not list(run.parent.glob(".*.lock"))


def test_a_place_that_orbax_takes_for_a_pattern_is_refused(place, tmp_path, capsys):
    told = refused(capsys, command(place, tmp_path / "[red]run"))
    assert "[red]run holds one of [ * ?" in told and not list(tmp_path.iterdir())


def test_seeds_given_twice_are_refused(place, tmp_path, capsys):
    told = refused(capsys, command(place, tmp_path / "x", "--seeds", "9,8,9"))
    assert "weight seed 9 with data seed 9 is there twice" in told


def test_anomalies_of_unknown_place_are_left_out_and_counted(place, run, tmp_path, capsys):
    unknown = without_truth(place / "store", tmp_path / "store", 1)
    others = [v for v in unknown.videos if v.video != "video_033"]
    fewer = store_of(unknown, tmp_path / "fewer", others)
    found = []
    for one in (unknown, fewer):
        main.main(["--restore", str(run), "--eval", "--data", str(one.path)])
        found.append(read_summary(run / "eval.json"))
        said = "judged on 7 of 8 test videos; it is not known where the anomalies are in video_033"
        assert words(capsys).count(said) == (one is unknown)
        assert found[-1].unjudged == (said if one is unknown else None)
    assert found[0].metrics == found[1].metrics
    none = without_truth(place / "store", tmp_path / "none", 4)
    told = refused(capsys, command(place, tmp_path / "x", data=none.path))
    assert "nothing can be judged" in told and "video_039" in told


def without_truth(path, out, count):
    """A store whose first anomalous test videos have no intervals."""
    known = store.open(path)
    anomalous = [v.video for v in known.videos if v.intervals][:count]
    videos = [replace(v, intervals=()) if v.video in anomalous else v for v in known.videos]
    return store_of(known, out, videos)


def store_of(known, out, videos):
    """Another store of some of a store's videos."""
    place = {v.video: i for i, v in enumerate(known.videos)}
    producers = known.info["producers"]
    with store.Writer(
        out, dataset=known.info["dataset"], classes=known.classes, producers=producers
    ) as writer:
        for video in videos:
            i = place[video.video]
            visual = known.visual_rows(i)[None]
            writer.add(video, visual, known.caption_rows(i), known.texts(i))
        writer.finish(known.class_text, {name: [] for name in known.classes})
    return store.open(out)


@pytest.mark.slow
@pytest.mark.parametrize("val", ["0", "0.25"])
def test_train_videos_alone_train_for_detection(place, tmp_path, capsys, val):
    known = store.open(place / "store")
    alone = store_of(known, tmp_path / "s", [v for v in known.videos if v.split == "train"])
    out = tmp_path / "run"
    asked = ["--model", "mil", "--set", f"data.val_fraction={val}"]
    main.main(command(place, out, *asked, data=alone.path))
    said = "there are no test videos: nothing is judged"
    assert words(capsys).count(said) == 1
    assert said in read_summary(out / "summary.json").unjudged
    assert said[1:] in (out / "report.html").read_text()
    assert "loss" in checkpoint.metrics_lines(out / "metrics.jsonl")[0]
    told = refused(capsys, ["--restore", out, "--eval"])
    assert "has no test videos, so there is nothing to judge" in told
    main.main(command(place, out, *asked, "--resume", data=alone.path))
    found = tmp_path / "found"
    main.main(["--restore", str(out), "--detect", str(place / "store"), "--out", str(found)])
    assert len(list(found.glob("*/scores.csv"))) == 40


CLASSES = ("Normal", "[/x] :cat: $\\frac$", "<b>a/b:c</b>_")


@pytest.mark.slow
def test_names_of_classes_are_text_everywhere(place, tmp_path, capsys):
    named = make_store(tmp_path / "[bold]s", train=16, test=8, lengths=(5, 8), classes=CLASSES)
    out = tmp_path / "$x_$ :cat:"
    main.main(command(place, out, data=named.path))
    assert f"see {out}" in words(capsys)
    page = (out / "report.html").read_text()
    assert "[/x] :cat: $\\frac$" in page and "<b>a/b:c</b>_" not in page
    assert "&lt;b&gt;a/b:c&lt;/b&gt;_" in page


@pytest.mark.parametrize(
    "flags",
    [
        {"vision": "published:/etc"},
        {"captioner": "file:/etc/passwd"},
        {"vision": "none\n"},
        {"vision": ["none"]},
        {"text": "../minilm-l6"},
        {"out": "/somewhere"},
        {"export_tfds": "/somewhere"},
        {"crops": 10**30},
        {"temperature": 1e308},
        {"top_p": -1.0},
        {"vision": "whatever"},
    ],
)
def test_flags_that_a_run_names_are_producers_and_nothing_else(place, run, capsys, flags):
    path = run / "checkpoint" / "meta.json"
    meta = json.loads(path.read_text())
    usual = {"vision": "efficientnet-lite0", "captioner": "tags", "text": "minilm-l6"}
    meta["producers"]["flags"] = usual | flags
    path.write_text(json.dumps(meta))
    checkpoint.record(run, "checkpoint/meta.json")
    (run / "clip.mp4").write_bytes(b"")
    before = sorted(run.parent.rglob("*"))
    out = run.parent / "found"
    refused(capsys, ["--restore", run, "--detect", run / "clip.mp4", "--out", out])
    assert sorted(p for p in run.parent.rglob("*") if out not in (p, *p.parents)) == before
