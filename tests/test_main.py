"""The command line from store to summary, and every mistake in one sentence."""

import csv
import errno
import functools
import json
import os
import re
import shutil
import signal

import numpy as np
import pytest

import main
from semvad_jax import run as runs
from semvad_jax import seeds
from semvad_jax.metrics import MetricName
from semvad_jax.report import real_time
from tests.support.command_line import refused
from tests.support.stores import make_store

LOG_LINE = r"step (\d+) of 9  loss (\d\.\d{4})  auc (\d+\.\d\d)  (\d:\d\d:\d\d) left"
CONFIG = """
from semvad_jax.config import *
config = Config(
    data=DataConfig(dataset="synthetic", val_fraction=0.25),
    model=ModelConfig(dim=4, length=8, layers=1),
    train=TrainConfig(batch=8, epochs=3, lr=1e-3),
    eval=EvalConfig(every=0, crop=0),
)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("main")
    make_store(place / "store", train=32, test=8, lengths=(5, 8, 11))
    (place / "tiny.py").write_text(CONFIG)
    return place


def command(place, out, *more):
    return [
        "--config",
        str(place / "tiny.py"),
        "--data",
        str(place / "store"),
        "--out",
        str(out),
        *more,
    ]


@pytest.fixture(scope="module")
def trained(place):
    main.main(command(place, place / "run", "--vmap-seeds", "2"))
    return place / "run"


def test_a_run_leaves_what_the_contract_says(trained):
    summary = json.loads((trained / "summary.json").read_text())
    assert {"config", "model", "dataset", "device", "weight_seeds", "data_seeds", "steps"} < set(
        summary
    )
    assert summary["weight_seeds"] == summary["data_seeds"] == [9, 234] and summary["steps"] == 9
    assert 0 < summary["train_seconds"] < summary["wall_seconds"]
    selections, heads = ("last", "val", "test"), ("binary", "class", "max")
    frame_level = ("auc", "ap", "ap_trapezoid", "auc_abnormal")
    expected = {f"{s}/{h}/{m}" for s in selections for h in heads for m in frame_level}
    ious = ["", *(f"@0.{i}" for i in range(1, 6))]
    expected |= {
        f"{s}/class/{m}{iou}" for s in selections for m in ("map", "map_clean") for iou in ious
    }
    assert set(summary["metrics"]) == expected
    auc = summary["metrics"]["last/binary/auc"]
    assert auc["mean"] == pytest.approx(np.mean(auc["values"])) and auc["best"] == max(
        auc["values"]
    )
    assert auc["sd"] == pytest.approx(np.std(auc["values"], ddof=1))


def test_metrics_are_a_line_per_evaluation_and_seed(trained):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [(r["step"], r["weight_seed"]) for r in lines] == [
        (s, w) for s in (3, 6, 9) for w in (9, 234)
    ]
    assert {"loss", "binary", "class", "text", "sem", "test/binary/auc", "val/class/ap"} < set(
        lines[0]
    )
    summary = json.loads((trained / "summary.json").read_text())
    assert [r["test/max/auc"] for r in lines[-2:]] == summary["metrics"]["last/max/auc"]["values"]
    best = [max(r["test/binary/auc"] for r in lines if r["weight_seed"] == w) for w in (9, 234)]
    assert summary["metrics"]["test/binary/auc"]["values"] == best


def test_eval_reproduces_the_summary_to_the_digit(trained):
    main.main(["--restore", str(trained), "--eval"])
    summary, again = (json.loads((trained / f).read_text()) for f in ("summary.json", "eval.json"))
    assert again["metrics"] == summary["metrics"]


def test_eval_in_real_time_is_kept_for_each_lookahead(trained, capsys):
    judge = ["--restore", trained, "--eval", "--lookahead"]
    for lookaheads in (["7", "0"], ["all"]):
        main.main([*map(str, judge), *lookaheads])
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = real_time.read(trained)
    assert list(found) == [0, 7, "all"]
    last = json.loads((trained / "summary.json").read_text())["metrics"]
    for name, value in found["all"].metrics.items():
        assert str(name).startswith("last/") and list(value.values) == last[str(name)]["values"]
    auc = MetricName("last", "binary", "auc")
    for lookahead in ("0", "7", "all"):
        value = found[lookahead if lookahead == "all" else int(lookahead)].metrics[auc]
        cells = [lookahead, "binary", f"{100 * value.mean:.2f}", "±", f"{100 * value.sd:.2f}"]
        assert cells in [words[:5] for words in shown]
    assert found[0].metrics[auc].values != found[7].metrics[auc].values
    assert "give at most 7, or all" in refused(capsys, [*judge, "8"])
    for more in (["soon"], ["1", "--data", "store"]):
        with pytest.raises(SystemExit):
            main.main([*map(str, judge), *more])
        assert "--lookahead" in capsys.readouterr().err


def test_detect_scores_every_video_from_the_run_alone(trained, place, tmp_path):
    main.main(["--restore", str(trained), "--detect", str(place / "store"), "--out", str(tmp_path)])
    assert len(list(tmp_path.glob("*/scores.csv"))) == 40
    text = (tmp_path / "video_033" / "scores.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    head = "snippet,start_frame,end_frame,start_second,end_second,score_mean,score_sd,class"
    assert list(rows[0]) == [*head.split(","), "Normal", "Fighting", "Arson", "caption"]
    assert [int(r["snippet"]) for r in rows] == list(range(len(rows)))
    assert (
        rows[-1]["end_frame"] == str(16 * len(rows) - 3)
        and rows[0]["caption"] == "caption 0 of video 33"
    )
    for row in rows:
        p = [float(row[c]) for c in ("Normal", "Fighting", "Arson")]
        assert (
            sum(p) == pytest.approx(1, abs=1e-5)
            and row["class"] == ("Normal", "Fighting", "Arson")[np.argmax(p)]
        )
        assert 0 <= float(row["score_mean"]) <= 1 and float(row["score_sd"]) >= 0


def test_ctrl_c_saves_and_resume_ends_in_the_same_bits(
    trained, place, tmp_path, monkeypatch, capsys
):
    whole = seeds.Program.train

    def interrupted(program, state):
        for interval in whole(program, state):
            if interval.step == 3:
                os.kill(os.getpid(), signal.SIGINT)
            yield interval

    monkeypatch.setattr(seeds.Program, "train", interrupted)
    with pytest.raises(SystemExit) as ended:
        main.main(command(place, tmp_path / "run", "--vmap-seeds", "2"))
    assert ended.value.code == 130 and "stopped at step 3 of 9 and saved" in " ".join(
        capsys.readouterr().out.split()
    )
    assert not (tmp_path / "run" / "summary.json").exists()
    monkeypatch.undo()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "half a li')  # as a kill may leave it
    main.main(command(place, tmp_path / "run", "--vmap-seeds", "2", "--resume"))
    for name in ("metrics.jsonl", "config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (trained / name).read_bytes()
    summary, again = (
        json.loads((r / "summary.json").read_text()) for r in (trained, tmp_path / "run")
    )
    assert again["metrics"] == summary["metrics"]


def test_where_features_lie_changes_nothing_and_is_recorded(trained, place, tmp_path):
    run = tmp_path / "run"
    main.main(command(place, run, "--vmap-seeds", "2", "--set", "data.placement=host"))
    main.main(command(place, run, "--vmap-seeds", "2", "--resume"))
    summaries = [json.loads((r / "summary.json").read_text()) for r in (run, trained)]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]
    assert runs.identity_of(run) == runs.identity_of(trained)
    settings = [json.loads((r / "config.json").read_text()) for r in (run, trained)]
    assert [s["data"]["placement"] for s in settings] == ["host", "device"]


def test_what_was_chosen_for_a_device_stays(trained, place, tmp_path, monkeypatch):
    """A run on a device that holds one seed at a time goes on, and is judged, as it was begun."""
    made = []

    def small(self, seeds, chunk):
        choose(self, seeds, 1)
        if chunk is None:  # chosen: what is known of a run is given
            self.rests = self.on_host
        made.append(self)

    choose = seeds.Program._choose
    monkeypatch.setattr(seeds.Program, "_choose", small)
    run = tmp_path / "run"
    main.main(command(place, run, "--vmap-seeds", "2"))
    main.main(command(place, run, "--vmap-seeds", "2", "--resume"))
    main.main(["--restore", str(run), "--eval"])
    assert len(made) == 3 and all(p.rests is p.on_host for p in made)
    meta = json.loads((run / "checkpoint" / "meta.json").read_text())
    assert meta["chunk"] == 1 and meta["states_on_host"]
    summary, again = (json.loads((run / n).read_text()) for n in ("summary.json", "eval.json"))
    assert summary["metrics"] == again["metrics"]


def test_resuming_a_finished_run_trains_nothing_and_keeps_its_clock(trained, place, monkeypatch):
    before = json.loads((trained / "summary.json").read_text())
    monkeypatch.setattr(seeds.Program, "train", None)
    main.main(command(place, trained, "--vmap-seeds", "2", "--resume"))
    assert json.loads((trained / "summary.json").read_text()) == before


def test_the_weights_of_a_runs_end_are_scored_once(trained, place, monkeypatch, capsys):
    """The last weights, those selected on val and those on test: once each, for all that is made of
    them: summary, thresholds, page, tables.
    """
    calls, scores = [], seeds.Program.scores
    monkeypatch.setattr(seeds.Program, "scores", lambda *a: calls.append(1) or scores(*a))
    monkeypatch.setattr(seeds.Program, "score_windows", counted(seeds.Program.score_windows))
    executed.clear()
    main.main(command(place, trained, "--vmap-seeds", "2", "--resume"))  # which is finished
    assert len(calls) == len(executed) == 3
    executed.clear()
    main.main(["--restore", str(trained), "--eval"])
    assert len(executed) == 3


executed = []


def counted(program):
    """The cached property `score_windows`, whose executions are listed in `executed`."""

    def compiled(self):
        run = program.func(self)

        def score(*arguments):
            executed.append(self)
            return run(*arguments)

        return score

    faked = functools.cached_property(compiled)
    faked.__set_name__(seeds.Program, "score_windows")
    return faked


def test_a_log_has_a_line_for_each_evaluation(place, tmp_path, capsys):
    main.main(command(place, tmp_path / "run", "--vmap-seeds", "2"))
    told = capsys.readouterr().out
    lines = [line for line in told.splitlines() if line.startswith("step ")]
    told_steps = [re.fullmatch(LOG_LINE, line) for line in lines]
    assert [match and match[1] for match in told_steps] == ["3", "6", "9"]
    assert told_steps[-1] and told_steps[-1][4] == "0:00:00"
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for match, step in zip(told_steps, (3, 6, 9), strict=True):
        at = [row for row in rows if row["step"] == step]
        assert match[2] == f"{np.mean([row['loss'] for row in at]):.4f}"
        assert match[3] == f"{100 * np.mean([row['test/binary/auc'] for row in at]):.2f}"
    assert re.search(r"compiled in \d+\.\d s", told)
    behind = "24 train, 8 val and 8 test videos; "
    assert behind in told and re.search(r"videos; \d+ of [\d,]+ frames anomalous", told)


def test_a_damaged_run_is_one_sentence(trained, tmp_path, capsys):
    for name in ("config.json", "checkpoint/meta.json"):
        run = shutil.copytree(trained, tmp_path / name.replace("/", "_"))
        (run / name).write_text('{"')
        told = refused(capsys, ["--restore", run, "--eval"])
        assert str(run / name) in told


def test_a_run_goes_on_only_with_the_store_it_was_begun_on(trained, place, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    moved = shutil.copytree(place / "store", tmp_path / "moved")
    argv = ["--config", place / "tiny.py", "--out", run, "--vmap-seeds", "2", "--resume"]
    main.main([str(word) for word in (*argv, "--data", moved)])
    other = make_store(tmp_path / "other", train=32, test=8, lengths=(5, 8, 11), seed=1)
    told = refused(capsys, [*argv, "--data", other.path])
    assert "was begun on other features than those in" in told


def test_other_models_train_in_the_same_program(place, tmp_path):
    main.main(
        command(place, tmp_path / "mil", "--model", "mil", "--seeds", "7", "--data-seeds", "8")
    )
    summary = json.loads((tmp_path / "mil" / "summary.json").read_text())
    assert (summary["model"], summary["weight_seeds"], summary["data_seeds"]) == ("mil", [7], [8])
    assert (
        summary["metrics"]["last/binary/auc"]["sd"] is None
        and "last/class/auc" not in summary["metrics"]
    )


def test_a_finished_run_is_not_overwritten(trained, place, capsys):
    told = refused(capsys, command(place, trained, "--vmap-seeds", "2"))
    assert "already holds a run; go on with --resume, or name another --out" in told
    told = refused(capsys, command(place, trained, "--vmap-seeds", "3", "--resume"))
    assert "was begun with other settings" in told


def test_mistakes_on_the_command_line(place, trained, tmp_path, capsys):
    told = refused(capsys, ["--config", "nothing", "--vmap-seeds", "1"])
    assert "no config file" in told and "demo" in told
    told = refused(capsys, command(place, tmp_path / "x", "--set", "train.lrr=1"))
    assert "did you mean 'train.lr'?" in told
    told = refused(
        capsys, ["--config", "ucf", "--data", str(tmp_path / "none"), "--vmap-seeds", "1"]
    )
    assert str(tmp_path / "none") in told
    told = refused(capsys, command(place, tmp_path / "x", "--vmap-seeds", "2", "--seeds", "1,2,3"))
    assert "--vmap-seeds 2, 3 weight seeds" in told
    told = refused(capsys, ["--restore", str(tmp_path), "--eval"])
    assert "is not a run" in told


def test_features_of_another_kind_are_refused(trained, tmp_path, capsys):
    make_store(tmp_path / "wide", widths=(13, 10))
    told = refused(
        capsys,
        ["--restore", str(trained), "--detect", str(tmp_path / "wide"), "--out", str(tmp_path)],
    )
    assert "has feature_dim 13, the run was trained on 12" in told


def test_a_feature_that_is_not_finite_is_refused(place, tmp_path, capsys):
    store = make_store(tmp_path / "store")
    rows = np.load(store.path / "visual.npy")
    rows[7, 3] = np.nan
    np.save(store.path / "visual.npy", rows)
    info = json.loads((store.path / "store.json").read_text())
    import hashlib

    info["sha256"]["visual.npy"] = hashlib.sha256(
        (store.path / "visual.npy").read_bytes()
    ).hexdigest()
    (store.path / "store.json").write_text(json.dumps(info))
    argv = [
        "--config",
        str(place / "tiny.py"),
        "--data",
        str(store.path),
        "--out",
        str(tmp_path / "x"),
    ]
    assert "visual.npy" in refused(capsys, argv)


def test_a_full_disk_is_one_sentence_and_keeps_what_was_saved(place, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")

    monkeypatch.setattr(runs, "_append", full)
    told = refused(capsys, command(place, tmp_path / "run", "--vmap-seeds", "2"))
    assert (
        "cannot write metrics.jsonl: No space left on device; what was saved before stays" in told
    )


@pytest.mark.parametrize(
    ("words", "devices"),
    [
        (["--config", "demo", "--vmap-seeds", "10"], 4),
        (["--config", "demo", "--seeds", "9,234"], 2),
        (["--config", "demo"], 1),
        (["--study", "table2"], 4),  # whose ten seeds are the study's own
        (["--restore", "runs/demo", "--eval"], 1),
    ],
)
def test_a_device_is_a_core_of_a_cpu_where_there_are_seeds_for_it(monkeypatch, words, devices):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 3, 5}, raising=False)
    assert main._cpu_devices(main.arguments(words)) == devices
