"""Studies: what they train, what they print beside the paper's figures, what they refuse."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import main
from semvad_jax import checkpoint, config, seeds, statistics, store
from semvad_jax import run as runs
from semvad_jax.files import BadInput
from semvad_jax.studies import numbers, study, trained
from semvad_jax.studies.find import find_study
from tests.support.command_line import refused, words
from tests.support.stores import make_store

ROOT = Path(__file__).parent.parent
STUDIES = [  # of trained tables
    path
    for path in sorted((ROOT / "configs" / "studies").glob("*.py"))
    if isinstance(find_study(str(path)), study.Study)
]
CONFIG = """
from semvad_jax.config import *
config = Config(
    data=DataConfig(dataset="synthetic", val_fraction=0.25),
    model=ModelConfig(dim=4, length=8, layers=1),
    train=TrainConfig(batch=8, epochs=2, lr=1e-3),
    eval=EvalConfig(every=0, crop=0),
)
"""
STUDY = """
from semvad_jax.studies.study import Figure, Row, Study
FIGURES = {{"ucf/auc": Figure(86.26, 0.918), "b/auc": Figure(1.25)}}
study = Study(
    title="A small one",
    metrics=("headline", "map"),
    rows=(
        Row("theirs", "theirs alone", paper={{"ucf/auc": Figure(75.58, 0.77, 77.92)}}),
        Row("mil", "MIL {{}}", ("model.name=mil",), FIGURES),
        {more}
    ),
    {fields}
)
"""
VADCLIP = 'Row("vadclip", "VadCLIP", ("model.name=vadclip",), {"ucf/map": Figure(6.95, 1.44)}),'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("study")
    make_store(place / "store", train=32, test=8, lengths=(5, 8, 11))
    make_store(place / "other", train=32, test=8, lengths=(5, 8, 11), seed=1)
    (place / "tiny.py").write_text(CONFIG)
    for name, more, fields in (
        ("small", VADCLIP, ""),
        ("drawn", "", "each_seed=True"),
        ("pairs", "", "cross_seeds=True, seeds=2"),
        ("moved", "", "transfer=True"),
        ("labels", "", "by_label=True, data={}, needs='give --data a=STORE'"),
    ):
        (place / f"{name}.py").write_text(STUDY.format(more=more, fields=fields))
    return place


def command(place, name, out, *more, data=("demo=store",)):
    given = [f"{text.partition('=')[0]}={place / text.partition('=')[2]}" for text in data]
    start = ["--study", str(place / f"{name}.py"), "--config", str(place / "tiny.py")]
    return [*start, "--data", *given, "--out", str(out), *more]


def rows(out, name):
    """The rows of a study's JSON that have a run, by their name."""
    found = json.loads((out / name / "study.json").read_text())["rows"]
    return {row["row"]: row for row in found if "run" in row}


def summary_of(row):
    return json.loads((Path(row["run"]) / "summary.json").read_text())


@pytest.fixture(scope="module")
def small(place):
    """The study, interrupted in its second run, then ended; and which runs the rest trained."""
    whole, train, again = seeds.Program.train, runs.train, []

    def interrupted(program, state):
        for interval in whole(program, state):
            if program.cfg.model.name == "vadclip":
                os.kill(os.getpid(), signal.SIGINT)
            yield interval

    def counted(cfg, run, *more, **options):
        again.append(cfg.model.name)
        train(cfg, run, *more, **options)

    argv = command(place, "small", place / "out", "--vmap-seeds", "2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds.Program, "train", interrupted)
        with pytest.raises(SystemExit) as ended:
            main.main(argv)
    assert ended.value.code == 130 and not (place / "out" / "small").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "train", counted)
        main.main(argv)
    return place / "out", again


def test_an_interrupted_study_trains_only_what_is_missing(small, place, monkeypatch):
    out, again = small
    assert again == ["vadclip"]
    monkeypatch.setattr(runs, "train", None)
    before = (out / "small" / "study.json").read_bytes()
    main.main(command(place, "small", out, "--vmap-seeds", "2", "--resume"))
    assert (out / "small" / "study.json").read_bytes() == before


def test_the_numbers_are_the_runs_own(small, place, monkeypatch, capsys):
    out, _ = small
    monkeypatch.setattr(runs, "train", None)
    main.main(command(place, "small", out, "--vmap-seeds", "2"))
    told = words(capsys)
    whole = json.loads((out / "small" / "study.json").read_text())["rows"]
    rows = {row["row"]: row for row in whole}
    for name in ("mil", "vadclip"):
        summary = summary_of(rows[name])
        assert rows[name]["weight_seeds"] == summary["weight_seeds"] == [9, 234]
        assert {f"{s}/auc" for s in ("last", "val", "test")} <= {
            "/".join(key.split("/")[::2]) for key in rows[name]["metrics"]
        }
        for key, value in rows[name]["metrics"].items():
            low, high = value.pop("t_interval")
            assert value == summary["metrics"][key]
            # t of one degree of freedom at 97.5 %
            half = 12.706204736 * value["sd"] / 2**0.5
            assert (low, high) == pytest.approx((value["mean"] - half, value["mean"] + half))
            assert f"{100 * value['mean']:.2f} ± {100 * value['sd']:.2f}" in told
            if key.startswith("last/"):
                shown = f"{100 * value['mean']:.2f} ± {100 * value['sd']:.2f} {100 * half:.2f} "
                assert shown in told
    assert "metrics" not in rows["theirs"]
    assert rows["theirs"]["paper_per_cent"] == {"auc": {"mean": 75.58, "sd": 0.77, "best": 77.92}}
    assert "75.58 ± 0.77*" in told and "86.26 ± 0.918*" in told and "6.95 ± 1.44*" in told
    assert "n = 2 seeds" in told and "77.92*" in told and "average mAP" in told
    assert "other inputs; here: data set synthetic, vision unknown" in told


def test_one_head_for_a_table_is_chosen_on_val(small):
    found = rows(small[0], "small")
    path = Path(found["vadclip"]["run"]) / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    means = {
        head: np.mean([line[f"val/{head}/auc"] for line in lines[-2:]])
        for head in ("binary", "class")
    }
    chosen = max(means, key=lambda head: means[head])
    assert f"last/{chosen}/auc" in found["vadclip"]["metrics"]
    assert "last/binary/auc" in found["mil"]["metrics"]  # it has no other


def test_each_seed_by_itself_from_the_runs_of_another_study(small, place, monkeypatch, capsys):
    out, _ = small
    monkeypatch.setattr(runs, "train", None)
    main.main(command(place, "drawn", out, "--vmap-seeds", "2"))
    told = words(capsys)
    metrics = summary_of(rows(out, "small")["mil"])["metrics"]
    shown = [
        [f"{100 * metrics[f'{s}/binary/auc']['values'][k]:.2f}" for s in ("last", "val", "test")]
        for k in (0, 1)
    ]
    assert "9, 9 " + " ".join(shown[0]) in told and "234, 234 " + " ".join(shown[1]) in told


def test_a_drawing_of_the_seeds(small, place, monkeypatch, capsys):
    out, _ = small
    monkeypatch.setattr(runs, "train", None)
    main.main(command(place, "drawn", out, "--vmap-seeds", "2"))
    assert (out / "drawn" / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert "last step" in (out / "drawn" / "demo.svg").read_text()


def test_a_grid_crosses_the_seeds_in_one_run(place, tmp_path, capsys):
    main.main(command(place, "pairs", tmp_path))
    row = rows(tmp_path, "pairs")["mil"]
    summary = summary_of(row)
    assert summary["weight_seeds"] == [9, 9, 234, 234]
    assert summary["data_seeds"] == [9, 234, 9, 234]
    told, values = words(capsys), summary["metrics"]["last/binary/auc"]["values"]
    assert "data seed 9 234" in told
    assert "234 " + " ".join(f"{100 * v:.2f}" for v in values[2:]) in told
    split = statistics.variance_split(np.reshape(values, (2, 2)))
    assert row["sd_from"]["last"] == split
    assert f"weight seed {100 * split['weight seed']:.2f}" in told
    assert row["metrics"]["last/binary/auc"]["t_interval"] is None  # the pairs share seeds
    assert "n = 4 pairs of seeds" in told


def test_the_split_of_a_grids_variance():
    weight, order = np.array([0.0, 3.0, 6.0]), np.array([1.0, 2.0, 3.0, 4.0])
    split = statistics.variance_split(weight[:, None] + order)
    assert split["both together"] == pytest.approx(0, abs=1e-12)
    assert split["weight seed"] == pytest.approx(3) and split["data seed"] == pytest.approx(
        1.2909944
    )
    split = statistics.variance_split(np.array([[0.0, 2.0], [2.0, 0.0]]))  # no main effect
    assert split == {"weight seed": 0, "data seed": 0, "both together": pytest.approx(2)}
    rng = np.random.default_rng(0)
    draws = [
        statistics.variance_split(
            3 * rng.standard_normal((8, 1))
            + rng.standard_normal((1, 8))
            + rng.standard_normal((8, 8))
        )
        for _ in range(400)
    ]
    found = {k: np.mean([d[k] ** 2 for d in draws]) for k in draws[0]}
    assert found["weight seed"] == pytest.approx(9, rel=0.15)
    assert found["data seed"] == pytest.approx(1, rel=0.15)
    assert found["both together"] == pytest.approx(1, rel=0.05)


def test_selection_optimism_is_told_with_its_interval(small, place, monkeypatch, capsys):
    out, _ = small
    monkeypatch.setattr(runs, "train", None)
    main.main(command(place, "small", out, "--vmap-seeds", "2"))
    told = words(capsys)
    by_row = rows(out, "small")
    for name, label in (("mil", "MIL demo"), ("vadclip", "VadCLIP")):
        metrics = summary_of(by_row[name])["metrics"]
        chosen = next(iter(by_row[name]["selection_optimism"]))
        assert f"last/{chosen}" in by_row[name]["metrics"] and chosen.endswith("/auc")
        test, val = (np.array(metrics[f"{s}/{chosen}"]["values"]) for s in ("test", "val"))
        found = by_row[name]["selection_optimism"][chosen]
        wanted = stats.ttest_rel(test, val).confidence_interval()  # of the mean of test − val
        assert found["mean"] == pytest.approx((test - val).mean())
        assert found["t_interval"] == pytest.approx((wanted.low, wanted.high))
        low, high = (100 * end for end in found["t_interval"])
        assert f"{label} {100 * found['mean']:+.2f} {low:+.2f} to {high:+.2f}" in told


def test_without_val_there_is_no_selection_optimism(place, tmp_path, capsys):
    """And a single seed has neither SD nor interval."""
    main.main(command(place, "labels", tmp_path, "--seeds", "7", "--set", "data.val_fraction=0"))
    told, row = words(capsys), rows(tmp_path, "labels")["mil"]
    assert "No val, no selection optimism" in told
    assert not row["selection_optimism"]
    mean = summary_of(row)["metrics"]["last/binary/auc"]["mean"]
    assert f"MIL demo {100 * mean:.2f} – " in told


@pytest.fixture(scope="module")
def moved(small, place):
    """The study of transfer between two stores: its rows; the first store's runs are there."""
    out, _ = small
    main.main(command(place, "moved", out, "--vmap-seeds", "2", data=("a=store", "b=other")))
    return json.loads((out / "moved" / "study.json").read_text())["rows"]


def test_stores_side_by_side_in_one_table(small, moved, place, monkeypatch, capsys):
    out, _ = small
    monkeypatch.setattr(runs, "train", None)
    argv = ["labels", out, "--vmap-seeds", "2"]
    main.main(command(place, *argv, data=("a=store", "b=other")))
    told = words(capsys)
    found = json.loads((out / "labels" / "study.json").read_text())["rows"][1:]
    assert [row["label"] for row in found] == ["MIL a", "MIL b"]
    assert [row["paper_per_cent"] for row in found] == [
        {},
        {"auc": {"mean": 1.25, "sd": None, "best": None}},
    ]
    for label, row in zip(("a", "b"), found, strict=True):
        value = summary_of(row)["metrics"]["last/binary/auc"]
        assert f"MIL {label} {100 * value['mean']:.2f} ± {100 * value['sd']:.2f} " in told
    assert told.count("1.25*") == 1
    assert [Path(row["run"]).name.rpartition("-")[0] for row in found] == ["demo-mil", "b-mil"]


def test_transfer_is_the_run_judged_on_the_other_store(small, moved, place, monkeypatch, capsys):
    out, _ = small
    monkeypatch.setattr(runs, "train", None)
    assert [row["data"] for row in moved] == ["a → b"] * 2 + ["b → a"] * 2
    run = rows(out, "small")["mil"]["run"]  # the study that trained it calls the store demo
    assert moved[1]["run"] == run
    runs.evaluate(Path(run), str(place / "other"))  # the lists are the same
    judged = json.loads((Path(run) / "eval.json").read_text())["metrics"]
    assert list(moved[1]["metrics"]) == ["last/binary/auc"]
    assert moved[1]["metrics"]["last/binary/auc"]["values"] == pytest.approx(
        judged["last/binary/auc"]["values"]
    )
    argv = ["moved", out, "--vmap-seeds", "2"]
    main.main(command(place, *argv, data=("a=store", "b=other")))
    assert "a → b" in words(capsys)
    main.main(command(place, *argv, data=("a=store",)))
    found = json.loads((out / "moved" / "study.json").read_text())["rows"]
    own = summary_of(found[1])["metrics"]
    assert found[1]["data"] == "a → a"
    assert found[1]["metrics"]["last/binary/auc"]["values"] == pytest.approx(
        own["last/binary/auc"]["values"]
    )
    assert "judged on the store it was trained on" in words(capsys)


def test_transfer_needs_features_of_the_same_kind(place, tmp_path, capsys):
    make_store(tmp_path / "wide", train=32, test=8, lengths=(5, 8, 11), widths=(13, 10))
    told = refused(
        capsys,
        command(place, "moved", tmp_path / "x", data=("a=store", f"b={tmp_path / 'wide'}")),
    )
    assert "has feature_dim" in told and not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def paper_like(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("like") / "store", dataset="ucf", lengths=(5,))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_studys_rows_are_settings_of_their_models(path, paper_like):
    chosen = find_study(path.stem)
    assert len({row.name for row in chosen.rows}) == len(chosen.rows)
    demo = store.open(ROOT / "demo")
    found = []
    for row in chosen.rows:
        assert row.overrides is not None or row.paper
        assert all(key.split("/")[1].startswith(("auc", "ap", "map")) for key in row.paper)
        if row.overrides is not None:
            cfg = study.settings(row.overrides, "demo", demo, None, ())
            assert cfg == config.load("demo", [*row.overrides, f"data.store={demo.path}"])
            of_paper = study.settings(row.overrides, "any", paper_like, None, ())
            assert of_paper == config.load("ucf", [*row.overrides, f"data.store={paper_like.path}"])
            found.append((cfg, row.sigma_to_length))
    assert len(set(found)) == len(found) > 0
    main.arguments(["--study", path.stem])


def test_the_base_of_a_rows_settings(paper_like, place):
    row = study.Row("mil", "MIL", ("model.name=mil",))
    features = store.open(place / "store")
    assert study.settings(row.overrides, "ucf_captions", features, None, ()).model.length == 16
    assert study.settings(row.overrides, "x", paper_like, None, ()).model.length == 256
    cfg = study.settings(row.overrides, "x", features, None, ("train.epochs=3",))
    assert (cfg.model.length, cfg.data.dataset, cfg.train.epochs) == (64, "synthetic", 3)
    assert study.settings(row.overrides, "x", features, "ucf", ()).model.length == 256


def test_tables_10_to_13_switch_what_they_say(paper_like):
    def of(name):
        return [
            study.settings(r.overrides, "x", paper_like, None, ()) for r in find_study(name).rows
        ]

    modules = [(c.model.name, c.model.attention, c.model.mixer, c.loss.sem) for c in of("table10")]
    assert modules[:5] == [
        ("vadclip", None, None, None),
        ("semvad", False, False, 0),
        ("semvad", True, False, 0),
        ("semvad", True, True, 0),
        ("semvad", True, True, 1),
    ]
    assert [c.model.captions_raw for c in of("table10")[1:]] == [True, *[False] * 6]
    readings = [(c.loss.sem, c.loss.sem_videos, c.model.residual) for c in of("table10")[5:]]
    assert readings == [(0, "all", "visual"), (1, "anomalous", "visual"), (1, "all", "caption")]
    greedy = [(c.model.name, c.loss.sigma_greedy) for c in of("table12")]
    assert greedy[:4] == [(m, on) for m in ("vadclip", "semvad") for on in (False, True)]
    assert [row.sigma_to_length for row in find_study("table12").rows] == [False] * 4 + [True]
    assert [c.model.qkv for c in of("table13")] == [False, True]
    whole = config.resolve(config.load("ucf", [f"data.store={paper_like.path}"]), paper_like)
    assert config.resolve(of("table10")[4], paper_like) == whole


def test_the_papers_figures_of_table_2_and_3():
    shown = {
        row.label: [(f.mean, f.sd, f.best) for f in row.paper.values()]
        for row in find_study("table2").rows
    }
    assert shown == {
        "RTFM": [(None, None, 85.66), (None, None, 78.27)],
        "S3R": [(None, None, 85.99), (None, None, 80.47)],
        "UMIL": [(None, None, 86.75)],
        "DeepMIL": [(75.58, 0.77, 77.92), (73.24, 1.22, 75.18)],
        "UR-DMU": [(85.52, 0.744, 86.75), (79.22, 1.206, 82.41)],
        "CLIP-TSA": [(85.02, 0.466, 87.58), (79.83, 1.05, 82.17)],
        "PEL4VAD": [(85.21, 0.366, 86.76), (84.21, 0.31, 85.59)],
        "MIL (ours)": [],
        "MGFN": [],
        "DSANet": [],
        "VadCLIP": [(86.26, 0.918, 88.02), (83.20, 1.53, 84.51)],
        "SemVAD": [(87.21, 0.462, 88.48), (84.66, 1.26, 86.55)],
    }
    semvad = find_study("table3").rows[-1].paper
    assert (semvad["ucf/map"].mean, semvad["ucf/map"].sd) == (8.1, 1.19)
    assert [semvad[f"ucf/map@0.{k}"].mean for k in range(1, 6)] == [15.49, 10.625, 7.35, 4.27, 2.92]
    assert [semvad[f"xd/map@0.{k}"].mean for k in range(1, 6)] == [
        44.41,
        36.95,
        29.91,
        24.34,
        19.07,
    ]
    # the mean of the five is the average that the paper prints, but for its rounding
    for row in (row for row in find_study("table3").rows if row.paper):
        for name in ("ucf", "xd"):
            parts = [row.paper[f"{name}/map@0.{k}"].mean for k in range(1, 6)]
            assert row.paper[f"{name}/map"].mean == pytest.approx(np.mean(parts), abs=0.7)


def lines_of(config_name, *rows):
    """Lines of a table that were never trained, by (label, overrides)."""
    return [
        trained.Result(
            config_name,
            study.Row(label, label, overrides),
            Path("run"),
            config.load(config_name, overrides),
            None,  # pyright: ignore[reportArgumentType]
            "binary",
            (),
        )
        for label, overrides in rows
    ]


def test_what_is_not_a_systems_own_is_told_once():
    systems = lines_of(
        "demo",
        ("RTFM", ("model.name=rtfm",)),
        ("VadCLIP", ("model.name=vadclip",)),
        ("PEL4VAD", ("model.name=pel4vad", "train.lr=0.7")),  # a line's own
    )
    (told,) = numbers.settings_apart(systems)
    begun, _, settings = told.partition("of 3 runs: ")
    assert begun.startswith("demo: each system has its own settings (configs/models), but for")
    assert settings == (
        "eval.crop 0 (3), train.batch 32 (2), model.dim 64 (1), model.length 64 (1), "
        "train.epochs 16 (1), train.lr 0.0005 (1), train.milestones (13,) (1), eval.every 0 (1)."
    )
    published = [(row.label, row.overrides) for row in find_study("table2").rows[3:]]
    assert numbers.settings_apart(lines_of("ucf", *published)) == []
    # of one system, pair by pair
    variants = lines_of(
        "xd",
        ("VadCLIP", ("model.name=vadclip",)),
        ("+ mixer", ("model.name=semvad", "model.attention=False")),
        ("whole", ("model.name=semvad", "model.attention=True")),
    )
    (told,) = numbers.settings_apart(variants)
    assert told.startswith("VadCLIP and + mixer also differ in model.layers 1 and 3, ")


def test_which_inputs_are_the_papers():
    def features(dataset, **flags):
        info = {"dataset": dataset, "producers": {"flags": flags}}
        return type("Features", (), {"info": info})

    clip = {"vision": "clip-vit-b16", "text": "clip-vit-l14"}
    assert trained.differing(features("ucf", captioner="videollama3-7b", **clip)) == ()
    assert trained.differing(features("xd", captioner="published", **clip)) == ()
    assert trained.differing(features("xd", captioner="release", **clip)) == ()  # said before
    small = features("ucf", captioner="videollama3-2b", **clip)
    assert trained.differing(small) == ("captioner videollama3-2b",)
    assert trained.differing(small, "videollama3-2b") == ()
    asked = features("ucf", captioner="videollama3-7b", **clip)
    prompts = json.loads((ROOT / "featurize/prompts.json").read_text())
    asked.info["producers"]["captions"] = {"prompts": prompts}
    assert trained.differing(asked) == ()
    asked.info["producers"]["captions"] = {"prompts": prompts | {"user": "What is there?"}}
    assert trained.differing(asked) == ("other prompts",)
    demo = trained.differing(store.open(ROOT / "demo"))
    assert demo[0] == "data set demo" and "vision efficientnet-lite0" in demo


def test_mistakes_end_in_one_sentence(small, place, tmp_path, capsys):
    told = refused(capsys, ["--study", "table99"])
    assert "no study" in told and "table10" in told
    told = refused(capsys, command(place, "small", tmp_path, data=("demo=none",)))
    assert str(place / "none") in told
    for bad in ("store", "=store", "a/b=store", "a="):
        assert "LABEL=STORE" in refused(capsys, ["--study", "table2", "--data", bad])
    told = refused(capsys, ["--study", "table2", "--data", "a=demo", "--data", "a=demo"])
    assert "each label once" in told
    assert "VideoLLaMA 3 2B and 7B" in refused(capsys, ["--study", "table8"])
    told = refused(capsys, command(place, "small", tmp_path, "--set", "model.name=semvad"))
    assert "model.name" in told
    told = refused(capsys, command(place, "small", tmp_path, "--set", "train.epoch=1"))
    assert "did you mean 'train.epochs'" in told
    told = refused(capsys, command(place, "pairs", tmp_path, "--vmap-seeds", "1"))
    assert "a grid needs two" in told
    told = refused(capsys, command(place, "pairs", tmp_path, "--seeds", "1,1"))
    assert "once" in told
    assert not list(tmp_path.iterdir())
    (place / "broken.py").write_text("study = 3\n")
    assert "must define" in refused(capsys, ["--study", str(place / "broken.py")])
    told = refused(capsys, ["--study", "table2", "--weights", "clip-vit-b16=DIR"])
    assert "reads finished stores; leave out --weights" in told


def test_a_run_is_found_by_store_settings_and_seeds(small, place, monkeypatch, capsys):
    """Not by its place, its label or the study that trained it."""
    out, _ = small
    mil = Path(rows(out, "small")["mil"]["run"])
    assert mil.name.startswith("demo-mil-") and mil.parent == out / "runs"
    monkeypatch.setattr(runs, "train", None)
    shutil.copytree(place / "store", place / "moved_store")
    main.main(command(place, "labels", out, "--vmap-seeds", "2", data=("x=moved_store",)))
    assert f"1 of 1: {mil} is there" in words(capsys)
    assert rows(out, "labels")["mil"]["run"] == str(mil)

    def planned(*more, data="demo=store"):
        argv = command(place, "labels", out, "--vmap-seeds", "2", *more, data=(data,))
        args = main.arguments(argv)
        chosen = find_study(args.study)
        (one,) = trained.plan(chosen, main.study_options(args, chosen))
        return one.folder(out)

    assert planned() == mil
    for more in (["--set", "train.epochs=3"], ["--seeds", "9,1"], ["--data-seeds", "9,1"]):
        assert not planned(*more).exists()
    assert planned(data="demo=other") != mil


def test_what_lies_under_a_runs_name_is_that_run(small, place, capsys):
    out, _ = small
    meta = Path(rows(out, "small")["mil"]["run"]) / "checkpoint" / "meta.json"
    before = meta.read_text()
    found = json.loads(before)
    sums = found["store_sha256"]
    for other in (
        found | {"store_sha256": sums | {"visual.npy": 64 * "0"}},
        {key: value for key, value in found.items() if key != "store_sha256"},  # as made earlier
    ):
        meta.write_text(json.dumps(other))
        checkpoint.record(meta.parents[1], "checkpoint/meta.json")
        told = refused(capsys, command(place, "small", out, "--vmap-seeds", "2"))
        meta.write_text(before)
        checkpoint.record(meta.parents[1], "checkpoint/meta.json")
        assert "was trained on other features" in told


def test_tables_share_their_runs(monkeypatch):
    """Nothing is trained: what seven studies would train on one store."""
    monkeypatch.chdir(ROOT)
    asked = []
    for name in ("table1", "table2", "table9", "table10", "table12", "table13", "figure6a"):
        args = main.arguments(["--study", name])
        chosen = find_study(name)
        asked += [one.identity for one in trained.plan(chosen, main.study_options(args, chosen))]
    assert len(asked) == 30 and len(set(asked)) == 22


def test_a_studys_one_model_can_be_another(monkeypatch):
    monkeypatch.chdir(ROOT)
    chosen = find_study("figure6a")
    args = main.arguments(["--study", "figure6a", "--model", "mil", "--vmap-seeds", "2"])
    of_mil = main._of_model(args, chosen)
    (planned,) = trained.plan(of_mil, main.study_options(args, of_mil))
    assert planned.resolved.model.name == "mil" and planned.weight_seeds == [9, 9, 234, 234]
    args = main.arguments(["--study", "table2", "--model", "mil"])
    with pytest.raises(BadInput, match="--study table2 names its models; leave out --model"):
        main._of_model(args, find_study("table2"))


def test_figure_6b_varies_the_weight_seed_alone():
    chosen = find_study("figure6b")
    args = main.arguments(["--study", "figure6b", "--vmap-seeds", "3"])
    options = main.study_options(args, chosen)
    assert (options.weight_seeds, options.data_seeds) == ([9, 234, 42], [234] * 3)
    args = main.arguments(["--study", "figure6b", "--seeds", "1,2", "--data-seeds", "3,4"])
    assert main.study_options(args, chosen).data_seeds == [3, 4]


def test_every_printed_figure_stands_in_its_study():
    """../shared/data/paper/tables.json, number by number."""
    path = ROOT.parent / "shared/data/paper/tables.json"
    if not path.is_file():
        pytest.skip("the paper's tables are not beside this checkout")
    tables = json.loads(path.read_text())
    rows = {
        study.stem: {row.label: row.paper for row in find_study(study.stem).rows}
        for study in STUDIES
    }

    def of(table, label, key):
        figure = rows[table][label].get(key)
        return (None, None, None) if figure is None else (figure.mean, figure.sd, figure.best)

    for x in ("5", "10", "30", "50"):
        assert of("table1", "x = {} %", f"{x}/auc")[0] == tables["table1"][x]
    for name, values in tables["table2"].items():
        if isinstance(values, list) and name != "columns":
            label = {"Deep MIL": "DeepMIL"}.get(name, name)
            assert of("table2", label, "ucf/auc") == tuple(values[:3])
            assert of("table2", label, "xd/ap") == tuple(values[3:])
    for dataset in ("ucf", "xd"):
        for name, values in tables["table3"][dataset].items():
            ours = {"Deep MIL*": "DeepMIL, class head ours", "AVVD*": "AVVD-style"}
            label = ours.get(name, name)
            for k, value in enumerate(values[:5], 1):
                assert of("table3", label, f"{dataset}/map@0.{k}")[0] == value
            assert of("table3", label, f"{dataset}/map")[:2] == tuple(values[5:])
    for name, label in (("SemVAD", "SemVAD"), ("VadCLIP", "VadCLIP")):
        values = tables["table9"][name]
        shown = [of("table9", label, key)[0] for key in ("xd/ap", "ucf/auc")]
        assert shown == values
    modules = list(tables["table10"].values())[1:]
    shown = [row.paper["ucf/auc"].mean for row in find_study("table10").rows if row.paper]
    assert shown == modules
    for label, name in (("0.3", "temperature = top_p = 0.3"), ("0.7", "temperature = top_p = 0.7")):
        assert [of("table11", "{}", f"{label}/{m}")[0] for m in ("auc", "map")] == tables[
            "table11"
        ][name]
    assert [of("table11", "{}", f"greedy/{m}")[0] for m in ("auc", "map")] == tables["table11"][
        "greedy"
    ]
    for number, label in (("2b", "VideoLLaMA 3 2B"), ("7b", "VideoLLaMA 3 7B")):
        auc, average, seconds, memory = tables["table8"][label]
        assert [of("table8", "captions by {}", f"{number}/{m}")[0] for m in ("auc", "map")] == [
            auc,
            average,
        ]
        assert f"{seconds:g} s and {memory:g} GB" in find_study("table8").note
    for key, label in (("sigma-greedy", ", σ-greedy"), ("regular", "")):
        mean, sd, vadclip, vadclip_sd = tables["table12"][key]
        assert of("table12", f"SemVAD{label}", "ucf/auc")[:2] == (mean, sd)
        assert of("table12", f"VadCLIP{label}", "ucf/auc")[:2] == (vadclip, vadclip_sd)
    keys = ("ucf/auc", "ucf/map", "xd/ap", "xd/map")
    for label in ("QKV", "QKK"):
        assert [of("table13", label, key)[0] for key in keys] == tables["table13"][label]
    cells = {k.replace(",", ", "): v for k, v in tables["figure6a"].items() if "," in k}
    assert find_study("figure6a").rows[0].paper_pairs == {
        k: v for k, v in cells.items() if k != "what"
    }
    runtime = find_study("runtime")
    both = tables["table6"] | tables["table7"]
    assert runtime.paper == {
        "captioner": both["VideoLLaMA 3 captioning"],
        "vision": both["CLIP visual encoder"],
        "fusion + detection": both["fusion + detection"],
    }
    assert runtime.paper_together == (tables["table5"]["seconds_a_clip"], tables["table5"]["sd"])
    assert list(runtime.paper_others.values()) == [both["I3D RGB + flow"], both["LAVAD"]]
    pairs = json.loads((path.parent / "caption_pairs.json").read_text())
    study_pairs = find_study("table4").pairs
    assert json.loads(study_pairs.read_text())["pairs"] == pairs["pairs"]
    prompts = json.loads((ROOT / "featurize/prompts.json").read_text())
    asked = json.loads((path.parent / "prompts.json").read_text())
    assert {k: prompts[k] for k in ("system", "user")} == {k: asked[k] for k in ("system", "user")}


def test_how_many_steps_explore():
    """0.99 a step: a paper's run of 1,125 steps explores in 9 % of them, one of 96 in 64 %."""
    assert numbers.mean_sigma(0.99, 1125) == pytest.approx(0.0889, abs=1e-4)
    slow = sum(0.99**t for t in range(96)) / 96
    assert numbers.mean_sigma(0.99, 96) == pytest.approx(slow) and round(slow, 2) == 0.64
    assert numbers.mean_sigma(1.0, 5) == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["--config", "demo", "--data", "a", "b"],
        ["--study", "table2", "--restore", "runs/demo"],
        ["--study", "table2", "--eval"],
    ],
)
def test_what_does_not_go_together(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main.arguments(argv)
    assert ended.value.code == 2 and "error: " in capsys.readouterr().err
