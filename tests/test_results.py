"""RESULTS.md: every figure from files, each with its command, the same text from the same files."""

import json
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

import main
from semvad_jax import config
from semvad_jax.files import BadInput, write
from semvad_jax.metrics import MetricName
from semvad_jax.report import findings
from semvad_jax.report.summary import Summary, read_summary, write_summary
from semvad_jax.seeds import for_device
from semvad_jax.statistics import variance_split
from semvad_jax.studies import numbers, results
from semvad_jax.studies.numbers import Difference, Line, Measured, StudyFile
from semvad_jax.studies.study import Figure
from tests.support.command_line import refused

HEADS = {"binary": (0.8, 0.9), "class": (0.85, 0.88)}


def run(folder, name="demo", overrides=(), store="demo", seeds=(9, 234)):
    """A finished run's files, from made-up values."""
    cfg = config.load(name, [*overrides, f"data.store={store}"])
    metrics = {
        MetricName(selection, head, "auc"): findings.spread([x + more for x in values])
        for selection, more in (("last", 0.0), ("val", 0.01), ("test", 0.05))
        for head, values in HEADS.items()
    }
    metrics |= {MetricName("last", "class", m): findings.spread([0.1, 0.2]) for m in ("map",)}
    facts = {"config": name, "model": cfg.model.name, "dataset": "demo", "device": "a processor"}
    times = {"steps": 99, "wall_seconds": 4321.0, "train_seconds": 1234.0}
    pairs = {"weight_seeds": list(seeds), "data_seeds": list(seeds)}
    folder.mkdir(parents=True)
    write_summary(folder / "summary.json", Summary(**facts, **times, **pairs, metrics=metrics))
    write(folder / "config.json", config.to_json(for_device(cfg)))
    rows = [
        {"step": step, "val/binary/auc": 0.1 + step, "val/class/auc": 0.2 + step, "loss": 1.0}
        for step in (1, 2)
    ]
    write(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return folder


def measured(*values, interval=(0.7, 0.9)):
    spread = findings.spread(values)
    return Measured(spread.mean, spread.sd, spread.best, list(values), interval)


def line(row, values, label="demo", **fields):
    """A line of a study, last step and test by the binary head."""
    metrics = {
        "last/binary/auc": measured(*values),
        "test/binary/auc": measured(*(x + 0.05 for x in values)),
    }
    return Line(
        data=label,
        row=row,
        label=row.upper(),
        paper_per_cent={"auc": Figure(86.26, 0.918, 88.02)},
        run=f"runs/studies/runs/{label}-{row}-0123456789ab",
        store=label,
        inputs_not_the_papers=["data set demo"],
        weight_seeds=[9, 234],
        data_seeds=[9, 234],
        metrics=metrics,
        selection_optimism={"binary/auc": Difference(0.05, (0.04, 0.06))},
        selected_by="binary",
        **fields,
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What a user has: two studies, a run of theirs, and two runs of the user's."""
    monkeypatch.chdir(tmp_path)
    theirs = Line(
        data="demo", row="theirs", label="Theirs", paper_per_cent={"auc": Figure(75.58, 0.77)}
    )
    for name in ("table2", "table10"):
        study = StudyFile(
            study=name,
            title=f"{name}: a title",
            set=[],
            rows=[theirs, line("a", (0.8, 0.82)), line("b", (0.7, 0.74))],
            command=f"python main.py --study {name} --data demo={tmp_path}/demo",
            note="A note.",
        )
        (tmp_path / "runs" / "studies" / name).mkdir(parents=True)
        numbers.write_numbers(tmp_path / "runs" / "studies" / name / "study.json", study)
    run(tmp_path / "runs" / "studies" / "runs" / "demo-a-0123456789ab")
    run(tmp_path / "runs" / "demo")
    run(tmp_path / "runs" / "mine", overrides=["model.name=mil", "train.lr=0.5"], store="x/mine")
    return Path("runs")


def test_studies_then_runs_each_with_its_command(folder):
    text = results.markdown(folder)
    order = ["# Results", "## Studies", "### table2", "### table10", "## Runs", "### runs/demo"]
    order += ["### runs/mine"]
    places = [text.index(f"\n{part}" if part != "# Results" else part) for part in order]
    assert places == sorted(places)
    assert "python main.py --study table10 --data demo=demo\n" in text
    assert "```\npython main.py --config demo --vmap-seeds 2\n```" in text
    assert (
        "python main.py --config demo --vmap-seeds 2 --model mil --data x/mine "
        "--set train.lr=0.5 --out runs/mine\n" in text
    )
    assert text.count("### ") == 4  # the study's run has no part of its own


def test_a_studys_table(folder):
    text = results.markdown(folder)
    assert "**demo = `demo`**" in text and "frame AUC, binary head; n = 2 seeds" in text
    assert "|  | last step | ± t | *test, optimistic* | the paper |\n" in text
    assert "| Theirs | – | – | – | 75.58 ± 0.77\\* |" in text
    assert "| A | 81.00 ± 1.41 | 10.00 | 86.00 ± 1.41 | 86.26 ± 0.918\\* |" in text
    assert "| B | 72.00 ± 2.83 | 10.00 | 77.00 ± 2.83 | 86.26 ± 0.918\\* |" in text
    assert "| A | 82.00 | 87.00 | 88.02\\* |" in text  # the best seed
    assert "| A | +5.00 | +4.00 to +6.00 |" in text
    assert "weights selected by the binary head" in text and "A note." in text
    assert "other inputs; here: data set demo" in text


def test_a_runs_table(folder):
    part = results.markdown(folder).partition("### runs/demo\n")[2].partition("### ")[0]
    assert "semvad on demo, 2 seeds; 99 steps; on a processor." in part
    assert "| weights | head | AUC | mAP, public rules |" in part
    assert "| last step | binary | 85.00 ± 7.07 (90.00) |  |" in part
    assert (
        "| last step | class (chosen on val) | 86.50 ± 2.12 (88.00) | 15.00 ± 7.07 (20.00) |"
        in part
    )
    assert "| *test, optimistic* | binary | 90.00 ± 7.07 (95.00) |  |" in part
    assert "| binary | +4.00 | " in part


def test_what_real_time_costs(folder, tmp_path):
    assert "In real time" not in results.markdown(folder)
    for name, lookaheads in (("demo", (16, 0, "all")), ("mine", (0, "all"))):
        of_run = tmp_path / "runs" / name
        summary = read_summary(of_run / "summary.json")
        metrics = {
            MetricName("last", "binary", metric): findings.spread([0.7, 0.8])
            for metric in ("auc", "ap")
        }
        for lookahead in lookaheads:
            shown = metrics if lookahead == 0 else {n: findings.spread([0.9] * 2) for n in metrics}
            write_summary(
                of_run / f"eval-lookahead-{lookahead}.json", replace(summary, metrics=shown)
            )
    text = results.markdown(folder)
    part = text.partition("\n## In real time\n")[2]
    assert "python main.py --restore runs/demo --eval --lookahead 0 16 all\n" in part
    assert part.count("| run | head | weights | 0 | 16 | all |") == 2
    assert "| runs/demo | binary | last step | 75.00 ± 7.07 | 90.00 ± 0.00 | 90.00 ± 0.00 |" in part
    assert "| runs/mine | binary | last step | 75.00 ± 7.07 | – | 90.00 ± 0.00 |" in part


def scorer_json(place, scorer, store, dataset, answers=(0, 0), **more):
    """What --scorer writes, from made-up values."""
    metrics = {"last/binary/auc": [0.634, [0.5399, 0.7257]], "last/binary/ap": [0.2, [0.1, 0.3]]}
    asked, unread = answers
    contents = {
        "scorer": scorer,
        "store": str(store),
        "dataset": dataset,
        "unjudged": None,
        "answers": {"asked": asked, "not read": unread},
        "metrics": {n: {"value": v, "interval": ends} for n, (v, ends) in metrics.items()},
    }
    place.mkdir(parents=True)
    write(place / "scorer.json", json.dumps(contents | more))


def test_what_training_free_systems_are_worth(folder, tmp_path):
    assert "Training-free" not in results.markdown(folder)
    of_runs, model = tmp_path / "runs", {"model": "tiny; nearest by caption to caption"}
    told = {"judged": "290 test videos; 5 of 9 frames anomalous"}
    others = {"inputs_not_the_papers": ["data set demo", "text minilm-l6"]}
    scorer_json(of_runs / "scorers/ucf-similarity", "similarity", "features/ucf", "ucf", **told)
    more = told | model | others
    scorer_json(of_runs / "x", "lavad", "features/ucf", "ucf", (1000, 12), **more)
    scorer_json(of_runs / "scorers/xd-mine", "mine", tmp_path / "features/xd", "xd", model="a | b")
    part = results.markdown(folder).partition("\n## Training-free\n")[2]
    assert (
        "```\npython main.py --scorer similarity --data features/ucf\n"
        "python main.py --scorer mine --data features/xd\n"
        "python main.py --scorer lavad --data features/ucf --out runs/x\n```" in part
    )
    ucf, xd = part.split("**ucf = `features/ucf`**: 290 test videos; 5 of 9")[1].split("**xd = ")
    assert "|  | model | AUC | AP | published |\n" in ucf
    figures = "63.40 (53.99 to 72.57) | 20.00 (10.00 to 30.00)"
    assert f"| similarity | not told | {figures} | – |" in ucf
    assert f"| LAVAD | tiny; nearest by caption to caption | {figures} | AUC 80.28\\* |" in ucf
    assert "| AnomalyRuler | *not run* | – | – | – |" in ucf
    assert "| VLM asked for a score | *not run* | – | – | – |" in ucf
    assert "LAVAD: 12 of 1,000 answers could not be read and were interpolated." in ucf
    assert "Llama 2 13B read; here: data set demo, text minilm-l6." in ucf
    assert "similarity: " not in ucf  # it asks nobody
    assert "| similarity | *not run* |" in xd
    assert "| LAVAD | *not run* | – | – | AUC 85.36, AP (trapezoid) 62.01\\* |" in xd
    assert f"| mine | a \\| b | {figures} | – |" in xd and "here:" not in xd
    assert str(tmp_path) not in part
    (of_runs / "x" / "scorer.json").write_text("{}")
    with pytest.raises(BadInput, match="x/scorer.json is no judgement of a scorer; run --scorer"):
        results.markdown(folder)


def test_nothing_but_the_files_is_in_it(folder, tmp_path):
    text = results.markdown(folder)
    assert str(tmp_path) not in text and "4321" not in text and "1234" not in text
    for path in tmp_path.rglob("*"):
        os.utime(path, (0, 0))
    assert results.markdown(folder) == text
    assert results.markdown(tmp_path / "runs") == text  # an absolute path is told from here


def test_a_grid_of_seeds_and_one_seed_after_another(folder, tmp_path):
    values = (0.7, 0.8, 0.75, 0.9)
    grid = line("semvad", values, sd_from={"last": variance_split(np.reshape(values, (2, 2)))})
    pairs = {"weight_seeds": [9, 9, 234, 234], "data_seeds": [9, 234, 9, 234]}
    grid = msgspec.structs.replace(grid, **pairs)
    written = StudyFile(study="figure6a", title="Figure 6a", set=[], rows=[grid])
    (tmp_path / "runs" / "figure6a").mkdir()
    numbers.write_numbers(tmp_path / "runs" / "figure6a" / "study.json", written)
    each = StudyFile(
        study="figure6b", title="Figure 6b", set=[], rows=[line("a", (0.8, 0.82))], each_seed=True
    )
    (tmp_path / "runs" / "figure6b").mkdir()
    numbers.write_numbers(tmp_path / "runs" / "figure6b" / "study.json", each)
    text = results.markdown(folder)
    assert "| weight seed ╲ data seed | 9 | 234 |" in text and "n = 4 pairs of seeds" in text
    assert "| 9 | 70.00 | 80.00 |\n| 234 | 75.00 | 90.00 |" in text
    split = variance_split(np.reshape(values, (2, 2)))
    assert f"| weight seed | {100 * split['weight seed']:.2f} |" in text
    assert "| 9, 9 | 80.00 | 85.00 |\n| 234, 234 | 82.00 | 87.00 |" in text


def test_stores_that_are_compared_are_one_table(folder, tmp_path):
    rows = [line("a", (0.8, 0.82), "5"), line("a", (0.7, 0.74), "10")]
    study = StudyFile(study="table1", title="Table 1", set=[], rows=rows, by_label=True)
    (tmp_path / "runs" / "table1").mkdir()
    numbers.write_numbers(tmp_path / "runs" / "table1" / "study.json", study)
    part = results.markdown(folder).partition("### Table 1")[2].partition("### ")[0]
    assert "**5 = `5`, 10 = `10`**" in part and part.count("frame AUC") == 1
    assert "python main.py --study table1\n" in part  # a file of before says no more


def test_captions_and_times(folder, tmp_path):
    comparison = {
        "same": 0.23,
        "other": 0.219,
        "difference": 0.011,
        "difference_interval": [0.005, 0.017],
        "nearer": 0.529,
        "videos": 286,
        "sentences": 1954,
    }
    counts = dict.fromkeys(("reversed", "cut", "left_out", "whole_video", "other_duration"), 0)
    counts |= {"test_videos": 290, "videos": 286, "sentences": 1961}
    found = {"all": {"another moment": comparison, "another video": None}}
    row = {"data": "ucf", "store": "features/ucf", "counts": counts, "encoders": {"e": found}}
    study = {"study": "table4", "title": "Table 4", "paper": 0.77, "pairs": [], "rows": [row]}
    times = {"study": "runtime", "title": "Tables 5 to 7", "rows": [], "together": {"fps": 123.0}}
    for contents in (study | {"sentences": "UCA"}, times):
        at = tmp_path / "runs" / contents["study"]
        at.mkdir()
        write(at / "study.json", json.dumps(contents))
    text = results.markdown(folder)
    assert "python main.py --study table4 --data ucf=features/ucf sentences=UCA\n" in text
    assert "| another moment | 0.230 | 0.219 | +0.011 ± 0.006 | 52.9 | 286 | 1954 |" in text
    assert "| another video | – | – | – | – | – | – |" in text
    assert "286 of 290 test videos" in text and "The paper has 0.77" in text
    assert "python main.py --study runtime\n" in text and "123" not in text


def test_commands_with_everything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(
        tmp_path / "runs" / "x",
        overrides=[
            "train.protocol=reload_best",
            "model.preset=release",
            "data.shuffle_labels=true",
        ],
        seeds=(9, 1),
    )
    text = results.markdown(Path("runs"))
    assert (
        "python main.py --config demo --seeds 9,1 --set model.preset=release "
        "--set train.protocol=reload_best --set data.shuffle_labels=True --out runs/x\n" in text
    )


def test_mistakes_end_in_one_sentence(folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "neither runs nor studies" in refused(capsys, ["--results", "empty"])
    with pytest.raises(SystemExit) as ended:
        main.main(["--results", "runs", "--data", "demo"])
    assert ended.value.code == 2 and "nothing else" in capsys.readouterr().err
    (tmp_path / "runs" / "demo" / "summary.json").write_text("{")
    assert "summary.json is no summary" in refused(capsys, ["--results", "runs"])
    (tmp_path / "runs" / "studies" / "table2" / "study.json").write_text("[]")
    with pytest.raises(BadInput, match="is no result of a study"):
        results.markdown(folder)


def test_the_command_prints_it(folder, capsys):
    main.main(["--results", "runs"])
    assert capsys.readouterr().out == results.markdown(folder)
